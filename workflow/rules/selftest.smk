# The grader on each benchmark's own reference answers, before anything is trained. Light, local, one job a benchmark.
#
# in:  the problems; how they are graded
# out: a manifest with counts, which every student waits for; a benchmark that fails stops the run


localrules:
    selftest,


rule selftest:
    """Test the grader on the reference answers of {wildcards.benchmark}."""
    input:
        problems=ancient(f"{RESULTS}/problems/{{benchmark}}/problems.jsonl"),
        manifest=f"{RESULTS}/problems/{{benchmark}}/manifest.json",
    output:
        f"{RESULTS}/selftest/{{benchmark}}/manifest.json",
    log:
        f"{LOGS}/selftest/{{benchmark}}.log",
    conda:
        "../../envs/cpu.yaml"
    params:
        spec=selftest_spec,
    shell:
        "python -m gapgrid.selftest --spec {params.spec:q} {input.problems} {output} > {log} 2>&1"

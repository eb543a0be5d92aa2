# The grader on each benchmark's own reference answers, before anything is trained. Light, local,
# one job a benchmark.
#
# in:  the problems; how they are graded
# out: a manifest with counts, which every student waits for; a benchmark that fails stops the run


localrules:
    selftest,


rule selftest:
    """Test the grader on the reference answers of {wildcards.benchmark}."""
    input:
        problems=ancient(result("problems", "problems.jsonl")),
        manifest=result("problems"),
    output:
        result("selftest"),
    log:
        log_of("selftest"),
    conda:
        "../../envs/cpu.yaml"
    params:
        spec=spec_of("selftest"),
    shell:
        "python -m gapgrid.stages.selftest --spec {params.spec:q}"
        " {input.problems} {output} > {log} 2>&1"

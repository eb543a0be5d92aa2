# The rule step: a cell's answers out of its store, graded by rules. Light, local, one job a cell.
#
# in:  what decides the cell's answers (student, request, problems); how they are graded; the stamp has to be there
# out: samples.jsonl, graded.jsonl, pending.jsonl (answers that no rule accepted), a manifest


localrules:
    grade,


rule grade:
    """Grade {wildcards.benchmark} by rules for {wildcards.model}, {wildcards.mix}, seed {wildcards.seed}."""
    input:
        train=f"{RESULTS}/train/{TRAINING_CELL}/manifest.json",
        stamp=ancient(f"{RESULTS}/evaluate/{TRAINING_CELL}/manifest.json"),
        request=f"{RESULTS}/requests/{CELL}.spec",
        problems=ancient(f"{RESULTS}/problems/{{benchmark}}/problems.jsonl"),
        problems_manifest=f"{RESULTS}/problems/{{benchmark}}/manifest.json",
    output:
        samples=f"{RESULTS}/grade/{CELL}/samples.jsonl",
        graded=f"{RESULTS}/grade/{CELL}/graded.jsonl",
        pending=f"{RESULTS}/grade/{CELL}/pending.jsonl",
        manifest=f"{RESULTS}/grade/{CELL}/manifest.json",
    log:
        f"{LOGS}/grade/{CELL}.log",
    conda:
        "../../envs/cpu.yaml"
    params:
        spec=grade_spec,
    shell:
        "python -m gapgrid.grade --spec {params.spec:q} {input.train} {input.stamp} {input.request} {input.problems} {input.problems_manifest} {output.manifest} > {log} 2>&1"

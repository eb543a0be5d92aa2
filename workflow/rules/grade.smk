# The rule step: a cell's answers out of its store, graded by rules. Light, local, one job a cell.
#
# in:  what decides the cell's answers (student, request, problems); how they are graded; the batch
#      manifest of evaluate
# out: samples.jsonl, graded.jsonl, pending.jsonl (answers that no rule accepted), a manifest


localrules:
    grade,


rule grade:
    """Grade a cell's answers by rules."""
    input:
        train=result("train"),
        answered=ancient(result("evaluate")),
        request=result("request"),
        problems=ancient(result("problems", "problems.jsonl")),
        problems_manifest=result("problems"),
    output:
        samples=result("grade", "samples.jsonl"),
        graded=result("grade", "graded.jsonl"),
        pending=result("grade", "pending.jsonl"),
        manifest=result("grade"),
    log:
        log_of("grade"),
    conda:
        "../../envs/cpu.yaml"
    params:
        spec=spec_of("grade"),
    shell:
        "python -m gapgrid.stages.grade --spec {params.spec:q}"
        " {input.train} {input.answered} {input.request}"
        " {input.problems} {input.problems_manifest} {output.manifest} > {log} 2>&1"

# A cell's score: its rows with the verdicts of rules and judge. Light, local, one job a cell.
#
# in:  the cell's graded rows; who judges, and with which prompt; the batch manifest of judge
# out: verdicts.jsonl, score.json, a manifest


localrules:
    score,


rule score:
    """Score {wildcards.benchmark} for {wildcards.model}, {wildcards.mix}, seed {wildcards.seed}."""
    input:
        grade=result("grade"),
        judged=ancient(result("judge")),
        prompt=judge_prompt,
    output:
        verdicts=result("score", "verdicts.jsonl"),
        score=result("score", "score.json"),
        manifest=result("score"),
    log:
        log_of("score"),
    conda:
        "../../envs/cpu.yaml"
    params:
        spec=spec_of("score"),
    shell:
        "python -m gapgrid.stages.score --spec {params.spec:q}"
        " --prompt {input.prompt}"
        " -- {input.grade} {input.judged} {output.manifest} > {log} 2>&1"

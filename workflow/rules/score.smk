# A cell's score: its rows with the verdicts of rules and judge. Light, local, one job a cell.
#
# in:  the cell's graded rows; who judges, and with which prompt; the stamp has to be there
# out: verdicts.jsonl, score.json, a manifest


localrules:
    score,


rule score:
    """Score {wildcards.benchmark} for {wildcards.model}, {wildcards.mix}, seed {wildcards.seed}."""
    input:
        grade=f"{RESULTS}/grade/{CELL}/manifest.json",
        stamp=ancient(f"{RESULTS}/judge/round.json"),
        prompt=judge_prompt,
    output:
        verdicts=f"{RESULTS}/score/{CELL}/verdicts.jsonl",
        score=f"{RESULTS}/score/{CELL}/score.json",
        manifest=f"{RESULTS}/score/{CELL}/manifest.json",
    log:
        f"{LOGS}/score/{CELL}.log",
    conda:
        "../../envs/cpu.yaml"
    params:
        spec=score_spec,
    shell:
        "python -m gapgrid.score --spec {params.spec:q} --cell {wildcards.model} {wildcards.mix} {wildcards.seed} {wildcards.benchmark} --prompt {input.prompt} -- {input.grade} {input.stamp} {output.manifest} > {log} 2>&1"

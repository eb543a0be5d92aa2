# The judge: every answer of the grid that rules leave open and the ledger lacks, in one load.
#
# in:  every cell's graded answers; who judges, and with which prompt
# out: a stamp. The verdicts go into judge/verdicts.sqlite, which no rule declares and every run adds to.


rule judge:
    """Judge what rules leave open, each unique pair once."""
    input:
        grades=expand(f"{RESULTS}/grade/{{cell}}/manifest.json", cell=CELL_PATHS),
        prompt=judge_prompt,
        hub=ancient(fetched_judge),
    output:
        f"{RESULTS}/judge/round.json",
    log:
        f"{LOGS}/judge.log",
    benchmark:
        f"{TIMES}/judge.tsv"
    # A judge on a server, or none, is light work for the machine that plans; one in the job asks for its size.
    localrule: GRID["judge"]["backend"] not in ("hf", "vllm")
    conda:
        "../../envs/cpu.yaml"
    threads: judge_hardware("cpus")
    resources:
        gpu=judge_hardware("gpus"),
        mem_mb=judge_hardware("mem_mb"),
        runtime=judge_hardware("runtime"),
        judge_url=judge_url,
    params:
        spec=judge_spec,
    shell:
        "$HEAVY_PYTHON -m gapgrid.judge --spec {params.spec:q} --threads {threads} --gpus {resources.gpu} --base-url {resources.judge_url} --prompt {input.prompt} -- {output} {input.grades} > {log} 2>&1"

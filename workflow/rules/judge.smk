# The judge: every pending pair of the grid that the ledger lacks, in one load.
#
# in:  pending.jsonl of every cell; who judges, and with which prompt
# out: a stamp. The verdicts go into judge/verdicts.sqlite, which no rule declares and every run adds to.


rule judge:
    """Judge what no rule accepted, each unique pair once."""
    input:
        pending=expand(f"{RESULTS}/grade/{{cell}}/pending.jsonl", cell=CELL_PATHS),
        prompt=ancient(judge_prompt),
        spec=f"{RESULTS}/specs/judge/judge.spec",
    output:
        f"{RESULTS}/judge/round.json",
    log:
        f"{LOGS}/judge.log",
    benchmark:
        f"{TIMES}/judge.tsv"
    # A judge on a server, or none, is light work for the machine that plans; one in the job asks for its size.
    localrule: GRID["judge"]["backend"] != "hf"
    conda:
        "../../envs/cpu.yaml"
    threads: judge_hardware("cpus")
    resources:
        gpu=judge_hardware("gpus"),
        mem_mb=judge_hardware("mem_mb"),
        runtime=judge_hardware("runtime"),
        judge_url=judge_url,
    shell:
        "python -m gapgrid.judge --spec-file {input.spec} --threads {threads} --base-url {resources.judge_url} --prompt {input.prompt} -- {output} {input.pending} > {log} 2>&1"

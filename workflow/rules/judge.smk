# The judge: every answer of the grid that rules leave open and the ledger lacks, in one load.
#
# in:  every cell's graded answers; who judges, and with which prompt
# out: a batch manifest. The verdicts go into judge/verdicts.sqlite, which no rule declares and
#      every run adds to.


rule judge:
    """Judge what rules leave open, each unique pair once."""
    input:
        grades=results("grade", CELLS),
        prompt=judge_prompt,
        hub=ancient(fetched("judge")),
    output:
        result("judge"),
    log:
        log_of("judge"),
    benchmark:
        times_of("judge")
    # A judge on a server, or none, is light work for the machine that plans; one in the job asks
    # for its size.
    localrule: GRID["judge"]["backend"] not in specs.LOADING_BACKENDS
    conda:
        "../../envs/cpu.yaml"
    threads: judge_hardware("cpus")
    resources:
        gpu=judge_hardware("gpus"),
        mem_mb=judge_hardware("mem_mb"),
        runtime=judge_hardware("runtime"),
        # Where the judge's server is decides nothing about a verdict.
        judge_url=GRID["judge"].get("base_url", "none"),
    params:
        spec=spec_of("judge"),
    shell:
        '"$HEAVY_PYTHON" -m gapgrid.stages.judge --spec {params.spec:q}'
        " --threads {threads} --gpus {resources.gpu} --base-url {resources.judge_url}"
        " --prompt {input.prompt} -- {output} {input.grades} > {log} 2>&1"

# Answering: one job per training cell, all its benchmarks in one load of the student.
#
# in:  the student's manifest; per benchmark a request, the lm-eval task, the problems
# out: a stamp. The answers go into responses/, a store that no rule declares and every run adds to.
#
# A request is a small file per cell, two lines: how the benchmark is asked, as JSON, and the task file's digest.
# A new or changed one is newer than the stamp and asks for the job, one that is gone asks for nothing.


localrules:
    request,


rule request:
    """Write down how {wildcards.benchmark} is asked."""
    input:
        task_file,
    output:
        f"{RESULTS}/requests/{CELL}.spec",
    log:
        f"{LOGS}/request/{CELL}.log",
    conda:
        "../../envs/cpu.yaml"
    params:
        spec=request_spec,
    shell:
        "(printf '%s\\n' {params.spec:q}; cat {input} | sha256sum) > {output}.part 2> {log} && mv {output}.part {output}"


rule evaluate:
    """Let {wildcards.model} trained on {wildcards.mix}, seed {wildcards.seed}, answer its benchmarks."""
    input:
        model=ancient(f"{RESULTS}/train/{TRAINING_CELL}/model"),
        base=ancient(base_of("model")),
        train=f"{RESULTS}/train/{TRAINING_CELL}/manifest.json",
        requests=requests_of(f"{RESULTS}/requests/{CELL}.spec"),
        tasks=ancient(tasks_of),
        problems=ancient(requests_of(f"{RESULTS}/problems/{{benchmark}}/problems.jsonl")),
        manifests=requests_of(f"{RESULTS}/problems/{{benchmark}}/manifest.json"),
        tested=ancient(requests_of(f"{RESULTS}/selftest/{{benchmark}}/manifest.json")),
    output:
        f"{RESULTS}/evaluate/{TRAINING_CELL}/manifest.json",
    log:
        f"{LOGS}/evaluate/{TRAINING_CELL}.log",
    benchmark:
        f"{TIMES}/evaluate/{TRAINING_CELL}.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: hardware("cpus")
    resources:
        gpu=hardware("gpus"),
        mem_mb=growing("mem_mb"),
        runtime=growing("runtime"),
        tensor_parallel=tensor_parallel,
    params:
        spec=evaluate_spec,
    shell:
        "$HEAVY_PYTHON -m gapgrid.evaluate --spec {params.spec:q} --threads {threads} --gpus {resources.gpu} --tensor-parallel {resources.tensor_parallel} --base {input.base} {input.model} {input.train} {output} --requests {input.requests} --tasks {input.tasks} --problems {input.problems} > {log} 2>&1"

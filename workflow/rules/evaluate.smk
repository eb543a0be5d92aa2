# Answering: one job per training cell, all its benchmarks in one load of the student.
#
# in:  the student's manifest; per benchmark a request, the lm-eval task, the problems
# out: a batch manifest. The answers go into responses/, a store that no rule declares and every run
#      adds to.
#
# A request is a small file per cell, two lines: how the benchmark is prompted, as JSON, and the task
# file's digest. A new or changed one is newer than the batch manifest and asks for the job, one
# that is gone asks for nothing.


localrules:
    request,


rule request:
    """Write down how {wildcards.benchmark} is prompted."""
    input:
        task_file,
    output:
        result("request"),
    log:
        log_of("request"),
    conda:
        "../../envs/cpu.yaml"
    params:
        spec=spec_of("request"),
    shell:
        "(printf '%s\\n' {params.spec:q}; cat {input} | sha256sum) > {output}.part 2> {log}"
        " && mv {output}.part {output}"


rule evaluate:
    """Generate the answers of {wildcards.model}, {wildcards.mix}, seed {wildcards.seed}."""
    input:
        model=ancient(result("train", "model")),
        base=ancient(of_base("model")),
        train=result("train"),
        requests=of_benchmarks("request"),
        tasks=ancient(task_files),
        problems=ancient(of_benchmarks("problems", "problems.jsonl")),
        manifests=of_benchmarks("problems"),
        tested=ancient(of_benchmarks("selftest")),
    output:
        result("evaluate"),
    log:
        log_of("evaluate"),
    benchmark:
        times_of("evaluate")
    conda:
        "../../envs/cpu.yaml"
    threads: hardware("cpus")
    resources:
        gpu=hardware("gpus"),
        mem_mb=growing("mem_mb"),
        runtime=growing("runtime"),
        tensor_parallel=tensor_parallel,
    params:
        spec=spec_of("evaluate"),
    shell:
        '"$HEAVY_PYTHON" -m gapgrid.stages.evaluate --spec {params.spec:q}'
        " --threads {threads} --gpus {resources.gpu} --tensor-parallel {resources.tensor_parallel}"
        " --base {input.base} {input.model} {input.train} {output}"
        " --requests {input.requests}"
        " --tasks {input.tasks}"
        " --problems {input.problems} > {log} 2>&1"

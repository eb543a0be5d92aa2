# Students: before SFT (mix none), and fine-tuned on each mix with each seed.
#
# in:  the student before SFT; a mix's digest (tracked) and rows
# out: model/, metrics.jsonl, a manifest. Resumable states live in scratch/, which no rule declares.

# No student is made before the grader has passed on every benchmark of the grid.
GRADERS_TESTED = results("selftest", jobs.STAGES["selftest"].jobs(GRID))


rule base:
    """Put {wildcards.model} before SFT in place, seed {wildcards.seed}."""
    input:
        tokenizer=of_tiny("tokenizer", "tokenizer.json"),
        corpus=ancient(of_tiny("source", "rows.jsonl")),
        manifest=of_tiny("source", ""),
        hub=ancient(fetched("models")),
        tested=ancient(GRADERS_TESTED),
    output:
        model=directory(result("base", "model")),
        metrics=result("base", "metrics.jsonl"),
        manifest=result("base"),
    log:
        log_of("base"),
    benchmark:
        times_of("base")
    conda:
        "../../envs/cpu.yaml"
    threads: pretraining("cpus", 1)
    resources:
        gpu=pretraining("gpus", 0),
        mem_mb=pretraining("mem_mb", 4000),
        runtime=pretraining("runtime", 60),
        micro_batch=hardware("micro_batch"),
    params:
        spec=spec_of("base"),
    shell:
        '"$HEAVY_PYTHON" -m gapgrid.stages.base --spec {params.spec:q}'
        " --threads {threads} --gpus {resources.gpu} --micro-batch {resources.micro_batch}"
        " --tokenizer {input.tokenizer} --corpus {input.corpus}"
        " -- {output.model} {output.manifest} > {log} 2>&1"


rule train:
    """Fine-tune {wildcards.model} on {wildcards.mix}, seed {wildcards.seed}."""
    input:
        base=ancient(of_base("model")),
        base_manifest=of_base(),
        data=ancient(mix_of("train.jsonl")),
        digest=mix_of("train.sha256"),
        hub=ancient(fetched("adopted")),
        tested=ancient(GRADERS_TESTED),
    output:
        model=directory(result("train", "model")),
        metrics=result("train", "metrics.jsonl"),
        manifest=result("train"),
    log:
        log_of("train"),
    benchmark:
        times_of("train")
    wildcard_constraints:
        mix=one_of(GRID["mixes"]),
    conda:
        "../../envs/cpu.yaml"
    threads: hardware("cpus")
    resources:
        gpu=gpus_of_all_nodes,
        mem_mb=growing("mem_mb"),
        runtime=growing("runtime"),
        micro_batch=hardware("micro_batch"),
        tokens_per_device=hardware("tokens_per_device", 0),
        zero=hardware("zero", 0),
        nodes=hardware("nodes", 1),
        mpi=srun_on_several_nodes,
        report_to=GRID.get("report_to", "none"),
    params:
        spec=spec_of("train"),
    shell:
        '"$HEAVY_PYTHON" -m gapgrid.stages.train --spec {params.spec:q}'
        " --threads {threads} --gpus {resources.gpu} --nodes {resources.nodes}"
        " --micro-batch {resources.micro_batch} --tokens-per-device {resources.tokens_per_device}"
        " --zero {resources.zero} --report-to {resources.report_to}"
        " {input.base} {input.base_manifest} {input.data}"
        " {output.model} {output.manifest} > {log} 2>&1"

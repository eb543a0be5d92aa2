# Students: untouched (mix none), and fine-tuned on each mix with each seed.
#
# in:  the untouched student; a mix's digest (tracked) and rows
# out: model/, metrics.jsonl, a manifest. Resumable states live in scratch/, which no rule declares.


rule base:
    """Put the untouched {wildcards.model} in place, seed {wildcards.seed}."""
    input:
        tokenizer=base_inputs("tokenizer"),
        corpus=ancient(base_inputs("corpus")),
        manifest=base_inputs("manifest"),
        hub=ancient(fetched_student),
        tested=ancient(graders_tested),
    output:
        model=directory(f"{RESULTS}/train/{{model}}/none/{{seed}}/model"),
        metrics=f"{RESULTS}/train/{{model}}/none/{{seed}}/metrics.jsonl",
        manifest=f"{RESULTS}/train/{{model}}/none/{{seed}}/manifest.json",
    log:
        f"{LOGS}/base/{{model}}/{{seed}}.log",
    benchmark:
        f"{TIMES}/base/{{model}}/{{seed}}.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: pretraining("cpus", 1)
    resources:
        gpu=pretraining("gpus", 0),
        mem_mb=pretraining("mem_mb", 4000),
        runtime=pretraining("runtime", 60),
        micro_batch=hardware("micro_batch"),
    params:
        spec=base_spec,
    shell:
        "$HEAVY_PYTHON -m gapgrid.base --spec {params.spec:q} --threads {threads} --gpus {resources.gpu} --micro-batch {resources.micro_batch} --tokenizer {input.tokenizer} --corpus {input.corpus} -- {output.model} {output.manifest} > {log} 2>&1"


rule train:
    """Fine-tune {wildcards.model} on {wildcards.mix}, seed {wildcards.seed}."""
    input:
        base=ancient(base_of("model")),
        base_manifest=base_of("manifest.json"),
        data=ancient(mix_data),
        digest=mix_digest,
        hub=ancient(fetched_checkpoint),
        tested=ancient(graders_tested),
    output:
        model=directory(f"{RESULTS}/train/{TRAINING_CELL}/model"),
        metrics=f"{RESULTS}/train/{TRAINING_CELL}/metrics.jsonl",
        manifest=f"{RESULTS}/train/{TRAINING_CELL}/manifest.json",
    log:
        f"{LOGS}/train/{TRAINING_CELL}.log",
    benchmark:
        f"{TIMES}/train/{TRAINING_CELL}.tsv"
    wildcard_constraints:
        mix=one_of(GRID["mixes"]),
    conda:
        "../../envs/cpu.yaml"
    threads: hardware("cpus")
    resources:
        gpu=all_cards,
        mem_mb=growing("mem_mb"),
        runtime=growing("runtime"),
        micro_batch=hardware("micro_batch"),
        tokens_per_device=hardware("tokens_per_device", 0),
        zero=hardware("zero", 0),
        nodes=hardware("nodes", 1),
        mpi=across_machines,
        report_to=GRID.get("report_to", "none"),
    params:
        spec=train_spec,
    shell:
        "$HEAVY_PYTHON -m gapgrid.train --spec {params.spec:q} --threads {threads} --gpus {resources.gpu} --micro-batch {resources.micro_batch} --tokens-per-device {resources.tokens_per_device} --nodes {resources.nodes} --zero {resources.zero} --report-to {resources.report_to} {input.base} {input.base_manifest} {input.data} {output.model} {output.manifest} > {log} 2>&1"

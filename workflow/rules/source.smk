# Data in: the tokenizer that counts, training rows by source, problems by benchmark.
#
# in:  a generator, a local file or the hub, as config says
# out: tokenizer/  sources/{source}/rows.jsonl  problems/{benchmark}/problems.jsonl, a manifest
#      beside each


localrules:
    tokenizer,
    source,
    problems,


rule tokenizer:
    """Put the counting tokenizer in place."""
    output:
        tokenizer=result("tokenizer", "tokenizer.json"),
        config=result("tokenizer", "tokenizer_config.json"),
        manifest=result("tokenizer"),
    log:
        log_of("tokenizer"),
    conda:
        "../../envs/cpu.yaml"
    params:
        spec=spec_of("tokenizer"),
    shell:
        "python -m gapgrid.stages.tokenizer --spec {params.spec:q} {output.manifest} > {log} 2>&1"


rule source:
    """Bring the rows of {wildcards.source} into one shape."""
    input:
        source_file,
    output:
        rows=result("source", "rows.jsonl"),
        manifest=result("source"),
    log:
        log_of("source"),
    conda:
        "../../envs/cpu.yaml"
    params:
        spec=spec_of("source"),
    shell:
        "python -m gapgrid.stages.source --spec {params.spec:q}"
        " {output.rows} {output.manifest} > {log} 2>&1"


rule problems:
    """Bring the problems of {wildcards.benchmark} into one file and count them."""
    input:
        problems_file,
    output:
        problems=result("problems", "problems.jsonl"),
        manifest=result("problems"),
    log:
        log_of("problems"),
    conda:
        "../../envs/cpu.yaml"
    params:
        spec=spec_of("problems"),
    shell:
        "python -m gapgrid.stages.problems --spec {params.spec:q}"
        " {output.problems} {output.manifest} > {log} 2>&1"

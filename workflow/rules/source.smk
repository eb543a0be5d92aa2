# Data in: the tokenizer that counts, training rows by source, problems by benchmark.
#
# in:  a generator, a local file or the hub, as config says
# out: tokenizer/  sources/{source}/rows.jsonl  problems/{benchmark}/problems.jsonl, a manifest beside each


localrules:
    tokenizer,
    source,
    problems,


rule tokenizer:
    """Put the counting tokenizer in place."""
    output:
        tokenizer=f"{RESULTS}/tokenizer/tokenizer.json",
        config=f"{RESULTS}/tokenizer/tokenizer_config.json",
        manifest=f"{RESULTS}/tokenizer/manifest.json",
    log:
        f"{LOGS}/tokenizer.log",
    conda:
        "../../envs/cpu.yaml"
    params:
        spec=tokenizer_spec,
    shell:
        "python -m gapgrid.tokenizer --spec {params.spec:q} {output.manifest} > {log} 2>&1"


rule source:
    """Bring the rows of {wildcards.source} into one shape."""
    input:
        source_file,
    output:
        rows=f"{RESULTS}/sources/{{source}}/rows.jsonl",
        manifest=f"{RESULTS}/sources/{{source}}/manifest.json",
    log:
        f"{LOGS}/source/{{source}}.log",
    conda:
        "../../envs/cpu.yaml"
    params:
        spec=source_spec,
    shell:
        "python -m gapgrid.source --spec {params.spec:q} {output.rows} {output.manifest} > {log} 2>&1"


rule problems:
    """Bring the problems of {wildcards.benchmark} into one file and count them."""
    input:
        problems_file,
    output:
        problems=f"{RESULTS}/problems/{{benchmark}}/problems.jsonl",
        manifest=f"{RESULTS}/problems/{{benchmark}}/manifest.json",
    log:
        f"{LOGS}/problems/{{benchmark}}.log",
    conda:
        "../../envs/cpu.yaml"
    params:
        spec=problems_spec,
    shell:
        "python -m gapgrid.problems --spec {params.spec:q} {output.problems} {output.manifest} > {log} 2>&1"

# Mixing: one response per problem, from several sources.
#
# in:  the rows of the mix's sources
# out: train.jsonl; its digest, which training tracks; a card that says what the mix holds
#
# A checkpoint, so that training is decided on after the mix is there: a mix that is made anew and
# comes out the same to the byte trains nothing.


localrules:
    mix,


checkpoint mix:
    """Mix {wildcards.mix}."""
    input:
        rows=ancient(of_sources("rows.jsonl")),
        manifests=of_sources(""),
        tokenizer=result("tokenizer", "tokenizer.json"),
    output:
        data=result("mix", "train.jsonl"),
        digest=result("mix", "train.sha256"),
        card=result("mix", "card.json"),
        manifest=result("mix"),
    log:
        log_of("mix"),
    conda:
        "../../envs/cpu.yaml"
    params:
        spec=spec_of("mix"),
    shell:
        "python -m gapgrid.stages.mix --spec {params.spec:q}"
        " {input.tokenizer} {input.rows}"
        " {output.data} {output.manifest} > {log} 2>&1"

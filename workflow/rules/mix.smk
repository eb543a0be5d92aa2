# Mixing: one response per problem, from several sources.
#
# in:  the rows of the mix's sources
# out: train.jsonl; its digest, which training tracks; a card that says what the mix holds
#
# A checkpoint, so that training is decided on after the mix is there: a mix that is made anew and comes out the
# same to the byte trains nothing.


localrules:
    mix,


checkpoint mix:
    """Mix {wildcards.mix}."""
    input:
        rows=ancient(mix_rows),
        manifests=mix_manifests,
        tokenizer=f"{RESULTS}/tokenizer/tokenizer.json",
    output:
        data=f"{RESULTS}/mixes/{{mix}}/train.jsonl",
        digest=f"{RESULTS}/mixes/{{mix}}/train.sha256",
        card=f"{RESULTS}/mixes/{{mix}}/card.json",
        manifest=f"{RESULTS}/mixes/{{mix}}/manifest.json",
    log:
        f"{LOGS}/mix/{{mix}}.log",
    conda:
        "../../envs/cpu.yaml"
    params:
        spec=mix_spec,
    shell:
        "python -m gapgrid.mix --spec {params.spec:q} {input.tokenizer} {input.rows} {output.data} {output.manifest} > {log} 2>&1"

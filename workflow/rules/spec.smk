# Specs as files, for the stages below a batch of cells: grade, judge, score, table, figure.
#
# in:  what fixes the result besides the spec: the judge's prompt, the code of a leaf
# out: {name}.spec, two lines: the spec as JSON, the digest of those files
#
# A cell waits for its batch (answering, judging) through an `ancient()` stamp. While the batch reruns for another
# cell, Snakemake looks at nothing below it but what comes through jobs that rerun: a changed param of a waiting rule
# would go unnoticed until the next call. These jobs have nothing above them, so a change always comes through.


localrules:
    spec,


rule spec:
    """Write down what fixes the {wildcards.stage} of {wildcards.name}."""
    input:
        spec_files,
    output:
        f"{RESULTS}/specs/{{stage}}/{{name}}.spec",
    log:
        f"{LOGS}/spec/{{stage}}/{{name}}.log",
    wildcard_constraints:
        stage=one_of([*GRID_SPECS, *NAMED_SPECS]),
        name=r"[^/]+",
    conda:
        "../../envs/cpu.yaml"
    params:
        spec=named_spec,
    shell:
        "(printf '%s\\n' {params.spec:q}; cat /dev/null {input} | sha256sum) > {output}.part 2> {log} && mv {output}.part {output}"

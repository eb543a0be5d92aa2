# What comes from the hub, on a machine that reaches it: models into the hub's cache, so that
# compute nodes run offline.
#
# in:  nothing; which repository and revision is in the spec
# out: a manifest with the commit and the size. `snakemake prefetch` fetches all of a grid, data
#      sets too.


localrules:
    fetch,
    prefetch,


rule fetch:
    """Fetch {wildcards.section} {wildcards.name} from the hub."""
    output:
        result("fetch"),
    log:
        log_of("fetch"),
    wildcard_constraints:
        section="models|adopted|judge",
        name=".+",
    conda:
        "../../envs/cpu.yaml"
    params:
        spec=spec_of("fetch"),
    shell:
        "python -m gapgrid.stages.fetch --spec {params.spec:q} {output} > {log} 2>&1"


rule prefetch:
    """All that the grid takes from the hub or from local files."""
    input:
        results("fetch", FROM_HUB),
        results("tokenizer", [()]),
        results("source", jobs.STAGES["source"].jobs(GRID)),
        results("problems", jobs.STAGES["problems"].jobs(GRID)),

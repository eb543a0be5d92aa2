# What comes from the hub, on a machine that reaches it: models into the hub's cache, so that compute nodes run offline.
#
# in:  nothing; which repository and revision is in the spec
# out: a manifest with the commit and the size. `snakemake prefetch` fetches all of a grid, data sets too.


localrules:
    fetch,
    prefetch,


rule fetch:
    """Fetch {wildcards.section} {wildcards.name} from the hub."""
    output:
        f"{RESULTS}/hub/{{section}}/{{name}}/manifest.json",
    log:
        f"{LOGS}/fetch/{{section}}/{{name}}.log",
    wildcard_constraints:
        section="models|adopted|judge",
        name=".+",
    conda:
        "../../envs/cpu.yaml"
    params:
        spec=fetch_spec,
    shell:
        "python -m gapgrid.fetch --spec {params.spec:q} {output} > {log} 2>&1"


rule prefetch:
    """All that the grid takes from the hub or from local files."""
    input:
        hub_manifests,
        f"{RESULTS}/tokenizer/manifest.json",
        source_manifests,
        problem_manifests,

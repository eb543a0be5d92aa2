# An experiment's table: score rows, and accuracies and gaps with intervals.
#
# in:  the scores of its cells; its list of cells and contrast
# out: {experiment}.csv, {experiment}.estimates.csv, a manifest


localrules:
    table,


rule table:
    """Tabulate {wildcards.experiment}."""
    input:
        scores=scores_of("score.json"),
        verdicts=ancient(scores_of("verdicts.jsonl")),
        code=code_of("table", "statistics", "gaps"),
    output:
        table=f"{RESULTS}/tables/{{experiment}}.csv",
        estimates=report(
            f"{RESULTS}/tables/{{experiment}}.estimates.csv",
            caption="../report/table.rst",
            category="Tables",
            labels={"experiment": "{experiment}"},
        ),
        manifest=f"{RESULTS}/tables/{{experiment}}.manifest.json",
    log:
        f"{LOGS}/table/{{experiment}}.log",
    conda:
        "../../envs/cpu.yaml"
    params:
        spec=table_spec,
    shell:
        "python -m gapgrid.table --spec {params.spec:q} {output.table} {output.estimates} {output.manifest} {input.scores} > {log} 2>&1"

# An experiment's table: score rows, and accuracies and gaps with intervals, also as text.
#
# in:  the scores of its cells; how its students were trained; its list of cells, contrast, protocol, and published numbers
# out: {experiment}.csv, .estimates.csv, .md, .tex, .notes.json, a manifest; .paper.csv where there are published numbers


localrules:
    table,


rule table:
    """Tabulate {wildcards.experiment}."""
    input:
        scores=files_of("score", "score.json"),
        verdicts=ancient(files_of("score", "verdicts.jsonl")),
        trained=ancient(trained_of),
        code=code_of(
            "table",
            "statistics",
            "gaps",
            "estimating",
            "comparability",
            "tables/published",
            "tables/sheets",
            "tables/typeset",
            "tables/numerals",
        ),
    output:
        table=f"{RESULTS}/tables/{{experiment}}.csv",
        estimates=report(
            f"{RESULTS}/tables/{{experiment}}.estimates.csv",
            caption="../report/table.rst",
            category="Tables",
            labels=labels_of,
        ),
        markdown=f"{RESULTS}/tables/{{experiment}}.md",
        latex=f"{RESULTS}/tables/{{experiment}}.tex",
        notes=f"{RESULTS}/tables/{{experiment}}.notes.json",
        manifest=f"{RESULTS}/tables/{{experiment}}.manifest.json",
    log:
        f"{LOGS}/table/{{experiment}}.log",
    conda:
        "../../envs/cpu.yaml"
    params:
        spec=table_spec,
    shell:
        "python -m gapgrid.table --spec {params.spec:q} --trained {input.trained} -- {output.manifest} {input.scores} > {log} 2>&1"

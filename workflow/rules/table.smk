# An experiment's table: score rows, and accuracies and gaps with intervals, also as text.
#
# in:  the scores of its cells; how its students were trained; its list of cells, contrast,
#      protocol, and published numbers
# out: {experiment}.csv, .estimates.csv, .md, .tex, .notes.json, a manifest; .paper.csv where there
#      are published numbers


localrules:
    table,


rule table:
    """Tabulate {wildcards.experiment}."""
    input:
        scores=of_experiment("score", "score.json"),
        verdicts=ancient(of_experiment("score", "verdicts.jsonl")),
        trained=ancient(trained_manifests),
        code=code_of(
            "stages/table.py",
            "core/comparability.py",
            "stats/bootstrap.py",
            "stats/estimates.py",
            "stats/significance.py",
            "reporting/tables/published.py",
            "reporting/tables/layout.py",
            "reporting/tables/render.py",
            "reporting/tables/numbers.py",
        ),
    output:
        table=result("table", "csv"),
        estimates=report(
            result("table", "estimates.csv"),
            caption="../report/table.rst",
            category="Tables",
            labels=report_labels,
        ),
        markdown=result("table", "md"),
        latex=result("table", "tex"),
        notes=result("table", "notes.json"),
        manifest=result("table"),
    log:
        log_of("table"),
    conda:
        "../../envs/cpu.yaml"
    params:
        spec=spec_of("table"),
    shell:
        "python -m gapgrid.stages.table --spec {params.spec:q}"
        " --trained {input.trained}"
        " -- {output.manifest} {input.scores} > {log} 2>&1"

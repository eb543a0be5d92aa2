# An experiment's figure, drawn from its table.
#
# in:  the estimates and notes of its table; what is shown and how
# out: {experiment}.pdf, {experiment}.svg (in the report), the drawn points as .csv, the caption as
#      .txt, a manifest


localrules:
    figure,


rule figure:
    """Draw {wildcards.experiment}."""
    input:
        estimates=result("table", "estimates.csv"),
        notes=result("table", "notes.json"),
        code=code_of(
            "stages/figure.py",
            "reporting/plots/curves.py",
            "reporting/plots/bars.py",
            "reporting/plots/style.py",
        ),
    output:
        pdf=result("figure", "pdf"),
        svg=report(
            result("figure", "svg"),
            caption="../report/figure.rst",
            category="Figures",
            labels=report_labels,
        ),
        points=result("figure", "csv"),
        caption=result("figure", "caption.txt"),
        manifest=result("figure"),
    log:
        log_of("figure"),
    wildcard_constraints:
        experiment=one_of(drawn_by(GRID, "figure")),
    conda:
        "../../envs/cpu.yaml"
    params:
        spec=spec_of("figure"),
    shell:
        "python -m gapgrid.stages.figure --spec {params.spec:q}"
        " {input.estimates} {input.notes}"
        " {output.pdf} {output.svg} {output.points} {output.caption} {output.manifest}"
        " > {log} 2>&1"

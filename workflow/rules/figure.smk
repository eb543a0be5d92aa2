# An experiment's figure, drawn from its table.
#
# in:  the estimates and notes of its table; what is shown and how
# out: {experiment}.pdf, {experiment}.svg (in the report), the drawn points as .csv, the caption as .txt, a manifest


localrules:
    figure,


rule figure:
    """Draw {wildcards.experiment}."""
    input:
        estimates=f"{RESULTS}/tables/{{experiment}}.estimates.csv",
        notes=f"{RESULTS}/tables/{{experiment}}.notes.json",
        code=code_of("figure", "plots/curves", "plots/bars", "plots/drawing"),
    output:
        pdf=f"{RESULTS}/figures/{{experiment}}.pdf",
        svg=report(
            f"{RESULTS}/figures/{{experiment}}.svg",
            caption="../report/figure.rst",
            category="Figures",
            labels=labels_of,
        ),
        points=f"{RESULTS}/figures/{{experiment}}.csv",
        caption=f"{RESULTS}/figures/{{experiment}}.caption.txt",
        manifest=f"{RESULTS}/figures/{{experiment}}.manifest.json",
    log:
        f"{LOGS}/figure/{{experiment}}.log",
    wildcard_constraints:
        experiment=one_of(closeups.drawn_by(GRID, "figure")),
    conda:
        "../../envs/cpu.yaml"
    params:
        spec=figure_spec,
    shell:
        "python -m gapgrid.figure --spec {params.spec:q} {input.estimates} {input.notes} "
        "{output.pdf} {output.svg} {output.points} {output.caption} {output.manifest} > {log} 2>&1"

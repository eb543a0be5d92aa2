# An experiment's figure, drawn from its table.
#
# in:  the estimates; what is shown and how
# out: {experiment}.pdf, {experiment}.svg (in the report), a manifest


localrules:
    figure,


rule figure:
    """Draw {wildcards.experiment}."""
    input:
        estimates=f"{RESULTS}/tables/{{experiment}}.estimates.csv",
        code=code_of("figure"),
    output:
        pdf=f"{RESULTS}/figures/{{experiment}}.pdf",
        svg=report(
            f"{RESULTS}/figures/{{experiment}}.svg",
            caption="../report/figure.rst",
            category="Figures",
            labels={"experiment": "{experiment}"},
        ),
        manifest=f"{RESULTS}/figures/{{experiment}}.manifest.json",
    log:
        f"{LOGS}/figure/{{experiment}}.log",
    conda:
        "../../envs/cpu.yaml"
    params:
        spec=figure_spec,
    shell:
        "python -m gapgrid.figure --spec {params.spec:q} {input.estimates} {output.pdf} {output.svg} {output.manifest} > {log} 2>&1"

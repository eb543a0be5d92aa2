# A case study: the same problem answered by an experiment's students, side by side, with verdicts.
#
# in:  the scores, verdicts and answers of its cells; which problems are chosen
# out: {experiment}.html (in the report), a manifest


localrules:
    case,


rule case:
    """Show the cases of {wildcards.experiment}."""
    input:
        scores=of_experiment("score"),
        verdicts=ancient(of_experiment("score", "verdicts.jsonl")),
        samples=ancient(of_experiment("grade", "samples.jsonl")),
        graded=ancient(of_experiment("grade", "graded.jsonl")),
        code=code_of(
            "stages/case.py",
            "reporting/case_page.py",
            "reporting/html.py",
            "reporting/templates/case.html",
        ),
    output:
        page=report(
            result("case", "html"),
            caption="../report/case.rst",
            category="Cases",
            labels=report_labels,
        ),
        manifest=result("case"),
    log:
        log_of("case"),
    wildcard_constraints:
        experiment=one_of(drawn_by(GRID, "case")),
    conda:
        "../../envs/cpu.yaml"
    params:
        spec=spec_of("case"),
    shell:
        "python -m gapgrid.stages.case --spec {params.spec:q}"
        " {output.page} {output.manifest} {input.scores} > {log} 2>&1"

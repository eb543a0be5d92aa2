# A case study: the same problem answered by an experiment's students, side by side, with verdicts.
#
# in:  the scores, verdicts and answers of its cells; which problems are chosen
# out: {experiment}.html (in the report), a manifest


localrules:
    case,


rule case:
    """Show the cases of {wildcards.experiment}."""
    input:
        scores=files_of("score", "manifest.json"),
        verdicts=ancient(files_of("score", "verdicts.jsonl")),
        samples=ancient(files_of("grade", "samples.jsonl")),
        graded=ancient(files_of("grade", "graded.jsonl")),
        code=code_of("case", "case_page", "injections"),
    output:
        page=report(
            f"{RESULTS}/cases/{{experiment}}.html",
            caption="../report/case.rst",
            category="Cases",
            labels=labels_of,
        ),
        manifest=f"{RESULTS}/cases/{{experiment}}.manifest.json",
    log:
        f"{LOGS}/case/{{experiment}}.log",
    wildcard_constraints:
        experiment=one_of(closeups.drawn_by(GRID, "case")),
    conda:
        "../../envs/cpu.yaml"
    params:
        spec=case_spec,
    shell:
        "python -m gapgrid.case --spec {params.spec:q} {output.page} {output.manifest} {input.scores} > {log} 2>&1"

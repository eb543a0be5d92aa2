# The audit of grading: which step and which rule decided how often, and where steps disagree.
#
# in:  every cell's score; its graded rows and verdicts lie beside
# out: audit.csv, rules.csv, disagreements.csv, a page of the worst; a manifest


localrules:
    audit,


rule audit:
    """Audit how the answers were graded."""
    input:
        code=code_of(
            "stages/audit.py",
            "grading/prompt_injection.py",
            "reporting/html.py",
            "reporting/templates/audit.html",
        ),
        scores=results("score", CELLS, "score.json"),
    output:
        audit=report(result("audit", "audit.csv"), caption="../report/audit.rst", category="Audit"),
        rules=result("audit", "rules.csv"),
        disagreements=result("audit", "disagreements.csv"),
        page=report(result("audit", "audit.html"), caption="../report/audit.rst", category="Audit"),
        manifest=result("audit"),
    log:
        log_of("audit"),
    conda:
        "../../envs/cpu.yaml"
    params:
        spec=spec_of("audit"),
    shell:
        "python -m gapgrid.stages.audit --spec {params.spec:q}"
        " {output.audit} {output.rules} {output.disagreements} {output.page} {output.manifest}"
        " -- {input.scores} > {log} 2>&1"

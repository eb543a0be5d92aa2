# The audit of grading: which step and which rule decided how often, and where steps disagree.
#
# in:  every cell's score; its graded rows and verdicts lie beside
# out: audit.csv, rules.csv, disagreements.csv, a page of the worst; a manifest


localrules:
    audit,


rule audit:
    """Audit how the answers were graded."""
    input:
        code=code_of("audit", "injections"),
        scores=expand(f"{RESULTS}/score/{{cell}}/score.json", cell=CELL_PATHS),
    output:
        audit=report(f"{RESULTS}/audit/audit.csv", caption="../report/audit.rst", category="Audit"),
        rules=f"{RESULTS}/audit/rules.csv",
        disagreements=f"{RESULTS}/audit/disagreements.csv",
        page=report(f"{RESULTS}/audit/audit.html", caption="../report/audit.rst", category="Audit"),
        manifest=f"{RESULTS}/audit/manifest.json",
    log:
        f"{LOGS}/audit.log",
    conda:
        "../../envs/cpu.yaml"
    params:
        spec=audit_spec,
    shell:
        "python -m gapgrid.audit --spec {params.spec:q} {output.audit} {output.rules} {output.disagreements} {output.page} {output.manifest} -- {input.scores} > {log} 2>&1"

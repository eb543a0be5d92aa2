# Token rank shift: which tokens of a trained student's answers the student before SFT would
# not have chosen, and their figure.
#
# shift, a heavy job per cell:
#   in:  the student before SFT; what decides the answers (student, request, problems), and the
#        answers
#   out: shift.jsonl (a row per token type), shift.json, a manifest
# shift_figure, light:
#   in:  the shifts of an experiment's cells, the notes of its table
#   out: {experiment}.pdf, {experiment}.svg (in the report), the numbers as .csv, a manifest


localrules:
    shift_figure,


rule shift:
    """Rank the tokens of a cell's answers under the student before SFT."""
    input:
        base=ancient(of_base("model")),
        train=result("train"),
        request=result("request"),
        task=ancient(task_file),
        problems=ancient(result("problems", "problems.jsonl")),
        problems_manifest=result("problems"),
        samples=ancient(result("grade", "samples.jsonl")),
    output:
        types=result("shift", "shift.jsonl"),
        summary=result("shift", "shift.json"),
        manifest=result("shift"),
    log:
        log_of("shift"),
    benchmark:
        times_of("shift")
    conda:
        "../../envs/cpu.yaml"
    threads: hardware("cpus")
    resources:
        gpu=hardware("gpus"),
        mem_mb=growing("mem_mb"),
        runtime=growing("runtime"),
    params:
        spec=spec_of("shift"),
    shell:
        '"$HEAVY_PYTHON" -m gapgrid.stages.shift --spec {params.spec:q}'
        " --threads {threads} --gpus {resources.gpu}"
        " {input.base} {input.train} {input.request} {input.task} {input.problems} {input.samples}"
        " {output.manifest} > {log} 2>&1"


rule shift_figure:
    """Draw the token rank shifts of {wildcards.experiment}."""
    input:
        shifts=of_experiment("shift", cells_of=shift_cells),
        types=ancient(of_experiment("shift", "shift.jsonl", shift_cells)),
        notes=result("table", "notes.json"),
        code=code_of(
            "stages/shift_figure.py", "reporting/plots/token_shift.py", "reporting/plots/style.py"
        ),
    output:
        pdf=result("shift_figure", "pdf"),
        svg=report(
            result("shift_figure", "svg"),
            caption="../report/shift.rst",
            category="Figures",
            labels=report_labels,
        ),
        points=result("shift_figure", "csv"),
        manifest=result("shift_figure"),
    log:
        log_of("shift_figure"),
    wildcard_constraints:
        experiment=one_of(drawn_by(GRID, "shift_figure")),
    conda:
        "../../envs/cpu.yaml"
    params:
        spec=spec_of("shift_figure"),
    shell:
        "python -m gapgrid.stages.shift_figure --spec {params.spec:q}"
        " {input.notes} {output.pdf} {output.svg} {output.points} {output.manifest}"
        " {input.shifts} > {log} 2>&1"

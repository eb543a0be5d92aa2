# Token rank shift: which tokens of a trained student's answers its untouched self would not have chosen, and their figure.
#
# shift, a heavy job per cell:
#   in:  the untouched student; what decides the answers (student, request, problems), and the answers
#   out: shift.jsonl (a row per token type), shift.json, a manifest
# shift_figure, light:
#   in:  the shifts of an experiment's cells, the notes of its table
#   out: {experiment}.pdf, {experiment}.svg (in the report), the numbers as .csv, a manifest


localrules:
    shift_figure,


rule shift:
    """Rank {wildcards.model}'s answers to {wildcards.benchmark} after {wildcards.mix}, seed {wildcards.seed}, under the untouched student."""
    input:
        base=ancient(base_of("model")),
        train=f"{RESULTS}/train/{TRAINING_CELL}/manifest.json",
        request=f"{RESULTS}/requests/{CELL}.spec",
        task=ancient(task_file),
        problems=ancient(f"{RESULTS}/problems/{{benchmark}}/problems.jsonl"),
        problems_manifest=f"{RESULTS}/problems/{{benchmark}}/manifest.json",
        samples=ancient(f"{RESULTS}/grade/{CELL}/samples.jsonl"),
    output:
        types=f"{RESULTS}/shift/{CELL}/shift.jsonl",
        summary=f"{RESULTS}/shift/{CELL}/shift.json",
        manifest=f"{RESULTS}/shift/{CELL}/manifest.json",
    log:
        f"{LOGS}/shift/{CELL}.log",
    benchmark:
        f"{TIMES}/shift/{CELL}.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: hardware("cpus")
    resources:
        gpu=hardware("gpus"),
        mem_mb=growing("mem_mb"),
        runtime=growing("runtime"),
    params:
        spec=shift_spec,
    shell:
        "$HEAVY_PYTHON -m gapgrid.shift --spec {params.spec:q} --threads {threads} --gpus {resources.gpu} {input.base} {input.train} {input.request} {input.task} {input.problems} {input.samples} {output.manifest} > {log} 2>&1"


rule shift_figure:
    """Draw the token rank shifts of {wildcards.experiment}."""
    input:
        shifts=shifts_of("manifest.json"),
        types=ancient(shifts_of("shift.jsonl")),
        notes=f"{RESULTS}/tables/{{experiment}}.notes.json",
        code=code_of("shift_figure", "plots/drawing", "injections"),
    output:
        pdf=f"{RESULTS}/figures/{{experiment}}.pdf",
        svg=report(
            f"{RESULTS}/figures/{{experiment}}.svg",
            caption="../report/shift.rst",
            category="Figures",
            labels=labels_of,
        ),
        points=f"{RESULTS}/figures/{{experiment}}.csv",
        manifest=f"{RESULTS}/figures/{{experiment}}.manifest.json",
    log:
        f"{LOGS}/shift_figure/{{experiment}}.log",
    wildcard_constraints:
        experiment=one_of(closeups.drawn_by(GRID, "shift_figure")),
    conda:
        "../../envs/cpu.yaml"
    params:
        spec=shift_figure_spec,
    shell:
        "python -m gapgrid.shift_figure --spec {params.spec:q} {input.notes} {output.pdf} {output.svg} {output.points} {output.manifest} {input.shifts} > {log} 2>&1"

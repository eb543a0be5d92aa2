# Input functions, in the order of the flow: which files a job reads, by its wildcards and the grid.

FROM_HUB = specs.from_hub(GRID)


def training_cell(wildcards):
    return TrainingCell(wildcards.model, wildcards.mix, int(wildcards.seed))


def of_experiment(stage, file="", cells_of=cells.experiment_cells):
    """One file of a stage per cell of an experiment."""

    def of_job(wildcards):
        return results(stage, cells_of(GRID, wildcards.experiment), file)

    return of_job


# ---- source, problems, mix ----


def source_file(wildcards):
    """A local source, so that a change of the file is noticed."""
    return GRID["sources"][wildcards.source].get("path", [])


def problems_file(wildcards):
    """A local problem file, so that a change of it is noticed."""
    return GRID["benchmarks"][wildcards.benchmark]["data"].get("path", [])


def of_sources(file):
    """One file of each source of a mix."""

    def of_mix(wildcards):
        names = sorted(GRID["mixes"][wildcards.mix]["parts"])
        return results("source", [(name,) for name in names], file)

    return of_mix


# ---- base, train ----


def of_tiny(stage, file):
    """An input that only tiny students have: they are pretrained here, on a corpus of their own."""

    def of_student(wildcards):
        entry = GRID["models"][wildcards.model]
        if entry["kind"] != "tiny":
            return []
        return results(stage, [(entry["corpus"],) if stage == "source" else ()], file)

    return of_student


def of_base(file=""):
    """A file of the student before SFT that a training cell starts from."""

    def of_cell(wildcards):
        seed = cells.base_seed(GRID, wildcards.model, int(wildcards.seed))
        return results("base", [(wildcards.model, seed)], file)

    return of_cell


def mix_of(file):
    """A file of the mix that a student is trained on; none for an adopted checkpoint."""

    def of_cell(wildcards):
        if specs.is_adopted(GRID, *training_cell(wildcards)):
            return []
        if file == "train.sha256":  # reached through the checkpoint, which decides on training
            return checkpoints.mix.get(mix=wildcards.mix).output.digest
        return results("mix", [(wildcards.mix,)], file)

    return of_cell


def fetched(section):
    """The record of a download: of a student, an adopted checkpoint or the judge; none if local."""

    def of_job(wildcards):
        name = "judge"
        if section != "judge":
            cell = training_cell(wildcards) if section == "adopted" else None
            name = str(cell) if cell else wildcards.model
        return results("fetch", [(section, name)]) if (section, name) in FROM_HUB else []

    return of_job


# ---- request, evaluate, judge ----


def task_of(benchmark):
    return f"{GRID['folder']}/tasks/{GRID['benchmarks'][benchmark]['task']}.yaml"


def task_file(wildcards):
    return task_of(wildcards.benchmark)


def task_files(wildcards):
    """The lm-eval task file of each benchmark that a training cell answers, in their order."""
    return [task_of(benchmark) for benchmark in BENCHMARKS[training_cell(wildcards)]]


def of_benchmarks(stage, file=""):
    """One file of a stage per benchmark that a training cell answers, in their order."""

    def of_cell(wildcards):
        cell = training_cell(wildcards)
        names = (*cell, "{benchmark}") if stage == "request" else ("{benchmark}",)
        return expand(results(stage, [names], file), benchmark=BENCHMARKS[cell])

    return of_cell


def judge_prompt(wildcards):
    """The judge's prompt file, as a tracked input; none without a judge."""
    return GRID["judge"]["prompt"] if GRID["judge"]["backend"] != "none" else []


# ---- table, figure ----


def code_of(*files):
    """Leaves are cheap, so they follow their code; no other stage does."""
    return [f"workflow/gapgrid/{file}" for file in files]


def trained_manifests(wildcards):
    """The training manifests behind an experiment's cells."""
    shown = {cell.trained for cell in cells.experiment_cells(GRID, wildcards.experiment)}
    return results("train", sorted(cell for cell in shown if cell.mix != UNTOUCHED))


def report_labels(wildcards):
    return protocol.report_labels(GRID, wildcards.experiment)

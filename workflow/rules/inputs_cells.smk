# Input functions of students, answers, verdicts and claims: which files a job reads, by its wildcards and the grid.


# ---- train ----


def graders_tested(wildcards):
    """No student is made before the grader has passed on every benchmark of the grid."""
    return expand(f"{RESULTS}/selftest/{{benchmark}}/manifest.json", benchmark=sorted({cell.benchmark for cell in CELLS}))


def base_inputs(key):
    """Inputs that only tiny students have: they are pretrained here."""
    paths = {
        "tokenizer": f"{RESULTS}/tokenizer/tokenizer.json",
        "corpus": f"{RESULTS}/sources/{{corpus}}/rows.jsonl",
        "manifest": f"{RESULTS}/sources/{{corpus}}/manifest.json",
    }

    def of_student(wildcards):
        entry = GRID["models"][wildcards.model]
        return paths[key].format(corpus=entry["corpus"]) if entry["kind"] == "tiny" else []

    return of_student


def base_of(name):
    """A file of the untouched student that a training cell starts from."""

    def of_cell(wildcards):
        seed = cells_of.base_seed(GRID, wildcards.model, int(wildcards.seed))
        return f"{RESULTS}/train/{wildcards.model}/none/{seed}/{name}"

    return of_cell


def is_adopted(wildcards):
    return cells_of.is_adopted(GRID, wildcards.model, wildcards.mix, int(wildcards.seed))


def mix_digest(wildcards):
    return [] if is_adopted(wildcards) else checkpoints.mix.get(mix=wildcards.mix).output.digest


def mix_data(wildcards):
    return [] if is_adopted(wildcards) else f"{RESULTS}/mixes/{wildcards.mix}/train.jsonl"


# ---- evaluate ----


def requests_of(pattern):
    """One file per benchmark that a training cell answers."""

    def of_training_cell(wildcards):
        seed = int(wildcards.seed)
        names = BENCHMARKS[cells_of.TrainingCell(wildcards.model, wildcards.mix, seed)]
        return expand(pattern, benchmark=names, model=wildcards.model, mix=wildcards.mix, seed=seed)

    return of_training_cell


def tasks_of(wildcards):
    """The lm-eval task file of each benchmark that a training cell answers, in the requests' order."""
    names = BENCHMARKS[cells_of.TrainingCell(wildcards.model, wildcards.mix, int(wildcards.seed))]
    return [f"{GRID['folder']}/tasks/{GRID['benchmarks'][name]['task']}.yaml" for name in names]


# ---- judge ----


def judge_hardware(key):
    """What the judge's job asks for: its size of hardware.yaml, or a core."""
    light = {"gpus": 0, "cpus": 1, "mem_mb": 1000, "runtime": 60}
    size = GRID["judge"].get("size")
    asked = GRID["hardware"][size][key] if size else light[key]

    def of_attempt(wildcards, attempt):
        return attempt * asked if key in ("mem_mb", "runtime") else asked

    return of_attempt


def judge_url(wildcards):
    """Where the judge's server is; a resource, since it decides nothing about a verdict."""
    return GRID["judge"].get("base_url", "none")


# ---- table, figure ----


def code_of(*modules):
    """Leaves are cheap, so they follow their code; no other stage does."""
    return [f"workflow/gapgrid/{module}.py" for module in modules]


def trained_of(wildcards):
    """What the trainings behind an experiment's cells left of themselves."""
    cells = {cell[:3] for cell in cells_of.experiment_cells(GRID, wildcards.experiment) if cell.mix != cells_of.UNTOUCHED}
    return [f"{RESULTS}/train/{'/'.join(map(str, cell))}/manifest.json" for cell in sorted(cells)]


def files_of(stage, name):
    """One file of a stage per cell of an experiment."""

    def of_experiment(wildcards):
        cells = cells_of.experiment_cells(GRID, wildcards.experiment)
        return expand(f"{RESULTS}/{stage}/{{cell}}/{name}", cell=["/".join(map(str, cell)) for cell in cells])

    return of_experiment


def labels_of(wildcards):
    """How the report lists an experiment's table or figure: students, training sets, benchmarks, seeds, or how many if they are many."""
    entry = GRID["experiments"][wildcards.experiment]
    kinds = {"students": "models", "trained on": "mixes", "benchmarks": "benchmarks"}
    named = {title: [cells_of.label(GRID, kind, name) for name in cells_of.named(entry[kind], GRID[kind])] for title, kind in kinds.items()}
    named["seeds"] = list(map(str, GRID["seeds"]))
    return {"experiment": wildcards.experiment} | {title: ", ".join(of) if len(of) < 5 else str(len(of)) for title, of in named.items()}

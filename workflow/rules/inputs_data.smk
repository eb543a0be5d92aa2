# Input functions of data and of the final targets: which files a job reads, by its wildcards and the grid. Rule files hold rules alone.


# ---- several stages, rule all ----


def task_file(wildcards):
    return f"{GRID['folder']}/tasks/{GRID['benchmarks'][wildcards.benchmark]['task']}.yaml"


def judge_prompt(wildcards):
    """The judge's prompt file, as a tracked input; none without a judge."""
    return GRID["judge"]["prompt"] if GRID["judge"]["backend"] != "none" else []


def table_files(wildcards):
    return expand(
        f"{RESULTS}/tables/{{experiment}}.{{kind}}",
        experiment=GRID["experiments"],
        kind=["csv", "estimates.csv", "md", "tex", "notes.json"],
    )


def figure_files(wildcards):
    """Each output that only one rule has is named, so that an experiment which another one draws from now on lacks it, and the job runs."""
    kinds = {"figure": ["pdf", "svg", "csv", "caption.txt"], "shift_figure": ["pdf", "svg", "csv"]}
    return [f"{RESULTS}/figures/{name}.{kind}" for rule, of in kinds.items() for name in closeups.drawn_by(GRID, rule) for kind in of]


def cell_files(wildcards):
    """Named one by one so that a deleted one is noticed. Students are not: one may be deleted once it has answered."""
    return expand(
        f"{RESULTS}/{{file}}",
        file=[f"score/{cell}/score.json" for cell in CELL_PATHS] + [f"grade/{cell}/samples.jsonl" for cell in CELL_PATHS],
    )


# ---- fetch ----


def hub_manifests(wildcards):
    return [f"{RESULTS}/hub/{section}/{name}/manifest.json" for section, name in cells_of.from_hub(GRID)]


def source_manifests(wildcards):
    used = {source for cell in CELLS if cell.mix != cells_of.UNTOUCHED for source in GRID["mixes"][cell.mix]["parts"]}
    return expand(f"{RESULTS}/sources/{{source}}/manifest.json", source=sorted(used))


def problem_manifests(wildcards):
    return expand(f"{RESULTS}/problems/{{benchmark}}/manifest.json", benchmark=sorted({cell.benchmark for cell in CELLS}))


def fetched_student(wildcards):
    """The record of a student's download; none for one that is made here or lies in a folder."""
    is_there = "hub" in GRID["models"][wildcards.model]
    return f"{RESULTS}/hub/models/{wildcards.model}/manifest.json" if is_there else []


def fetched_checkpoint(wildcards):
    """The record of an adopted checkpoint's download."""
    cell = f"{wildcards.model}/{wildcards.mix}/{wildcards.seed}"
    return f"{RESULTS}/hub/adopted/{cell}/manifest.json" if "hub" in GRID["adopted"].get(cell, ()) else []


def fetched_judge(wildcards):
    """The record of the judge's download."""
    return f"{RESULTS}/hub/judge/judge/manifest.json" if cells_of.judge_is_fetched(GRID) else []


# ---- source ----


def source_file(wildcards):
    """A local source, so that a change of the file is noticed."""
    return GRID["sources"][wildcards.source].get("path", [])


def problems_file(wildcards):
    """A local problem file, so that a change of it is noticed."""
    return GRID["benchmarks"][wildcards.benchmark]["data"].get("path", [])


# ---- mix ----


def mix_rows(wildcards):
    return expand(f"{RESULTS}/sources/{{source}}/rows.jsonl", source=sorted(GRID["mixes"][wildcards.mix]["parts"]))


def mix_manifests(wildcards):
    return expand(f"{RESULTS}/sources/{{source}}/manifest.json", source=sorted(GRID["mixes"][wildcards.mix]["parts"]))

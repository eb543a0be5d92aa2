"""What fixes the result of each stage's jobs.

A spec is the canonical JSON of everything that decides a job's result and of nothing else:
hardware, endpoints and labels stay out. A key that is off or at its default stays out too, so a
new option never re-runs a finished grid.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from gapgrid.core import spec_types
from gapgrid.core.cells import UNTOUCHED, TrainingCell
from gapgrid.core.records import canonical
from gapgrid.core.spec_types import DEFAULTS, JudgeIdentity, with_defaults
from gapgrid.grid.cells import Grid, all_cells, label, named, shown

# Raised in the commit that changes what a stage computes; re-runs the stage and all that follows.
VERSIONS = {
    "tokenizer": 1,
    "fetch": 1,
    "source": 1,
    "mix": 1,
    "base": 1,
    "train": 1,
    "problems": 1,
    "request": 1,
    "evaluate": 1,
    "selftest": 1,
    "grade": 3,
    "judge": 3,
    "score": 3,
    "audit": 1,
    "table": 4,
    "figure": 2,
    "shift": 1,
    "shift_figure": 1,
    "case": 1,
}

# Which locked packages decide what an engine computes.
ENGINE_PACKAGES: dict[str, tuple[str, ...]] = {
    "trainer": ("torch", "transformers"),
    "hf": ("lm_eval", "torch", "transformers"),
    "vllm": ("lm_eval", "torch", "transformers", "vllm"),
    "ranks": ("lm_eval", "torch", "transformers"),
    "stub": (),
}
JUDGE_PACKAGES: dict[str, tuple[str, ...]] = {
    "vllm": ("torch", "transformers", "vllm"),
    "hf": ("torch", "transformers"),
    "openai": (),
    "none": (),
    "stub": (),
}


def spec_text(stage: str, content: Mapping[str, Any]) -> str:
    """Return a spec as canonical JSON: `content` with the stage's name and version."""
    return canonical({"stage": stage, "version": VERSIONS[stage], **content})


def off_default(kind: str, entry: dict[str, Any], *leave_out: str) -> dict[str, Any]:
    """Return the keys of a config entry off their default, without `label` and `leave_out`."""
    defaults = DEFAULTS[kind]
    return {
        key: value
        for key, value in entry.items()
        if key not in ("label", *leave_out) and not (key in defaults and value == defaults[key])
    }


def engine_of(
    grid: Grid, name: str, packages: dict[str, tuple[str, ...]] = ENGINE_PACKAGES
) -> dict[str, str]:
    """Return an engine's name and the locked versions of the packages that it computes with."""
    locked = grid["versions"]
    return {"name": name, **{key: locked[key] for key in packages[name] if key in locked}}


def tokenizer_spec(grid: Grid) -> str:
    """Return the spec of the tokenizer that counts tokens."""
    return spec_text("tokenizer", spec_types.TokenizerSpec(tokenizer=grid["tokenizer"]))


def from_hub(grid: Grid) -> list[tuple[str, str]]:
    """Return the (section, name) of every model that the grid takes from the hub.

    These are students, adopted checkpoints, and a judge that its own job loads.
    """
    trained = sorted({cell.trained for cell in all_cells(grid)})
    models = dict.fromkeys(cell.model for cell in trained)
    adopted = [str(cell) for cell in trained if "hub" in grid["adopted"].get(str(cell), ())]
    return [
        *(("models", name) for name in models if "hub" in grid["models"][name]),
        *(("adopted", name) for name in adopted),
        *([("judge", "judge")] if judge_is_on_hub(grid["judge"]) else []),
    ]


LOADING_BACKENDS = ("hf", "vllm")  # their job loads the judge itself
HUB_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_.-]+)?")  # name or owner/name


def judge_is_on_hub(judge: dict[str, Any]) -> bool:
    """Return whether the judge's job loads a model of the hub; the answer for all of GapGrid.

    `model` is a path instead if it has not the form of a hub id (it starts with `.`, `/` or `~`,
    or has more than one slash), or if a folder of that name exists.
    """
    if judge["backend"] not in LOADING_BACKENDS:
        return False
    return bool(HUB_ID.fullmatch(judge["model"])) and not Path(judge["model"]).is_dir()


def fetch_spec(grid: Grid, section: str, name: str) -> str:
    """Return the spec of one model of the hub, see `from_hub`."""
    is_judge = section == "judge"
    entry = grid["judge"] if is_judge else grid[section][name]
    spec = spec_types.FetchSpec(hub=entry["model" if is_judge else "hub"])
    if "revision" in entry:
        spec["revision"] = entry["revision"]
    return spec_text("fetch", spec)


def source_spec(grid: Grid, source: str) -> str:
    """Return the spec of one source's rows."""
    entry = off_default("source", grid["sources"][source])
    return spec_text("source", spec_types.SourceSpec(name=source, source=entry))


def mix_spec(grid: Grid, mix: str) -> str:
    """Return the spec of one training mix."""
    return spec_text("mix", spec_types.MixSpec(mix=off_default("mix", grid["mixes"][mix])))


def base_spec(grid: Grid, model: str, seed: int) -> str:
    """Return the spec of one student before SFT."""
    entry = grid["models"][model]
    spec = spec_types.BaseSpec(kind=entry["kind"])
    if entry["kind"] == "tiny":
        spec["corpus"] = entry["corpus"]
        spec["architecture"] = entry["architecture"]
        spec["recipe"] = _recipe(grid, entry["pretrain"])
        spec["seed"] = seed
        spec["engine"] = engine_of(grid, grid["engine"]["train"])
    else:
        for key in ("hub", "revision", "path", "eos"):
            if key in entry:
                spec[key] = entry[key]
    return spec_text("base", spec)


def _recipe(grid: Grid, recipe: str) -> dict[str, Any]:
    return off_default("recipe", grid["recipes"][recipe])


def is_adopted(grid: Grid, model: str, mix: str, seed: int) -> bool:
    """Return whether the training cell is a published checkpoint instead of being trained."""
    return str(TrainingCell(model, mix, seed)) in grid["adopted"]


def train_spec(grid: Grid, model: str, mix: str, seed: int) -> str:
    """Return the spec of one student after training; its training rows are an input file.

    For an adopted student the spec is the checkpoint alone.
    """
    if is_adopted(grid, model, mix, seed):
        spec = spec_types.TrainSpec(adopt=grid["adopted"][str(TrainingCell(model, mix, seed))])
    else:
        recipe = _recipe(grid, grid["models"][model]["recipe"])
        engine = engine_of(grid, grid["engine"]["train"])
        spec = spec_types.TrainSpec(recipe=recipe, seed=seed, engine=engine)
    return spec_text("train", spec)


def problems_spec(grid: Grid, benchmark: str) -> str:
    """Return the spec of one benchmark's problem file."""
    entry = with_defaults("benchmark", grid["benchmarks"][benchmark])
    spec = spec_types.ProblemsSpec(data=entry["data"], rows=entry["rows"], columns=entry["columns"])
    return spec_text("problems", spec)


def request_spec(grid: Grid, benchmark: str) -> str:
    """Return the spec of how students generate for one benchmark, and with which engine."""
    entry = grid["benchmarks"][benchmark]
    settings = off_default("benchmark", entry, "data", "rows", "columns", "grader")
    engine = engine_of(grid, grid["engine"]["evaluate"])
    return spec_text("request", {"evaluate": VERSIONS["evaluate"], "engine": engine, **settings})


def evaluate_spec(grid: Grid) -> str:
    """Return the spec of `evaluate`, its engine.

    Requests are input files: a grid with one benchmark less submits no job.
    """
    engine = engine_of(grid, grid["engine"]["evaluate"])
    return spec_text("evaluate", spec_types.EvaluateSpec(engine=engine))


def grade_spec(grid: Grid, benchmark: str) -> str:
    """Return the spec of the rule step of one benchmark."""
    return spec_text("grade", spec_types.GradeSpec(grader=grid["benchmarks"][benchmark]["grader"]))


def selftest_spec(grid: Grid, benchmark: str) -> str:
    """Return the spec of the grader's test on a benchmark's own reference answers.

    It holds the version of the rule step that it tests.
    """
    grader = grid["benchmarks"][benchmark]["grader"]
    return spec_text("selftest", spec_types.SelftestSpec(grade=VERSIONS["grade"], grader=grader))


def judge_identity(grid: Grid) -> JudgeIdentity:
    """Return what a verdict depends on, apart from the pair and the prompt.

    Where the judge runs and which pairs it sees is not part of it.
    """
    judge = grid["judge"]
    if judge["backend"] == "none":
        return {"engine": {"name": "none"}}
    engine = engine_of(grid, judge["backend"], JUDGE_PACKAGES)
    entry = off_default("judge", judge, "base_url", "size", "backend", "policy", "prompt")
    return cast(JudgeIdentity, {"engine": engine, "version": VERSIONS["judge"], **entry})


def judge_spec(grid: Grid, stage: str = "judge") -> str:
    """Return the spec of the judge and of which answers it sees; the pairs are input files."""
    spec = spec_types.JudgeSpec(judge=judge_identity(grid))
    if grid["judge"]["backend"] != "none" and grid["judge"].get("policy") == "all":
        spec["policy"] = "all"
    return spec_text(stage, spec)


def score_spec(grid: Grid) -> str:
    """Return the spec of how a cell is scored: by the verdicts of the grid's judge."""
    return judge_spec(grid, "score")


def audit_spec(grid: Grid) -> str:
    """Return the spec of the audit: its list of cells, so that one cell less re-runs it."""
    return spec_text("audit", spec_types.AuditSpec(cells=[list(cell) for cell in all_cells(grid)]))


def figure_spec(grid: Grid, experiment: str) -> str:
    """Return the spec of one experiment's figure: its plot, and the names shown, in order."""
    entry = grid["experiments"][experiment]
    spec = spec_types.FigureSpec(
        plot=entry["plot"],
        shown=shown(grid, experiment),
        contrast=entry.get("contrast"),
        confidence=grid["statistics"]["confidence"],
    )
    if "groups" in entry:
        models = [name for name, _ in spec["shown"]["models"]]
        groups = entry["groups"].items()
        ordered = sorted(groups, key=lambda group: models.index(group[1][0]))
        spec["groups"] = [list(group) for group in ordered]
    if "weight_of" in entry:
        spec["weights"] = _weights(grid, entry)
    return spec_text("figure", spec)


def _weights(grid: Grid, entry: dict[str, Any]) -> dict[str, Any]:
    """Return the share of one source in each mix, its label, and the unit of shares.

    The source is labelled like the mix of it alone, if the experiment shows one.
    """
    names = [name for name in named(entry["mixes"], grid["mixes"]) if name != UNTOUCHED]
    mixes = {name: with_defaults("mix", grid["mixes"][name]) for name in names}
    source = entry["weight_of"]
    shares = {name: float(mix["parts"].get(source, 0.0)) for name, mix in mixes.items()}
    labels = [label(grid, "mixes", name) for name in names if shares[name] == 1.0]
    units = [mixes[name]["by"] for name in names if 0 < shares[name] < 1]
    return {
        "source": (labels or [source])[0],
        "of": shares,
        "by": (units or [DEFAULTS["mix"]["by"]])[0],
    }

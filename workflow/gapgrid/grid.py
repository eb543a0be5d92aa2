"""Which cells exist, and what fixes each one's result.

A config dict in, strings out; the standard library alone. A *training cell* is (model, mix, seed), a *cell* is
(model, mix, seed, benchmark). A spec is the canonical JSON of everything that decides a job's result and of nothing
else: hardware, endpoints and labels stay out. A key that is off or at its default stays out too, so a new option
never re-runs a finished grid.
"""

import json
from collections.abc import Iterable
from typing import Any, NamedTuple

Grid = dict[str, Any]

# Bumped in the commit that changes what a stage computes; that re-runs the stage and what follows from it.
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
    "table": 3,
    "figure": 2,
    "shift": 1,
    "shift_figure": 1,
    "case": 1,
}

UNTOUCHED = "none"

# Values that mean the same as leaving the key out.
DEFAULTS: dict[str, dict[str, Any]] = {
    "recipe": {
        "format": "chat",
        "over_length": "drop",
        "batching": "padded",
        "warmup_ratio": 0.0,
        "min_lr_ratio": 0.0,
        "weight_decay": 0.0,
        "adam_betas": [0.9, 0.999],
        "max_grad_norm": 1.0,
        "lora": {},
    },
    "mix": {"by": "rows", "seed": 0},
    "benchmark": {"repeats": 1, "sampling": {}, "columns": {}},
    "source": {"columns": {}, "split": "train"},
    "judge": {"policy": "undecided", "sampling": {"temperature": 0}, "dtype": "auto", "verdict": "first_word"},
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


class TrainingCell(NamedTuple):
    """One trained (or, for the mix `none`, untouched) student."""

    model: str
    mix: str
    seed: int


class Cell(NamedTuple):
    """One training cell answering one benchmark."""

    model: str
    mix: str
    seed: int
    benchmark: str


def spec(stage: str, **content: Any) -> str:
    """Canonical JSON of what fixes one job's result, with its stage's version."""
    content = {"stage": stage, "version": VERSIONS[stage], **content}
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def off_default(kind: str, entry: dict[str, Any], *leave_out: str) -> dict[str, Any]:
    """The keys of a config entry that differ from their default, without labels and `leave_out`."""
    defaults = DEFAULTS.get(kind, {})
    skipped = {"label", *leave_out}
    return {key: value for key, value in entry.items() if key not in skipped and value != defaults.get(key, _UNSET)}


_UNSET = object()


# ---- which cells exist ----


def named(listed: str | list[str], everything: Iterable[str]) -> list[str]:
    """The names that an experiment lists, in its order; `all` is all of them in the order of their file."""
    return list(everything) if listed == "all" else list(listed)


def base_seed(grid: Grid, model: str, seed: int) -> int:
    """The seed of a student before training: its own for a tiny one, which is made anew per seed, 0 for any other."""
    return seed if grid["models"][model]["kind"] == "tiny" else 0


def experiment_cells(grid: Grid, experiment: str) -> list[Cell]:
    """The cells that one experiment shows, sorted, each once."""
    entry = grid["experiments"][experiment]
    cells = {
        Cell(model, mix, base_seed(grid, model, seed) if mix == UNTOUCHED else seed, benchmark)
        for model in named(entry["models"], grid["models"])
        for mix in named(entry["mixes"], grid["mixes"])
        for seed in grid["seeds"]
        for benchmark in named(entry["benchmarks"], grid["benchmarks"])
    }
    return sorted(cells)


def all_cells(grid: Grid) -> list[Cell]:
    """The cells that all experiments need together, sorted, each once."""
    return sorted({cell for experiment in grid["experiments"] for cell in experiment_cells(grid, experiment)})


def benchmarks_of(cells: Iterable[Cell]) -> dict[TrainingCell, list[str]]:
    """Training cell -> the benchmarks it answers, in the cells' order."""
    answered: dict[TrainingCell, list[str]] = {}
    for cell in cells:
        answered.setdefault(TrainingCell(*cell[:3]), []).append(cell.benchmark)
    return answered


# ---- what fixes each stage's result ----


def engine(grid: Grid, name: str, packages: dict[str, tuple[str, ...]] = ENGINE_PACKAGES) -> dict[str, str]:
    """An engine's name and the locked versions of what it computes with."""
    versions = grid["versions"]
    return {"name": name, **{package: versions[package] for package in packages[name] if package in versions}}


def _recipe(grid: Grid, recipe: str) -> dict[str, Any]:
    return off_default("recipe", grid["recipes"][recipe])


def tokenizer_spec(grid: Grid) -> str:
    """Of the tokenizer that counts tokens."""
    return spec("tokenizer", tokenizer=grid["tokenizer"])


def from_hub(grid: Grid) -> list[tuple[str, str]]:
    """(section, name) of every model that the grid takes from the hub: students, adopted checkpoints, a judge run in its job."""
    trained = {(cell.model, cell.mix, cell.seed) for cell in all_cells(grid)}
    found = [("models", name) for name in sorted({cell[0] for cell in trained}) if "hub" in grid["models"][name]]
    found += [
        ("adopted", "/".join(map(str, cell))) for cell in sorted(trained) if "hub" in grid["adopted"].get("/".join(map(str, cell)), ())
    ]
    return found + ([("judge", "judge")] if judge_is_fetched(grid) else [])


def judge_is_fetched(grid: Grid) -> bool:
    """Whether the judge's job loads a model of the hub; one that looks like a path is a local folder."""
    judge = grid["judge"]
    return judge["backend"] in ("hf", "vllm") and not judge["model"].startswith((".", "/"))


def fetch_spec(grid: Grid, section: str, name: str) -> str:
    """Of one model of the hub in its cache."""
    entry = {"hub": grid["judge"]["model"], **grid["judge"]} if section == "judge" else grid[section][name]
    return spec("fetch", **{key: entry[key] for key in ("hub", "revision") if key in entry})


def source_spec(grid: Grid, source: str) -> str:
    """Of one source's rows."""
    return spec("source", name=source, source=off_default("source", grid["sources"][source]))


def mix_spec(grid: Grid, mix: str) -> str:
    """Of one training mix."""
    return spec("mix", mix=off_default("mix", grid["mixes"][mix]))


def base_spec(grid: Grid, model: str, seed: int) -> str:
    """Of one student before training."""
    entry = grid["models"][model]
    if entry["kind"] != "tiny":
        return spec("base", **{key: entry[key] for key in ("kind", "hub", "revision", "path", "eos") if key in entry})
    return spec(
        "base",
        kind="tiny",
        corpus=entry["corpus"],
        architecture=entry["architecture"],
        recipe=_recipe(grid, entry["pretrain"]),
        seed=seed,
        engine=engine(grid, grid["engine"]["train"]),
    )


def is_adopted(grid: Grid, model: str, mix: str, seed: int) -> bool:
    """Whether a published checkpoint stands in for training."""
    return f"{model}/{mix}/{seed}" in grid["adopted"]


def train_spec(grid: Grid, model: str, mix: str, seed: int) -> str:
    """Of one student after training; what it is trained on comes in as a file. Of an adopted one, which checkpoint it is."""
    if is_adopted(grid, model, mix, seed):
        return spec("train", adopt=grid["adopted"][f"{model}/{mix}/{seed}"])
    return spec(
        "train",
        recipe=_recipe(grid, grid["models"][model]["recipe"]),
        seed=seed,
        engine=engine(grid, grid["engine"]["train"]),
    )


def problems_spec(grid: Grid, benchmark: str) -> str:
    """Of one benchmark's problem file."""
    entry = grid["benchmarks"][benchmark]
    return spec("problems", data=entry["data"], rows=entry["rows"], columns=entry.get("columns", {}))


def request_spec(grid: Grid, benchmark: str) -> str:
    """Of how a student is asked one benchmark, and by which engine."""
    entry = off_default("benchmark", grid["benchmarks"][benchmark], "data", "rows", "columns", "grader")
    return spec("request", evaluate=VERSIONS["evaluate"], engine=engine(grid, grid["engine"]["evaluate"]), **entry)


def evaluate_spec(grid: Grid) -> str:
    """Of the engine that answers. What it is asked comes in as request files: a benchmark less asks for no job."""
    return spec("evaluate", engine=engine(grid, grid["engine"]["evaluate"]))


def grade_spec(grid: Grid, benchmark: str) -> str:
    """Of the rule step of one benchmark."""
    return spec("grade", grader=grid["benchmarks"][benchmark]["grader"])


def selftest_spec(grid: Grid, benchmark: str) -> str:
    """Of the grader's test on one benchmark's own reference answers: it tests the rule step as it stands."""
    return spec("selftest", grade=VERSIONS["grade"], grader=grid["benchmarks"][benchmark]["grader"])


def judge_identity(grid: Grid) -> dict[str, Any]:
    """What a verdict depends on besides the pair and the prompt: never where the judge runs, nor which pairs it sees."""
    judge = grid["judge"]
    if judge["backend"] == "none":
        return {"engine": {"name": "none"}}
    entry = off_default("judge", judge, "base_url", "size", "backend", "policy", "prompt")
    return {"engine": engine(grid, judge["backend"], JUDGE_PACKAGES), "version": VERSIONS["judge"], **entry}


def _judged(grid: Grid) -> dict[str, Any]:
    judge = grid["judge"]
    is_all = judge["backend"] != "none" and judge.get("policy") == "all"
    return {"judge": judge_identity(grid), **({"policy": "all"} if is_all else {})}


def judge_spec(grid: Grid) -> str:
    """Of the judge, and which answers it sees. The pairs come in as files."""
    return spec("judge", **_judged(grid))


def score_spec(grid: Grid) -> str:
    """Of how a cell is scored: the judge whose verdicts are read."""
    return spec("score", **_judged(grid))


def audit_spec(grid: Grid) -> str:
    """Of the audit: its list of cells, so that one cell less re-runs it."""
    return spec("audit", cells=all_cells(grid))


def figure_spec(grid: Grid, experiment: str) -> str:
    """Of one experiment's figure: its kind, and the names shown in the order given."""
    entry = grid["experiments"][experiment]
    names = shown(grid, experiment)
    extra: dict[str, Any] = {}
    if "groups" in entry:
        extra["groups"] = _groups(entry["groups"], [name for name, _ in names["models"]])
    if "weight_of" in entry:
        extra["weights"] = _weights(grid, entry)
    confidence = grid["statistics"]["confidence"]
    return spec("figure", plot=entry["plot"], shown=names, contrast=entry.get("contrast"), confidence=confidence, **extra)


def shown(grid: Grid, experiment: str) -> dict[str, list[list[str]]]:
    """An experiment's students, mixes and benchmarks, each with its label, in the order in which it names them."""
    entry = grid["experiments"][experiment]
    return {
        kind: [[name, label(grid, kind, name)] for name in named(entry[kind], grid[kind])] for kind in ("models", "mixes", "benchmarks")
    }


def _groups(groups: dict[str, list[str]], models: list[str]) -> list[list[Any]]:
    """Groups of partners in the order in which the experiment names their students."""
    return [[name, groups[name]] for name in sorted(groups, key=lambda name: models.index(groups[name][0]))]


def _weights(grid: Grid, entry: dict[str, Any]) -> dict[str, Any]:
    """By mix, the weight of one source; what the source is called is what the mix of it alone is called."""
    source, mixes = entry["weight_of"], [name for name in named(entry["mixes"], grid["mixes"]) if name != UNTOUCHED]
    of = {name: float(grid["mixes"][name]["parts"].get(source, 0.0)) for name in mixes}
    alone = [label(grid, "mixes", name) for name in mixes if of[name] == 1.0]
    counted = [grid["mixes"][name].get("by", "rows") for name in mixes if 0 < of[name] < 1]
    return {"source": alone[0] if alone else source, "of": of, "by": (counted or ["rows"])[0]}


def label(grid: Grid, kind: str, name: str) -> str:
    """How a student, mix or benchmark is called in tables and figures."""
    return "untouched" if name == UNTOUCHED else grid[kind][name].get("label", name)

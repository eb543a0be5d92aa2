"""What fixes an experiment's table: its cells, the order in which they are shown, the protocol, and what spoils the comparison.

Like `grid`: a config dict in, strings out, the standard library alone. What is said of the protocol comes from the specs of
the stages, so that it cannot say anything else than what was done.
"""

import json
from typing import Any

from gapgrid import comparability, reference
from gapgrid import grid as g
from gapgrid.grid import Grid

VARIES = ["mix"]  # what an experiment that says nothing else compares


def table_spec(grid: Grid, experiment: str) -> str:
    """Of one experiment's table: its list of cells, so that one cell less re-runs it, and all that it says of them."""
    entry = grid["experiments"][experiment]
    cells = g.experiment_cells(grid, experiment)
    names = {kind: g.named(entry[kind], grid[kind]) for kind in ("models", "mixes", "benchmarks")}
    varies, compared = entry.get("varies", VARIES), settings(grid, cells, [*names["models"], *names["mixes"]])
    return g.spec(
        "table",
        cells=cells,
        caption=entry.get("caption", ""),
        contrast=entry.get("contrast"),
        statistics=grid["statistics"],
        models={model: student(grid, model) for model in names["models"]},
        shown=g.shown(grid, experiment),
        singles=single_sources(grid, names["mixes"]),
        by_benchmark=entry.get("by_benchmark", True),
        varies=sorted(varies),
        differs=comparability.within(compared, varies),
        between=comparability.between(compared),
        protocol=protocol(grid, experiment),
        reference=reference.shown(grid.get("reference", []), names["models"], names["mixes"], names["benchmarks"], entry.get("contrast")),
    )


def student(grid: Grid, model: str) -> dict[str, Any]:
    """What a table says of one student; `student` is the same for all entries that name the same one."""
    entry = grid["models"][model]
    return {"family": entry["family"], "params_b": entry["params_b"], "student": identity(entry)}


def identity(entry: dict[str, Any]) -> str:
    """Who a student is before training: its repository and revision, its folder, or its shape."""
    if entry["kind"] == "tiny":
        return json.dumps(entry["architecture"], sort_keys=True)
    return f"{entry['hub']}@{entry.get('revision', 'main')}" if "hub" in entry else str(entry["path"])


def single_sources(grid: Grid, mixes: list[str]) -> dict[str, list[str]]:
    """Mix of several sources -> the experiment's mixes of each of them alone, where it has them all."""
    alone = {next(iter(grid["mixes"][mix]["parts"])): mix for mix in mixes if mix != g.UNTOUCHED and len(grid["mixes"][mix]["parts"]) == 1}
    found = {}
    for mix in mixes:
        parts = grid["mixes"][mix]["parts"] if mix != g.UNTOUCHED else {}
        if len(parts) > 1 and all(source in alone for source in parts):
            found[mix] = sorted(alone[source] for source in parts)
    return found


# ---- what is compared ----


def settings(grid: Grid, cells: list[g.Cell], order: list[str]) -> list[comparability.Settings]:
    """Each training cell's settings by topic, in the `order` of students and training sets. An untouched student has no recipe."""
    training_cells = dict.fromkeys(g.TrainingCell(*cell[:3]) for cell in cells)
    found = []
    for model, mix, seed in sorted(training_cells, key=lambda cell: (order.index(cell.model), order.index(cell.mix), cell.seed)):
        values = {("mix", "mix"): mix, **_before(grid, model, seed), **_training(grid, model, mix, seed)}
        found.append(comparability.Settings(identity(grid["models"][model]), model, mix, values))
    return found


def _before(grid: Grid, model: str, seed: int) -> dict[comparability.Key, Any]:
    """How a tiny student was pretrained; of any other, what its entry says besides its identity."""
    made = json.loads(g.base_spec(grid, model, seed))
    if made["kind"] != "tiny":
        identified = ("stage", "version", "kind", "hub", "revision", "path")
        return {("base", key): value for key, value in made.items() if key not in identified}
    return {("base", "corpus"): made["corpus"], **_recipe("base", "pretraining ", made["recipe"])}


def _training(grid: Grid, model: str, mix: str, seed: int) -> dict[comparability.Key, Any]:
    if mix == g.UNTOUCHED:
        return {}
    made = json.loads(g.train_spec(grid, model, mix, seed))
    if "adopt" in made:
        return {("adopted", "training"): "adopted, its settings unknown"}
    about = {("adopted", "training"): "here", ("engine", "training engine"): _versions(made["engine"])}
    return {**about, **_recipe("recipe", "", made["recipe"])}


def _recipe(topic: str, prefix: str, recipe: dict[str, Any]) -> dict[comparability.Key, Any]:
    return {(topic, prefix + key): value for key, value in {**g.DEFAULTS["recipe"], **recipe}.items()}


# ---- what was done ----


def protocol(grid: Grid, experiment: str) -> list[str]:
    """How the experiment's cells come about, a line each: training, asking, judging, intervals."""
    entry = grid["experiments"][experiment]
    cells = g.experiment_cells(grid, experiment)
    trained = [cell for cell in g.benchmarks_of(cells) if cell.mix != g.UNTOUCHED]
    trained.sort(key=lambda cell: g.named(entry["models"], grid["models"]).index(cell.model))
    return [
        *_training_lines(grid, trained),
        *_benchmark_lines(grid, g.named(entry["benchmarks"], grid["benchmarks"])),
        f"answering engine: {_versions(json.loads(g.evaluate_spec(grid))['engine'])}",
        _judge_line(json.loads(g.score_spec(grid))),
        _statistics_line(grid["statistics"]),
    ]


def _training_lines(grid: Grid, trained: list[g.TrainingCell]) -> list[str]:
    recipes: dict[str, dict[str, Any]] = {}
    engines: dict[str, None] = {}
    adopted: list[str] = []
    for cell in trained:
        made = json.loads(g.train_spec(grid, *cell))
        if "adopt" in made:
            source = made["adopt"].get("hub", "a local folder")
            adopted.append(f"adopted, trained elsewhere: {'/'.join(map(str, cell))} is {source}")
            continue
        recipes[cell.model] = made["recipe"]
        engines[_versions(made["engine"])] = None
    return [*_recipe_lines(recipes), *(f"training engine: {engine}" for engine in engines), *adopted]


def _recipe_lines(recipes: dict[str, dict[str, Any]]) -> list[str]:
    """What all students' recipes say, then what each says by itself."""
    parts = []
    for key in sorted({key for recipe in recipes.values() for key in recipe}):
        holders: dict[str, list[str]] = {}
        for model, recipe in recipes.items():
            holders.setdefault(_plain(recipe.get(key, g.DEFAULTS["recipe"].get(key))), []).append(model)
        parts.append(
            (len(holders), ", ".join(f"{key} {text}" + (f" ({', '.join(of)})" if len(holders) > 1 else "") for text, of in holders.items()))
        )
    return [f"training: {'; '.join(text for _, text in sorted(parts, key=lambda part: part[0] > 1))}"] if parts else []


def _benchmark_lines(grid: Grid, benchmarks: list[str]) -> list[str]:
    """How benchmarks are asked and graded; those that are asked alike share a line."""
    alike: dict[str, list[str]] = {}
    for name in benchmarks:
        alike.setdefault(_asked(grid, name), []).append(g.label(grid, "benchmarks", name))
    return [f"{', '.join(labels)}: {said}" for said, labels in alike.items()]


def _asked(grid: Grid, benchmark: str) -> str:
    asked = json.loads(g.request_spec(grid, benchmark))
    repeats, sampling = asked.get("repeats", 1), asked.get("sampling", {})
    how = ", ".join(f"{key} {_plain(value)}" for key, value in sorted(sampling.items())) or "greedy"
    rest = [
        f"{key} {_plain(asked[key])}"
        for key in sorted(asked.keys() - {"stage", "version", "evaluate", "engine", "task", "repeats", "sampling", "max_tokens"})
    ]
    said = [
        f"task {asked['task']}",
        f"{grid['benchmarks'][benchmark]['rows']:,} problems",
        how,
        f"{repeats} answer{'s' if repeats > 1 else ''} each of at most {asked['max_tokens']:,} tokens",
        *rest,
        f"graded by {json.loads(g.grade_spec(grid, benchmark))['grader']}",
    ]
    return ", ".join(said)


def _judge_line(made: dict[str, Any]) -> str:
    judge = made["judge"]
    if judge["engine"]["name"] == "none":
        return "judge: none; an answer that no rule accepts is not right"
    sees = "every answer that no rule accepts" if made.get("policy") == "all" else "answers that rules leave undecided"
    kept = {key: value for key, value in judge.items() if key not in ("engine", "version", "model", "revision", "replies")}
    how = ", ".join(f"{key} {_plain(value)}" for key, value in sorted(kept.items()))
    revision = f" at {judge['revision']}" if "revision" in judge else ""
    replies = "; ".join(f"{kind}: {', '.join(words)}" for kind, words in sorted(judge.get("replies", {}).items()))
    return f"judge: {judge.get('model')}{revision}, {_versions(judge['engine'])}, sees {sees}; {how}; {replies}"


def _statistics_line(options: dict[str, Any]) -> str:
    return (
        f"intervals: {100 * options['confidence']:g} %, {options['resamples']:,} bootstrap resamples (seed {options['seed']}) over "
        "questions, paired, and over training seeds where there are several; signs after Holm's correction over the gaps of a benchmark"
    )


def _versions(engine: dict[str, str]) -> str:
    return ", ".join([engine["name"], *(f"{package} {version}" for package, version in sorted(engine.items()) if package != "name")])


def _plain(value: Any) -> str:
    if isinstance(value, str):
        return value
    return f"{value:g}" if isinstance(value, float) else json.dumps(value, sort_keys=True)

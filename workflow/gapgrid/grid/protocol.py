"""The methods text of a grid's report: every setting that decides a number, in words.

It is written from the specs of the stages, so that it cannot differ from what they do.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from gapgrid.core.cells import UNTOUCHED, TrainingCell
from gapgrid.core.spec_types import with_defaults
from gapgrid.grid.cells import Grid, all_cells, benchmarks_of, experiment_cells, label, named
from gapgrid.grid.specs import (
    evaluate_spec,
    grade_spec,
    mix_spec,
    request_spec,
    score_spec,
    train_spec,
)

Section = tuple[str, list[str]]


def methods(grid: Grid) -> list[Section]:
    """Return the headings of the methods text, each with its lines.

    These are students, training sets, their sources, and how answers and intervals come about.
    """
    cells = all_cells(grid)
    models = _used(grid["models"], (cell.model for cell in cells))
    mixes = _used(grid["mixes"], (cell.mix for cell in cells))
    benchmarks = _used(grid["benchmarks"], (cell.benchmark for cell in cells))
    parts = (source for mix in mixes for source in grid["mixes"][mix]["parts"])
    sources = [
        f"{label(grid, 'sources', name)}: {_origin(grid['sources'][name])}"
        for name in _used(grid["sources"], parts)
    ]
    everything = {"models": models, "mixes": mixes, "benchmarks": benchmarks}
    seeds = f"seed{'s' if len(grid['seeds']) > 1 else ''} {', '.join(map(str, grid['seeds']))}"
    return [
        (f"Students, each with training {seeds}", [_student(grid, model) for model in models]),
        ("Training sets", [_mix(grid, mix) for mix in mixes]),
        ("Sources of training rows", sources),
        (
            "Training, answering, grading, intervals",
            protocol({**grid, "experiments": {"grid": everything}}, "grid"),
        ),
    ]


def _used(names: Iterable[str], used: Iterable[str]) -> list[str]:
    wanted = set(used)
    return [name for name in names if name in wanted]


def _student(grid: Grid, model: str) -> str:
    entry = grid["models"][model]
    n_parameters = f"{1e9 * entry['params_b']:,.0f} parameters"
    if entry["kind"] == "tiny":
        shape, corpus = _settings(entry["architecture"]), entry["corpus"]
        pretrained = f"pretrained on {corpus} with recipe {entry['pretrain']}"
        origin = f"built here ({shape}) and {pretrained}"
    else:
        origin = _origin(entry)
    name = label(grid, "models", model)
    return f"{name} ({entry['family']}, {n_parameters}): {origin}, recipe {entry['recipe']}"


def _mix(grid: Grid, name: str) -> str:
    entry = json.loads(mix_spec(grid, name))["mix"]
    parts = [
        f"{share:g} {label(grid, 'sources', source)}" for source, share in entry["parts"].items()
    ]
    rest = [f"{key} {value}" for key, value in entry.items() if key not in ("parts", "by")]
    unit = with_defaults("mix", entry)["by"]
    return f"{label(grid, 'mixes', name)}: {', '.join([*parts, *rest])}, shares by {unit}"


def _origin(entry: dict[str, Any]) -> str:
    """Return repository and revision, a local file, or a generator with its settings."""
    if "hub" in entry:
        return f"{entry['hub']} at {entry.get('revision', 'main')}"
    if "path" in entry:
        return str(entry["path"])
    builtin = entry["builtin"]
    return f"made here: {_settings(builtin) if isinstance(builtin, dict) else builtin}"


# ---- the protocol of one experiment ----


def protocol(grid: Grid, experiment: str) -> list[str]:
    """Return how the experiment's cells are trained, evaluated, judged and compared, in lines."""
    entry = grid["experiments"][experiment]
    models = named(entry["models"], grid["models"])
    cells = benchmarks_of(experiment_cells(grid, experiment))
    trained = [cell for cell in cells if cell.mix != UNTOUCHED]
    trained.sort(key=lambda cell: models.index(cell.model))
    return [
        *_training_lines(grid, trained),
        *_benchmark_lines(grid, named(entry["benchmarks"], grid["benchmarks"])),
        f"answering engine: {engine_text(json.loads(evaluate_spec(grid))['engine'])}",
        _judge_line(json.loads(score_spec(grid))),
        _statistics_line(grid["statistics"]),
    ]


def _training_lines(grid: Grid, trained: list[TrainingCell]) -> list[str]:
    recipes: dict[str, dict[str, Any]] = {}
    engines: dict[str, None] = {}
    adopted: list[str] = []
    for cell in trained:
        spec = json.loads(train_spec(grid, *cell))
        if "adopt" in spec:
            source = spec["adopt"].get("hub", "a local folder")
            adopted.append(f"adopted, trained elsewhere: {cell} is {source}")
        else:
            recipes[cell.model] = spec["recipe"]
            engines[engine_text(spec["engine"])] = None
    return [
        *([_recipe_line(recipes)] if recipes else []),
        *(f"training engine: {engine}" for engine in engines),
        *adopted,
    ]


def _recipe_line(recipes: dict[str, dict[str, Any]]) -> str:
    """Return the settings that all students share, then those that differ, with their students."""
    shared: list[str] = []
    differing: list[str] = []
    for key in sorted({key for recipe in recipes.values() for key in recipe}):
        models: dict[str, list[str]] = {}
        for model, recipe in recipes.items():
            value = with_defaults("recipe", recipe).get(key)
            models.setdefault(f"{key} {_plain(value)}", []).append(model)
        if len(models) == 1:
            shared += models
        else:
            values = [f"{text} ({', '.join(names)})" for text, names in models.items()]
            differing.append(", ".join(values))
    return f"training: {'; '.join(shared + differing)}"


def _benchmark_lines(grid: Grid, benchmarks: list[str]) -> list[str]:
    """Return how benchmarks are answered and graded; benchmarks treated alike share a line."""
    labels: dict[str, list[str]] = {}
    for name in benchmarks:
        labels.setdefault(_benchmark(grid, name), []).append(label(grid, "benchmarks", name))
    return [f"{', '.join(names)}: {text}" for text, names in labels.items()]


def _benchmark(grid: Grid, benchmark: str) -> str:
    request = with_defaults("benchmark", json.loads(request_spec(grid, benchmark)))
    repeats, n_rows = request["repeats"], grid["benchmarks"][benchmark]["rows"]
    named_apart = {"task", "repeats", "sampling", "max_tokens"}
    no_setting = {"stage", "version", "evaluate", "engine", "columns"}
    rest = {key: request[key] for key in sorted(request.keys() - named_apart - no_setting)}
    answers = f"{repeats} answer{'s' if repeats > 1 else ''} each"
    return ", ".join(
        [
            f"task {request['task']}",
            f"{n_rows:,} problems",
            _settings(dict(sorted(request["sampling"].items()))) or "greedy",
            f"{answers} of at most {request['max_tokens']:,} tokens",
            *([_settings(rest)] if rest else []),
            f"graded by {json.loads(grade_spec(grid, benchmark))['grader']}",
        ]
    )


def _judge_line(spec: dict[str, Any]) -> str:
    judge = spec["judge"]
    if judge["engine"]["name"] == "none":
        return "judge: none; an answer that no rule accepts is not right"
    sees_all = spec.get("policy") == "all"
    seen = "every answer that no rule accepts" if sees_all else "answers that rules leave undecided"
    named_apart = {"engine", "version", "model", "revision", "replies"}
    settings = _settings({key: judge[key] for key in sorted(judge.keys() - named_apart)})
    revision = f" at {judge['revision']}" if "revision" in judge else ""
    replies = "; ".join(
        f"{verdict}: {', '.join(words)}"
        for verdict, words in sorted(judge.get("replies", {}).items())
    )
    model = f"{judge.get('model')}{revision}, {engine_text(judge['engine'])}"
    return f"judge: {model}, sees {seen}; {settings}; {replies}"


def _statistics_line(options: dict[str, Any]) -> str:
    return (
        f"intervals: {100 * options['confidence']:g} %, "
        f"{options['resamples']:,} bootstrap resamples (seed {options['seed']}) over questions, "
        "paired, and over training seeds where there are several; "
        "signs after Holm's correction over all gaps of an experiment, of its students on each "
        "benchmark and on average together; over its gains, and its mixes less their best source, "
        "likewise"
    )


def engine_text(engine: dict[str, str]) -> str:
    """Return an engine's name and its packages' versions, sorted: `hf, lm_eval 0.4, torch 2`."""
    packages = sorted(engine.keys() - {"name"})
    return ", ".join([engine["name"], *(f"{package} {engine[package]}" for package in packages)])


def _settings(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {_plain(value)}" for key, value in settings.items())


def _plain(value: Any) -> str:
    if isinstance(value, str):
        return value
    return f"{value:g}" if isinstance(value, float) else json.dumps(value, sort_keys=True)


def report_labels(grid: Grid, experiment: str) -> dict[str, str]:
    """Return how the report lists an experiment: names by kind, or how many if they are many."""
    entry = grid["experiments"][experiment]
    kinds = {"students": "models", "trained on": "mixes", "benchmarks": "benchmarks"}
    names = {
        title: [label(grid, kind, name) for name in named(entry[kind], grid[kind])]
        for title, kind in kinds.items()
    }
    names["seeds"] = list(map(str, grid["seeds"]))
    shown = {title: ", ".join(of) if len(of) < 5 else str(len(of)) for title, of in names.items()}
    return {"experiment": experiment, **shown}

"""Every result that a grid's configuration asks for: its manifest, spec, inputs, targets, log."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from gapgrid.core import layout
from gapgrid.core.cells import Cell, TrainingCell
from gapgrid.core.records import Row, sha256_file
from gapgrid.grid.cells import Grid, all_cells, base_seed, benchmarks_of, experiment_cells
from gapgrid.grid.jobs import STAGES, Names, jobs
from gapgrid.grid.qualitative import shift_cells
from gapgrid.grid.specs import is_adopted, request_spec

# A file to hash; or a manifest, and its output whose digest counts.
Source = tuple[Path, str | None]


class Expected(NamedTuple):
    """A result that the configuration asks for: its manifest `path` and the expected content.

    `inputs`: name in the manifest -> where that input is now. `after`: manifests that this result
    is built after, and again when they are. `needs`: those that must exist when it is built,
    whether it follows them or not. `targets`: files that are built again when deleted. `requests`:
    benchmark -> its request file and what that should hold. `local`: files of the user's that are
    read.
    """

    stage: str
    name: str
    path: Path
    spec: Row
    log: Path
    inputs: dict[str, Source]
    after: tuple[Path, ...]
    needs: tuple[Path, ...]
    targets: tuple[Path, ...]
    requests: dict[str, tuple[Path, str]]
    local: tuple[Path, ...]


def expected(grid: Grid, results: Path, logs: Path) -> Iterator[Expected]:
    """Yield every result of a finished grid, in the order of the flow."""
    requests = {cell.benchmark: _request(grid, cell.benchmark) for cell in all_cells(grid)}
    answered = benchmarks_of(all_cells(grid))
    for stage, names, spec in jobs(grid):
        benchmarks = list(requests)
        request_files: dict[str, tuple[Path, str]] = {}
        if stage in ("evaluate", "grade", "shift"):
            cell = TrainingCell(*names[:3])
            benchmarks = list(names[3:]) or answered[cell]
            request_files = {
                name: (results / layout.path("request", *cell, name), requests[name])
                for name in benchmarks
            }
        inputs = _inputs(grid, results, stage, names)
        after = _after(results, stage, names, inputs)
        needs = _needs(grid, results, stage, names, benchmarks)
        log = layout.log(stage).format(**dict(zip(layout.wildcards(stage), names, strict=True)))
        targets = (layout.path(stage, *names, file=file) for file in STAGES[stage].targets)
        yield Expected(
            stage,
            "/".join(map(str, names)),
            results / layout.path(stage, *names),
            json.loads(spec),
            logs / log,
            inputs,
            after,
            tuple({*after, *_manifests(inputs.values()), *needs}),
            tuple(results / target for target in targets),
            request_files,
            _local(grid, stage, names),
        )


def _request(grid: Grid, benchmark: str) -> str:
    """Return what rule `request` writes: the spec, and the digest of the lm-eval task file."""
    task = Path(grid["folder"]) / "tasks" / f"{grid['benchmarks'][benchmark]['task']}.yaml"
    digest = sha256_file(task) if task.is_file() else ""
    return f"{request_spec(grid, benchmark)}\n{digest}  -\n"


def _local(grid: Grid, stage: str, names: Names) -> tuple[Path, ...]:
    entry: Row = {}
    if stage == "source":
        entry = grid["sources"][names[0]]
    elif stage == "problems":
        entry = grid["benchmarks"][names[0]]["data"]
    return (Path(entry["path"]),) if "path" in entry else ()


def _inputs(grid: Grid, results: Path, stage: str, names: Names) -> dict[str, Source]:
    """Return where each input in a manifest is now. What is not listed is not compared."""

    def file_of(stage: str, *names: Any, file: str = "") -> Source:
        return results / layout.path(stage, *names, file=file), None

    def output_of(stage: str, name: str, file: str) -> Source:
        return results / layout.path(stage, name), file

    def each(cells: list[Cell], stage: str, file: str = "") -> dict[str, Source]:
        return {str(cell): file_of(stage, *cell, file=file) for cell in cells}

    match stage:
        case "mix":
            parts = grid["mixes"][names[0]]["parts"]
            return {source: output_of("source", source, "rows.jsonl") for source in parts}
        case "selftest":
            return {"problems": output_of("problems", names[0], "problems.jsonl")}
        case "base" if corpus := grid["models"][names[0]].get("corpus"):
            tokenizer = results / layout.path("tokenizer"), "tokenizer.json"
            return {"tokenizer": tokenizer, "corpus": output_of("source", corpus, "rows.jsonl")}
        case "train":
            base: dict[str, Source] = {"base": (_base(grid, results, names), None)}
            adopted = is_adopted(grid, *names)
            return base | ({} if adopted else {"data": output_of("mix", names[1], "train.jsonl")})
        case "evaluate":
            return {"train": file_of("train", *names)}
        case "grade" | "shift":
            return {
                "train": file_of("train", *names[:3]),
                "request": file_of("request", *names),
                "problems": output_of("problems", names[3], "problems.jsonl"),
            }
        case "judge":
            has_judge = grid["judge"]["backend"] != "none"
            prompt: dict[str, Source] = {"prompt": (Path(grid["judge"]["prompt"]), None)}
            return (prompt if has_judge else {}) | each(all_cells(grid), "grade")
        case "score":
            return {"grade": file_of("grade", *names)}
        case "audit":  # under a cell's bare name its manifest holds one digest of several files
            cells = each(all_cells(grid), "score")
            return {f"score {name}": source for name, source in cells.items()}
        case "table":
            return each(experiment_cells(grid, names[0]), "score", "score.json")
        case "case":
            return each(experiment_cells(grid, names[0]), "score")
        case "shift_figure":
            notes = {"notes": file_of("table", *names, file="notes.json")}
            return notes | each(shift_cells(grid, names[0]), "shift")
        case "figure":
            return {"estimates": file_of("table", *names, file="estimates.csv")}
    return {}


def _base(grid: Grid, results: Path, names: Names) -> Path:
    """Return the manifest of the untouched student of a training cell."""
    return results / layout.path("base", names[0], base_seed(grid, names[0], names[2]))


def _manifests(inputs: Iterable[Source]) -> tuple[Path, ...]:
    return tuple(path for path, _ in inputs if path.name == "manifest.json")


def _after(results: Path, stage: str, names: Names, inputs: dict[str, Source]) -> tuple[Path, ...]:
    """Return the manifests that a result follows."""
    if stage == "table":
        return tuple(path.with_name("manifest.json") for path, _ in inputs.values())
    tables = [results / layout.path("table", *names)] if stage in ("figure", "shift_figure") else []
    # A mix is a checkpoint: built again with the same bytes it trains nothing, so training does not
    # follow it.
    followed = [source for name, source in inputs.items() if (stage, name) != ("train", "data")]
    return (*tables, *_manifests(followed))


def _needs(
    grid: Grid, results: Path, stage: str, names: Names, benchmarks: list[str]
) -> Iterator[Path]:
    """Yield what a result is built from besides its inputs: graders' tests, batch manifests."""
    if stage in ("base", "train"):
        yield from (results / layout.path("selftest", benchmark) for benchmark in benchmarks)
    if stage == "evaluate":
        yield from (results / layout.path("problems", benchmark) for benchmark in benchmarks)
    if stage == "grade":
        yield results / layout.path("evaluate", *names[:3])
    if stage == "score":
        yield results / layout.path("judge")
    if stage == "shift":
        yield _base(grid, results, names)
        yield results / layout.path("grade", *names)

"""Every result that a grid's configuration asks for: its manifest, the spec it should have, what it is made from, its log."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from gapgrid import closeups
from gapgrid import grid as g
from gapgrid.commands import verify
from gapgrid.records import Row, sha256_file

Source = tuple[Path, str | None]  # a file to hash; or a manifest, and the output in it whose digest counts


class Artefact(NamedTuple):
    """What the configuration asks for at `path`: its manifest, and what that should say."""

    stage: str
    name: str
    path: Path
    spec: Row
    inputs: dict[str, Source]
    after: tuple[Path, ...]  # manifests whose being made anew makes this one anew
    needs: tuple[Path, ...]  # those that have to be there when it is made, whether it follows them or not
    log: Path
    requests: dict[str, tuple[Path, str]]  # benchmark -> the file that says how it is asked, and what that should hold
    local: tuple[Path, ...]  # files of the user's: newer than the manifest, they are read anew


def artefacts(grid: g.Grid, results: Path, logs: Path) -> Iterator[Artefact]:
    """Every result that the configuration asks for, in the order of the flow."""
    asked = {name: _request(grid, name) for name in sorted({cell.benchmark for cell in g.all_cells(grid)})}
    of_cell = g.benchmarks_of(g.all_cells(grid))
    for path, text in verify.expected(grid, results):
        spec = json.loads(text)
        stage, parts = spec["stage"], path.relative_to(results).parts
        names = [parts[-1].removesuffix(".manifest.json")] if parts[-1].endswith(".manifest.json") else list(parts[1:-1])
        if stage == "base":
            names.remove(g.UNTOUCHED)
        inputs = _inputs(grid, results, stage, names)
        log = logs.joinpath(stage, *names)
        log = log.with_name(f"{log.name}.log")
        benchmarks = of_cell[g.TrainingCell(names[0], names[1], int(names[2]))] if stage == "evaluate" else []
        benchmarks = names[3:] if stage in ("grade", "shift") else benchmarks
        requests = {name: (results.joinpath("requests", *names[:3], f"{name}.spec"), asked[name]) for name in benchmarks}
        after = _after(stage, inputs)
        needs = tuple({*after, *_needs(grid, results, stage, names, inputs, benchmarks or list(asked))})
        name, local = "/".join(names), _local(grid, stage, names)
        yield Artefact(stage, name, path, spec, inputs, after, needs, log, requests, local)


def _request(grid: g.Grid, benchmark: str) -> str:
    """What rule `request` writes: the spec, and the digest of the lm-eval task file."""
    task = Path(grid["folder"]) / "tasks" / f"{grid['benchmarks'][benchmark]['task']}.yaml"
    return f"{g.request_spec(grid, benchmark)}\n{sha256_file(task) if task.is_file() else ''}  -\n"


def _local(grid: g.Grid, stage: str, names: list[str]) -> tuple[Path, ...]:
    of = {"source": lambda: grid["sources"][names[0]], "problems": lambda: grid["benchmarks"][names[0]]["data"]}
    entry = of[stage]() if stage in of else {}
    return (Path(entry["path"]),) if "path" in entry else ()


def _inputs(grid: g.Grid, results: Path, stage: str, names: list[str]) -> dict[str, Source]:
    """What a stage's manifest names as read, and where that is now; what is not listed is not compared."""
    name = "/".join(names)
    problems: Source = (results / "problems" / names[-1] / "manifest.json", "problems.jsonl") if names else (results, None)
    if stage == "mix":
        return {source: (results / f"sources/{source}/manifest.json", "rows.jsonl") for source in grid["mixes"][name]["parts"]}
    if stage == "selftest":
        return {"problems": problems}
    if stage == "base" and (corpus := grid["models"][names[0]].get("corpus")):
        rows = (results / f"sources/{corpus}/manifest.json", "rows.jsonl")
        return {"tokenizer": (results / "tokenizer/manifest.json", "tokenizer.json"), "corpus": rows}
    if stage == "train":
        model, mix, seed = names
        base = results / f"train/{model}/none/{g.base_seed(grid, model, int(seed))}/manifest.json"
        is_adopted = g.is_adopted(grid, model, mix, int(seed))
        return {"base": (base, None), **({} if is_adopted else {"data": (results / f"mixes/{mix}/manifest.json", "train.jsonl")})}
    if stage == "evaluate":
        return {"train": (results / f"train/{name}/manifest.json", None)}
    if stage in ("grade", "shift"):
        trained = results.joinpath("train", *names[:3], "manifest.json")
        return {"train": (trained, None), "request": (results / f"requests/{name}.spec", None), "problems": problems}
    if stage == "score":
        return {"grade": (results / f"grade/{name}/manifest.json", None)}
    if stage == "judge":
        prompt: dict[str, Source] = {"prompt": (Path(grid["judge"]["prompt"]), None)} if grid["judge"]["backend"] != "none" else {}
        return prompt | {cell: (results / f"grade/{cell}/manifest.json", None) for cell in _cells(grid)}
    if stage == "audit":  # its manifest holds one digest of several files of a cell, under the cell's bare name
        return {f"score {cell}": (results / f"score/{cell}/manifest.json", None) for cell in _cells(grid)}
    if stage == "table":
        return {cell: (results / f"score/{cell}/score.json", None) for cell in _cells(grid, name)}
    if stage == "case":
        return {cell: (results / f"score/{cell}/manifest.json", None) for cell in _cells(grid, name)}
    if stage == "shift_figure":
        ranked = _joined(closeups.shift_cells(grid, name))
        notes: Source = (results / f"tables/{name}.notes.json", None)
        return {"notes": notes} | {cell: (results / f"shift/{cell}/manifest.json", None) for cell in ranked}
    return {"estimates": (results / f"tables/{name}.estimates.csv", None)} if stage == "figure" else {}


def _cells(grid: g.Grid, experiment: str | None = None) -> list[str]:
    return _joined(g.experiment_cells(grid, experiment) if experiment else g.all_cells(grid))


def _joined(cells: list[g.Cell]) -> list[str]:
    return ["/".join(map(str, cell)) for cell in cells]


def _after(stage: str, inputs: dict[str, Source]) -> tuple[Path, ...]:
    """The manifests that a result follows. A mix is a gate: made anew and the same, it trains nothing, so none follows it."""
    if stage == "table":
        return tuple(path.with_name("manifest.json") for path, _ in inputs.values())
    if stage in ("figure", "shift_figure"):
        return tuple(path.with_name(re.sub(r"\.(estimates\.csv|notes\.json)$", ".manifest.json", path.name)) for path, _ in inputs.values())
    gates = {"data"} if stage == "train" else set()
    return tuple(path for name, (path, _) in inputs.items() if path.name == "manifest.json" and name not in gates)


def _needs(grid: g.Grid, results: Path, stage: str, names: list[str], inputs: dict[str, Source], benchmarks: list[str]) -> Iterator[Path]:
    """What a result is made from and does not follow: a mix, the graders' tests, the stamps, the problems that are asked."""
    yield from (path for path, _ in inputs.values() if path.name == "manifest.json")
    if stage in ("base", "train"):
        yield from (results / f"selftest/{benchmark}/manifest.json" for benchmark in benchmarks)
    if stage == "evaluate":
        yield from (results / f"problems/{benchmark}/manifest.json" for benchmark in benchmarks)
    if stage == "grade":
        yield results.joinpath("evaluate", *names[:3], "manifest.json")
    if stage == "score":
        yield results / "judge/round.json"
    if stage == "shift":
        yield results.joinpath("train", names[0], g.UNTOUCHED, str(g.base_seed(grid, names[0], int(names[2]))), "manifest.json")
        yield results.joinpath("grade", *names, "manifest.json")

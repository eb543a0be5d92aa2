"""The grid page's side files: the details of a training cell or cell, which it loads on demand.

A page opened from a disk may not read files, it may only load scripts. A side file is therefore one
call of a function of the page with JSON values: pure ASCII, `<` and `>` escaped, so that no text in
it can end the script or be anything but data. Model outputs are in there as they are; the page sets
them as text, never as markup.
"""

import csv
import json
import math
from collections.abc import Callable, Iterable, Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from gapgrid.core import layout, records
from gapgrid.core.cells import UNTOUCHED, Cell, TrainingCell
from gapgrid.core.records import InputError, Row, canonical, sha256_text, write_text
from gapgrid.core.rows import GradedRow, SampleRow, VerdictRow, outcome, read_cell
from gapgrid.grid.cells import Grid, base_seed, benchmarks_of
from gapgrid.state import status as st

FORMAT = 1  # of a side file; a higher one writes all of them again
MOST_SAMPLES = 200  # of a cell
MOST_CHARACTERS = 150_000  # of a cell's samples together
MOST_OF_TEXT = 4_000  # characters; of a longer text its two ends
LOG_LINES = 40
N_BINS = 24
BLUE = "#0072B2"
COLOURS = {"right": BLUE, "wrong": "#E69F00", "unparsed": "#CC79A7", "truncated": "#444444"}
PATTERNS = {"right": "", "wrong": "/", "unparsed": ".", "truncated": "x"}
KINDS = tuple(COLOURS)
# Kinds of answers in the order in which they are sampled.
SAMPLED = ("wrong", "right", "truncated", "judged", "unparsed")
T = TypeVar("T")


def as_script(call: str, *values: Any) -> str:
    """Return one call with JSON values, safe in a script element and in a file of its own."""
    return f"{call}({', '.join(embedded(value) for value in values)});\n"


def embedded(value: Any) -> str:
    """Return JSON in ASCII without `<`, `>` and `&`: nothing in it can end or start an element.

    What is not finite is null.
    """
    text = json.dumps(_finite(value), ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _if_readable(read: Callable[[Path], T], path: Path) -> T | None:
    """Return a file's content, None if it is missing or broken: the page shows what exists."""
    try:
        return read(path)
    except (InputError, OSError):
        return None


# ---- a training cell ----


def card(grid: Grid, results: Path, times: Path, cell: TrainingCell, steps: list[st.Status]) -> Row:
    """Return what one training cell is made of and how its jobs went.

    `steps` are those of all its cells, each once; `times` is the folder of measured times.
    """
    entry, is_trained = grid["models"][cell.model], cell.mix != UNTOUCHED
    recipe = entry["recipe"] if is_trained else entry.get("pretrain")
    config = {f"models.yaml: {cell.model}": entry}
    if is_trained:
        config[f"mixes.yaml: {cell.mix}"] = grid["mixes"][cell.mix]
    if recipe:
        config[f"recipes.yaml: {recipe}"] = grid["recipes"][recipe]
    data_card = results / layout.path("mix", cell.mix, file="card.json")
    metrics = results / layout.path("train", *cell, file="metrics.jsonl")
    base = f"base/{cell.model}/{base_seed(grid, cell.model, cell.seed)}"
    trained = f"train/{cell}" if is_trained else base
    return {
        "config": config,
        "steps": [
            {"title": st.title(step.result), "state": step.state, "reasons": list(step.reasons)}
            for step in steps
        ],
        "specs": {st.title(step.result): step.result.spec for step in steps},
        "data": _if_readable(records.read_json, data_card) if is_trained else None,
        "loss": loss_figure(_if_readable(records.read_jsonl, metrics) or []),
        "times": dict(_times(times, trained, f"evaluate/{cell}")),
        "versions": _versions(steps),
        "logs": {title: text for title, text in _logs(steps) if text},
    }


def _versions(steps: list[st.Status]) -> Row:
    """Return the engine's name and versions when each stage ran."""
    versions: Row = {}
    for step in steps:
        manifest = _if_readable(records.read_json, step.result.path) or {}
        engines = manifest.get("engines") or manifest.get("spec", {}).get("engine")
        if engines:
            versions.setdefault(step.result.stage, engines)
    return versions


def _logs(steps: list[st.Status]) -> Iterator[tuple[str, str]]:
    for step in steps:
        if step.result.stage in ("base", "train", "evaluate") or step.state == st.FAILED:
            yield st.title(step.result), st.tail(step.result.log, LOG_LINES)


def _times(folder: Path, *jobs: str) -> Iterator[tuple[str, Row]]:
    """Yield what Snakemake measured of each job: seconds, memory in MB and so on."""
    for job in jobs:
        try:
            with (folder / f"{job}.tsv").open(encoding="utf-8", newline="") as file:
                for row in csv.DictReader(file, delimiter="\t"):
                    yield job.partition("/")[0], dict(row)
        except (OSError, UnicodeDecodeError):
            continue


def loss_figure(metrics: list[Row]) -> Row | None:
    """Return a figure of loss against step; None for a student that was not trained here."""
    rows = [row for row in metrics if "loss" in row and "step" in row]
    if not rows:
        return None
    trace = {
        "type": "scatter",
        "mode": "lines+markers",
        "marker": {"size": 4},
        "line": {"color": BLUE},
        "x": [row["step"] for row in rows],
        "y": [row["loss"] for row in rows],
        "hovertemplate": "step %{x}: %{y:.4f}<extra></extra>",
    }
    figure_layout = _layout("training step", "loss", showlegend=False)
    figure_layout["yaxis"] |= {"type": "log", "dtick": "D2"}
    return {"data": [trace], "layout": figure_layout}


# ---- a cell ----


class Graded(NamedTuple):
    """One answer with its grade and verdict."""

    sample: SampleRow
    grade: GradedRow
    verdict: VerdictRow

    @property
    def key(self) -> tuple[int, int]:
        """Its problem and repeat."""
        return self.sample["doc_id"], self.sample["repeat"]

    @property
    def kinds(self) -> list[str]:
        """The filters of the page under which it is shown."""
        is_truncated, is_judged = self.sample["finish"] == "length", self.verdict["by"] == "judge"
        return [outcome(self.verdict)] + ["truncated"] * is_truncated + ["judged"] * is_judged


def samples(answers: list[Graded]) -> Row:
    """Return the content of a cell's side file: counts by kind, lengths, a sample of the answers.

    Kinds take turns, each in the order of its digests, up to the limits: the same sample each time
    and on each machine.
    """
    counts = {kind: sum(kind in answer.kinds for answer in answers) for kind in (*KINDS, "judged")}
    chosen = sorted(_chosen(answers), key=lambda answer: answer.key)
    return {
        "n": len(answers),
        "counts": counts,
        "lengths": length_figure(answers),
        "samples": [_shown(answer) for answer in chosen],
    }


def _chosen(answers: list[Graded]) -> list[Graded]:
    ordered = sorted(answers, key=lambda answer: sha256_text(canonical(answer.key)))
    queues = [[answer for answer in ordered if kind in answer.kinds] for kind in SAMPLED]
    chosen: dict[tuple[int, int], Graded] = {}
    n_characters = 0
    for answer in (answer for turn in zip_longest(*queues) for answer in turn if answer):
        if answer.key in chosen:
            continue
        texts = answer.sample["problem"], answer.sample["response"]
        n_characters += sum(min(MOST_OF_TEXT, len(str(text))) for text in texts)
        if chosen and (len(chosen) >= MOST_SAMPLES or n_characters > MOST_CHARACTERS):
            break
        chosen[answer.key] = answer
    return list(chosen.values())


def _shown(answer: Graded) -> Row:
    sample, grade, verdict = answer
    return {
        "doc_id": sample["doc_id"],
        "repeat": sample["repeat"],
        "kinds": answer.kinds,
        "verdict": verdict["verdict"],
        "by": verdict["by"],
        "tokens": sample["n_tokens"],
        "problem": _both_ends(sample["problem"]),
        "gold": _both_ends(sample["gold"]),
        "answer": None if grade["answer"] is None else _both_ends(grade["answer"]),
        "response": _both_ends(sample["response"]),
        "judge": None if verdict["raw"] is None else _both_ends(verdict["raw"]),
    }


def _both_ends(value: Any) -> str:
    """Return a text, of a long one both ends and how much is left out between them."""
    text = value if isinstance(value, str) else canonical(value)
    if len(text) <= MOST_OF_TEXT:
        return text
    half = MOST_OF_TEXT // 2
    return f"{text[:half]}\n[… {len(text) - 2 * half} characters left out …]\n{text[-half:]}"


def length_figure(answers: list[Graded]) -> Row | None:
    """Return a stacked histogram of tokens by kind; a truncated answer counts as that alone."""
    lengths: dict[str, list[int]] = {kind: [] for kind in KINDS}
    for answer in answers:
        kind = "truncated" if "truncated" in answer.kinds else answer.kinds[0]
        lengths[kind].append(answer.sample["n_tokens"])
    if not answers:
        return None
    longest = max(answer.sample["n_tokens"] for answer in answers)
    width = max(1, math.ceil((longest + 1) / N_BINS))
    starts = range(0, longest + 1, width)
    bars = [_bars(kind, of_kind, starts, width) for kind, of_kind in lengths.items() if of_kind]
    return {
        "data": bars,
        "layout": _layout("tokens of the answer", "answers", barmode="stack", bargap=0.05),
    }


def _bars(kind: str, lengths: list[int], starts: range, width: int) -> Row:
    heights = [0] * len(starts)
    for length in lengths:
        heights[length // width] += 1
    pattern = {"shape": PATTERNS[kind], "fillmode": "overlay", "fgcolor": "#ffffff", "size": 6}
    return {
        "type": "bar",
        "name": f"{kind} ({len(lengths)})",
        "x": [start + width / 2 for start in starts],
        "width": width,
        "y": heights,
        "marker": {"color": COLOURS[kind], "pattern": pattern},
        "hovertemplate": f"%{{y}} {kind}<extra></extra>",
    }


def _layout(x: str, y: str, **more: Any) -> Row:
    return {
        "xaxis": {"title": {"text": x}},
        "yaxis": {"title": {"text": y}},
        "margin": {"l": 60, "r": 15, "t": 10, "b": 45},
        "height": 260,
        "legend": {"orientation": "h", "y": 1.15},
        "showlegend": True,
        **more,
    }


# ---- files ----


def write_all(
    grid: Grid, results: Path, times: Path, folder: Path, steps: dict[Cell, list[st.Status]]
) -> int:
    """Write every side file that is new or changed into `folder`; return how many."""
    n_written = 0
    for trained, benchmarks in benchmarks_of(steps).items():
        cells = [Cell(*trained, benchmark) for benchmark in benchmarks]
        of_trained = list(
            {step.result.path: step for cell in cells for step in steps[cell]}.values()
        )
        content = card(grid, results, times, trained, of_trained)
        text = as_script("receiveCard", str(trained), content)
        n_written += _write(folder / f"{trained}.js", text)
        n_written += sum(_write_samples(results, folder, cell) for cell in cells)
    return n_written


def _write_samples(results: Path, folder: Path, cell: Cell) -> bool:
    """Write a cell's side file unless its first line says that it was made from the same files."""
    manifests = [results / layout.path(stage, *cell) for stage in ("grade", "score")]
    digest = sha256_text(canonical([FORMAT, *map(st.digest, manifests)]))
    path, head = folder / f"{cell}.js", f"// {digest}\n"
    if path.is_file():
        with path.open(encoding="ascii", errors="replace") as file:
            if file.readline() == head:
                return False
    rows = _if_readable(read_cell, manifests[1]) or []
    content = samples([Graded(*row) for row in rows])
    return _write(path, head + as_script("receiveSamples", str(cell), content))


def _write(path: Path, text: str) -> bool:
    if path.is_file() and path.read_text(encoding="ascii", errors="replace") == text:
        return False
    write_text(path, text)
    return True


def stale_files(folder: Path, cells: Iterable[Cell]) -> list[Path]:
    """Return the side files of cells that the grid no longer has."""
    kept = {folder / f"{name}.js" for cell in cells for name in (cell, cell.trained)}
    return sorted(path for path in folder.rglob("*.js") if path not in kept)

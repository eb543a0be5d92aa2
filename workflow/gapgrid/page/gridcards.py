"""What the grid page shows of one training cell or cell once it is asked for: side files that it loads one by one.

A page opened from a disk may not read files, it may only load scripts. A side file is therefore one call of a function of
the page with one JSON value: pure ASCII, `<` and `>` escaped, so no text in it can end the script or be anything but data.
Everything a model wrote is in there as it is; the page sets it as text, never as markup.
"""

import csv
import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from gapgrid import grid as g
from gapgrid.commands import status as st
from gapgrid.records import InputError, Row, canonical, read_json, read_jsonl, sha256_text, write_text

FORMAT = 1  # of a side file; a higher one writes all of them anew
MOST_SAMPLES = 200  # of a cell
MOST_CHARACTERS = 150_000  # of a cell's samples together
MOST_OF_ONE = 4_000  # characters of one text; of a longer one its two ends
LOG_LINES = 40
N_BINS = 24
KINDS = ("right", "wrong", "unparsed", "truncated")
COLOURS = {"right": "#0072B2", "wrong": "#E69F00", "unparsed": "#CC79A7", "truncated": "#444444"}
HATCHES = {"right": "", "wrong": "/", "unparsed": ".", "truncated": "x"}


class Folders(NamedTuple):
    """Where a grid's results, logs and times are."""

    results: Path
    logs: Path
    times: Path


def as_script(call: str, *values: Any) -> str:
    """One call with JSON values, safe in a script element and in a file of its own."""
    return f"{call}({', '.join(embedded(value) for value in values)});\n"


def embedded(value: Any) -> str:
    """JSON in ASCII without `<`, `>` and `&`: nothing in it can end an element or start one. What is not finite is null."""
    text = json.dumps(_finite(value), ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


# ---- a training cell ----


def card(grid: g.Grid, at: Folders, cell: g.TrainingCell, steps: list[st.Status]) -> Row:
    """What one training cell is made of and how its making went; `steps` are those of all its cells, each once."""
    name = "/".join(map(str, cell))
    base = f"{cell.model}/{g.base_seed(grid, cell.model, cell.seed)}"
    entry, is_trained = grid["models"][cell.model], cell.mix != g.UNTOUCHED
    recipe = entry["recipe"] if is_trained else entry.get("pretrain")
    config = {
        f"models.yaml: {cell.model}": entry,
        **({f"mixes.yaml: {cell.mix}": grid["mixes"][cell.mix]} if is_trained else {}),
        **({f"recipes.yaml: {recipe}": grid["recipes"][recipe]} if recipe else {}),
    }
    return {
        "config": config,
        "steps": [{"title": st.title(step.artefact), "state": step.state, "reasons": list(step.reasons)} for step in steps],
        "specs": {st.title(step.artefact): step.artefact.spec for step in steps},
        "data": _read(at.results / f"mixes/{cell.mix}/card.json") if is_trained else None,
        "loss": loss_figure(_rows(at.results / f"train/{name}/metrics.jsonl")),
        "times": dict(_times(at.times, ("train", name) if is_trained else ("base", base), ("evaluate", name))),
        "versions": _versions(steps),
        "logs": {title: text for title, text in _logs(steps) if text},
    }


def _versions(steps: list[st.Status]) -> Row:
    """Stage -> its engine's name and versions, as they were when it ran."""
    found: Row = {}
    for step in steps:
        made = _read(step.artefact.path) or {}
        known = made.get("engines") or made.get("spec", {}).get("engine")
        if known and step.artefact.stage not in found:
            found[step.artefact.stage] = known
    return found


def _logs(steps: list[st.Status]) -> Iterator[tuple[str, str]]:
    for step in steps:
        if step.artefact.stage in ("base", "train", "evaluate") or step.state == st.FAILED:
            yield st.title(step.artefact), st.tail(step.artefact.log, LOG_LINES)


def _times(folder: Path, *jobs: tuple[str, str]) -> Iterator[tuple[str, Row]]:
    """Job -> what Snakemake measured: seconds, memory in MB and so on."""
    for stage, name in jobs:
        try:
            with (folder / stage / f"{name}.tsv").open(encoding="utf-8", newline="") as file:
                yield from ((stage, dict(row)) for row in csv.DictReader(file, delimiter="\t"))
        except (OSError, UnicodeDecodeError):
            continue


def _read(path: Path) -> Any:
    """A JSON file's content, None if there is none or it is broken: the page shows what there is."""
    try:
        return read_json(path)
    except (InputError, OSError):
        return None


def _rows(path: Path) -> list[Row]:
    try:
        return read_jsonl(path)
    except (InputError, OSError):
        return []


def loss_figure(metrics: list[Row]) -> Row | None:
    """Loss against step; None for a student that was not trained here."""
    rows = [row for row in metrics if "loss" in row and "step" in row]
    if not rows:
        return None
    line = {"type": "scatter", "mode": "lines+markers", "marker": {"size": 4}, "line": {"color": "#0072B2"}}
    trace = {
        **line,
        "x": [row["step"] for row in rows],
        "y": [row["loss"] for row in rows],
        "hovertemplate": "step %{x}: %{y:.4f}<extra></extra>",
    }
    return {"data": [trace], "layout": _layout("training step", "loss", yaxis={"type": "log", "dtick": "D2"}, showlegend=False)}


# ---- a cell ----


class Graded(NamedTuple):
    """One answer with all that is known of it."""

    sample: Row
    grade: Row
    verdict: Row

    @property
    def kinds(self) -> list[str]:
        """What the page's filter finds it under."""
        verdict = self.verdict["verdict"]
        found = ["right" if verdict == "correct" else "unparsed" if verdict == "unparsed" else "wrong"]
        found += ["truncated"] if self.sample["finish"] == "length" else []
        return found + (["judged"] if self.verdict["by"] == "judge" else [])


def read_cell(results: Path, cell: str) -> list[Graded]:
    """A cell's answers; none unless all three files are of the same ones."""
    grade, score = results / "grade" / cell, results / "score" / cell
    rows = _rows(grade / "samples.jsonl"), _rows(grade / "graded.jsonl"), _rows(score / "verdicts.jsonl")
    places = [[(row.get("doc_id"), row.get("repeat")) for row in of_file] for of_file in rows]
    return [Graded(*found) for found in zip(*rows, strict=True)] if places[0] == places[1] == places[2] else []


def samples(answers: list[Graded]) -> Row:
    """Score-independent content of a cell's side file: counts by kind, lengths as a figure, and a sample of the answers.

    Kinds take turns, each in the order of its digests, until enough are taken: the same ones each time, from anywhere.
    """
    chosen = sorted(_chosen(answers), key=lambda answer: (answer.sample["doc_id"], answer.sample["repeat"]))
    counts = {kind: sum(kind in answer.kinds for answer in answers) for kind in (*KINDS, "judged")}
    return {"n": len(answers), "counts": counts, "lengths": length_figure(answers), "samples": [_shown(answer) for answer in chosen]}


def _chosen(answers: list[Graded]) -> list[Graded]:
    order = sorted(answers, key=lambda answer: sha256_text(canonical([answer.sample["doc_id"], answer.sample["repeat"]])))
    queues = [[answer for answer in order if kind in answer.kinds] for kind in ("wrong", "right", "truncated", "judged", "unparsed")]
    turns = [answer for place in range(len(order)) for queue in queues for answer in queue[place : place + 1]]
    taken: dict[tuple[int, int], Graded] = {}
    n_characters = 0
    for answer in turns:
        place = (answer.sample["doc_id"], answer.sample["repeat"])
        if place in taken:
            continue
        n_characters += sum(min(MOST_OF_ONE, len(str(answer.sample[key]))) for key in ("problem", "response"))
        if taken and (len(taken) >= MOST_SAMPLES or n_characters > MOST_CHARACTERS):
            break
        taken[place] = answer
    return list(taken.values())


def _shown(answer: Graded) -> Row:
    sample, grade, verdict = answer
    return {
        "doc_id": sample["doc_id"],
        "repeat": sample["repeat"],
        "kinds": answer.kinds,
        "verdict": verdict["verdict"],
        "by": verdict["by"],
        "tokens": sample["n_tokens"],
        "problem": capped(sample["problem"]),
        "gold": capped(sample["gold"]),
        "answer": None if grade["answer"] is None else capped(grade["answer"]),
        "response": capped(sample["response"]),
        "judge": None if verdict["raw"] is None else capped(verdict["raw"]),
    }


def capped(value: Any) -> str:
    """A text, of a long one both ends and how much is left out between them."""
    text = value if isinstance(value, str) else canonical(value)
    if len(text) <= MOST_OF_ONE:
        return text
    half = MOST_OF_ONE // 2
    return f"{text[:half]}\n[… {len(text) - 2 * half} characters left out …]\n{text[-half:]}"


def length_figure(answers: list[Graded]) -> Row | None:
    """Tokens of right, wrong, unparsed and truncated answers, stacked; a truncated answer is counted as that alone."""
    lengths: dict[str, list[int]] = {kind: [] for kind in KINDS}
    for answer in answers:
        lengths["truncated" if "truncated" in answer.kinds else answer.kinds[0]].append(answer.sample["n_tokens"])
    longest = max((length for of_kind in lengths.values() for length in of_kind), default=0)
    if not answers:
        return None
    width = max(1, math.ceil((longest + 1) / N_BINS))
    places = list(range(0, longest + 1, width))
    traces = [_bars(kind, of_kind, places, width) for kind, of_kind in lengths.items() if of_kind]
    return {"data": traces, "layout": _layout("tokens of the answer", "answers", barmode="stack", bargap=0.05)}


def _bars(kind: str, lengths: list[int], places: list[int], width: int) -> Row:
    heights = [0] * len(places)
    for length in lengths:
        heights[length // width] += 1
    return {
        "type": "bar",
        "name": f"{kind} ({len(lengths)})",
        "x": [place + width / 2 for place in places],
        "width": width,
        "y": heights,
        "marker": {"color": COLOURS[kind], "pattern": {"shape": HATCHES[kind], "fillmode": "overlay", "fgcolor": "#ffffff", "size": 6}},
        "hovertemplate": f"%{{y}} {kind}<extra></extra>",
    }


def _layout(x: str, y: str, **more: Any) -> Row:
    axes = {"xaxis": {"title": {"text": x}}, "yaxis": {"title": {"text": y}, **more.pop("yaxis", {})}}
    margin = {"l": 60, "r": 15, "t": 10, "b": 45}
    return {**axes, "margin": margin, "height": 260, "legend": {"orientation": "h", "y": 1.15}, "showlegend": True, **more}


# ---- files ----


def write_all(grid: g.Grid, at: Folders, folder: Path, steps: dict[g.Cell, list[st.Status]]) -> int:
    """Write every side file that is new or changed into `folder`; returns how many."""
    n_written = 0
    for trained, benchmarks in g.benchmarks_of(steps).items():
        name = "/".join(map(str, trained))
        once = {step.artefact.path: step for benchmark in benchmarks for step in steps[g.Cell(*trained, benchmark)]}
        n_written += _write(folder / f"{name}.js", as_script("receiveCard", name, card(grid, at, trained, list(once.values()))))
        for benchmark in benchmarks:
            n_written += _write_samples(at.results, folder, f"{name}/{benchmark}")
    return n_written


def _write_samples(results: Path, folder: Path, cell: str) -> bool:
    """A cell's side file; its first line says what it was made from, so it is made anew only if that is another."""
    read = [results / "grade" / cell / "manifest.json", results / "score" / cell / "manifest.json"]
    digest = sha256_text(canonical([FORMAT, *(_digest(path) for path in read)]))
    path, head = folder / f"{cell}.js", f"// {digest}\n"
    if path.is_file() and _first_line(path) == head:
        return False
    return _write(path, head + as_script("receiveSamples", cell, samples(read_cell(results, cell))))


def _digest(path: Path) -> str | None:
    return sha256_text(path.read_text(encoding="utf-8")) if path.is_file() else None


def _first_line(path: Path) -> str:
    with path.open(encoding="ascii", errors="replace") as file:
        return file.readline()


def _write(path: Path, text: str) -> bool:
    if path.is_file() and path.read_text(encoding="ascii", errors="replace") == text:
        return False
    write_text(path, text)
    return True


def stale_files(folder: Path, cells: Iterable[str]) -> list[Path]:
    """Side files of cells that the grid no longer has."""
    kept = {folder / f"{cell}.js" for cell in cells} | {(folder / cell).parent.with_suffix(".js") for cell in cells}
    return sorted(path for path in folder.rglob("*.js") if path not in kept)

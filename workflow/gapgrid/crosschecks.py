"""What no schema can say of a grid's configuration: references that lead nowhere, entries that contradict themselves."""

import difflib
import math
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from gapgrid.closeups import closeup_problems
from gapgrid.grid import UNTOUCHED, Grid, TrainingCell, all_cells, benchmarks_of
from gapgrid.plotchecks import plot_problems
from gapgrid.records import InputError, fail_if


def did_you_mean(found: Any, known: Iterable[Any]) -> str:
    """A hint at the known name nearest to the one found, or nothing."""
    close = difflib.get_close_matches(str(found), [str(name) for name in known], n=1)
    return f" (did you mean '{close[0]}'?)" if close else ""


def cross_problems(grid: Grid) -> Iterator[str]:
    """Every reference that leads nowhere, every share sum that is not 1, every entry that contradicts itself."""
    yield from _grid_problems(grid)
    yield from _judge_problems(grid)
    yield from _model_problems(grid)
    yield from _source_problems(grid)
    yield from _mix_problems(grid)
    yield from _benchmark_problems(grid)
    yield from _experiment_problems(grid)
    yield from closeup_problems(grid)
    yield from _adopted_problems(grid)


def _at(grid: Grid, file: str, key: str) -> str:
    return f"{grid['folder']}/{file}.yaml: {key}"


def _unknown(grid: Grid, where: str, name: str, section: str, also: Iterable[str] = ()) -> Iterator[str]:
    known = [*grid[section], *also]
    if name not in known:
        hint = did_you_mean(name, known)
        yield f"{where}: '{name}' is not in {section}.yaml{hint}; expected one of {', '.join(known)}"


def _exactly_one(where: str, entry: dict[str, Any], keys: tuple[str, ...]) -> Iterator[str]:
    given = [key for key in keys if key in entry]
    if len(given) != 1:
        yield f"{where}: found {' and '.join(given) or 'none'} of {', '.join(keys)}, expected exactly one"
    if "revision" in entry and "hub" in keys and "hub" not in entry:
        yield f"{where}: revision is given without hub"


def _grid_problems(grid: Grid) -> Iterator[str]:
    yield from _exactly_one(_at(grid, "grid", "tokenizer"), grid["tokenizer"], ("builtin", "hub", "path"))


def _judge_problems(grid: Grid) -> Iterator[str]:
    judge, file = grid["judge"], f"{grid['folder']}/judge.yaml"
    needs = {"vllm": ("size",), "hf": ("size",), "openai": ("base_url",)}.get(judge["backend"], ())
    for key in needs:
        if key not in judge:
            yield f"{file}: key '{key}' is missing; backend {judge['backend']} needs it"
    if "size" in judge:
        yield from _unknown(grid, f"{file}: size", judge["size"], "hardware")
    both = set(judge["replies"]["correct"]) & set(judge["replies"]["incorrect"])
    if both:
        yield f"{file}: replies: {', '.join(sorted(both))} found under correct and incorrect, expected one verdict a word"
    if judge["backend"] != "none":
        yield from _prompt_problems(f"{file}: prompt", Path(judge["prompt"]))


def _prompt_problems(where: str, prompt: Path) -> Iterator[str]:
    if not prompt.is_file():
        yield f"{where}: {prompt} does not exist"
        return
    text = prompt.read_text(encoding="utf-8", errors="replace")
    for part in ("{problem}", "{gold}", "{answer}"):
        if text.count(part) != 1:
            yield f"{where}: {prompt} holds {part} {text.count(part)} times, expected once"


def _model_problems(grid: Grid) -> Iterator[str]:
    needs = {"hub": ("hub",), "path": ("path",), "tiny": ("architecture", "corpus", "pretrain")}
    for name, entry in grid["models"].items():
        where = _at(grid, "models", name)
        for key in needs[entry["kind"]]:
            if key not in entry:
                yield f"{where}: key '{key}' is missing; kind {entry['kind']} needs it"
        for kind, keys in needs.items():
            for key in keys:
                if kind != entry["kind"] and key in entry:
                    yield f"{where}: key '{key}' goes with kind {kind}, found kind {entry['kind']}"
        yield from _unknown(grid, f"{where}.recipe", entry["recipe"], "recipes")
        yield from _unknown(grid, f"{where}.size", entry["size"], "hardware")
        if "pretrain" in entry:
            yield from _unknown(grid, f"{where}.pretrain", entry["pretrain"], "recipes")
        if "corpus" in entry:
            yield from _unknown(grid, f"{where}.corpus", entry["corpus"], "sources")
        if entry["kind"] == "tiny" and "eos" in entry:
            yield f"{where}: key 'eos' goes with kind hub or path, found kind tiny"
        shape = entry.get("architecture")
        if shape and shape["hidden_size"] % (2 * shape["heads"]):
            yield f"{where}.architecture: hidden_size {shape['hidden_size']}, expected a multiple of twice heads ({2 * shape['heads']})"
        if entry["kind"] == "path" and "path" in entry and not (Path(entry["path"]) / "config.json").is_file():
            yield f"{where}.path: {entry['path']} holds no config.json"


def awaited(grid: Grid) -> dict[str, list[str]]:
    """Experiments with `awaits_data` of which a file is not there yet, each with the files that are missing."""
    found: dict[str, list[str]] = {}
    for name, entry in grid["experiments"].items():
        if entry.get("awaits_data"):
            missing = sorted({path for mix in entry["mixes"] if mix in grid["mixes"] for path in _missing_files(grid, mix)})
            found |= {name: missing} if missing else {}
    return found


def _missing_files(grid: Grid, mix: str) -> Iterator[str]:
    for source in grid["mixes"][mix]["parts"]:
        path = grid["sources"].get(source, {}).get("path")
        if path is not None and not Path(path).is_file():
            yield path


def _source_problems(grid: Grid) -> Iterator[str]:
    waited_for = {path for files in grid["awaited"].values() for path in files}
    for name, entry in grid["sources"].items():
        where = _at(grid, "sources", name)
        yield from _exactly_one(where, entry, ("builtin", "hub", "path"))
        if "path" in entry and not Path(entry["path"]).is_file() and entry["path"] not in waited_for:
            yield f"{where}.path: {entry['path']} does not exist"


def _mix_problems(grid: Grid) -> Iterator[str]:
    for name, entry in grid["mixes"].items():
        where = _at(grid, "mixes", name)
        if name == UNTOUCHED:
            yield f"{where}: the name {UNTOUCHED} is taken, it is the untouched student"
        for source in entry["parts"]:
            yield from _unknown(grid, f"{where}.parts", source, "sources")
        total = math.fsum(entry["parts"].values())
        if not math.isclose(total, 1.0, abs_tol=1e-9):
            yield f"{where}.parts: shares sum to {total:g}, expected 1"


def _benchmark_problems(grid: Grid) -> Iterator[str]:
    for name, entry in grid["benchmarks"].items():
        where = _at(grid, "benchmarks", name)
        yield from _exactly_one(f"{where}.data", entry["data"], ("builtin", "hub", "path"))
        if "path" in entry["data"] and not Path(entry["data"]["path"]).is_file():
            yield f"{where}.data.path: {entry['data']['path']} does not exist"
        if entry.get("repeats", 1) > 1 and not entry.get("sampling", {}).get("temperature", 0) > 0:
            yield f"{where}.repeats: {entry['repeats']} greedy answers would be the same, expected sampling.temperature above 0"
        yield from _task_problems(grid, where, entry["task"])


def _task_problems(grid: Grid, where: str, task: str) -> Iterator[str]:
    file = Path(grid["folder"]) / "tasks" / f"{task}.yaml"
    if not file.is_file():
        there = sorted(other.stem for other in file.parent.glob("*.yaml"))
        yield f"{where}.task: {file} does not exist{did_you_mean(task, there)}; there is {', '.join(there) or 'none'}"
        return
    text = file.read_text(encoding="utf-8", errors="replace")
    named = re.search(r"^task:\s*[\"']?([^\s\"'#]+)", text, re.MULTILINE)
    if named is None or named[1] != task:
        yield f"{file}: key task is {named[1] if named else 'missing'}, expected {task}, the name of the file"


def _experiment_problems(grid: Grid) -> Iterator[str]:
    for name, entry in grid["experiments"].items():
        where = _at(grid, "experiments", name)
        for section in ("models", "mixes", "benchmarks"):
            also = (UNTOUCHED,) if section == "mixes" else ()
            for listed in entry[section] if entry[section] != "all" else ():
                yield from _unknown(grid, f"{where}.{section}", listed, section, also)
        mixes = list(grid["mixes"]) if entry["mixes"] == "all" else entry["mixes"]
        for mix in entry.get("contrast", ()):
            if mix not in mixes:
                yield f"{where}.contrast: '{mix}' is not among the experiment's mixes ({', '.join(mixes)})"
        if len(set(entry.get("contrast", (0, 1)))) == 1:
            yield f"{where}.contrast: '{entry['contrast'][0]}' twice, expected two different mixes"
        yield from plot_problems(grid, where, entry)


def check_cards(grid: Grid, offered: int) -> None:
    """Raise an `InputError` if a student's job asks for more GPUs than the machine offers."""
    sizes = sorted({grid["models"][cell.model]["size"] for cell in all_cells(grid)})
    fail_if(
        [
            f"{grid['folder']}/hardware.yaml: {size}.gpus: {grid['hardware'][size]['gpus']}, but this machine has {offered} GPUs"
            for size in sizes
            if grid["hardware"][size]["gpus"] > offered
        ]
    )


def check_disk(grid: Grid, results: Path, free_bytes: int) -> None:
    """Raise an `InputError` if the students still to be trained will not fit on the disk.

    An estimate: 2 bytes a parameter for each student (bf16), and 16 for the resumable state of the largest one.
    """
    todo = [cell for cell in benchmarks_of(all_cells(grid)) if cell.mix != UNTOUCHED and not _is_built(results, cell)]
    sizes = [grid["models"][cell.model]["params_b"] for cell in todo]
    needed = 2 * sum(sizes) + 16 * max(sizes, default=0)  # GB, as sizes are in billions
    if needed * 1e9 > free_bytes:
        raise InputError(
            f"{results}: {len(todo)} students to train need about {needed:.0f} GB, {free_bytes / 1e9:.0f} GB free; make room, build "
            "fewer experiments at a time, or delete train/*/*/*/model of students whose cells are scored"
        )


def _is_built(results: Path, cell: TrainingCell) -> bool:
    return (results / "train" / "/".join(map(str, cell)) / "manifest.json").is_file()


def engine_problems(grid: Grid) -> Iterator[str]:
    """An engine whose version would be in no spec: the environment's lock does not pin it."""
    chosen = {"grid.yaml: engine.evaluate": grid["engine"]["evaluate"], "judge.yaml: backend": grid["judge"]["backend"]}
    for where, engine in chosen.items():
        if engine == "vllm" and "vllm" not in grid["versions"]:
            yield f"{grid['folder']}/{where}: vllm is not in envs/{grid['environment']}.txt; environment: gpu in grid.yaml has it"


def _adopted_problems(grid: Grid) -> Iterator[str]:
    for cell, entry in grid["adopted"].items():
        model, mix, seed = cell.split("/")
        where = f"{grid['folder']}/adopted.yaml: {cell}"
        yield from _unknown(grid, where, model, "models")
        yield from _unknown(grid, where, mix, "mixes")
        yield from _exactly_one(where, entry, ("hub", "path"))
        if int(seed) not in grid["seeds"]:
            yield f"{where}: seed {seed} is none of the grid's ({', '.join(map(str, grid['seeds']))})"
        if "path" in entry and not any((Path(entry["path"]) / name).is_file() for name in ("config.json", "adapter_config.json")):
            yield f"{where}.path: {entry['path']} holds neither config.json nor adapter_config.json"


# ---- what is not wrong but worth a warning ----

MAIN = "main"
JUDGES_FROM_THE_HUB = ("hf", "vllm")  # backends that load their model themselves


def unpinned(grid: Grid) -> list[str]:
    """One line for each repository of a loaded grid whose revision is unknown, that is `main`: file, key and id."""
    found: list[tuple[str, dict[str, Any]]] = [("grid.yaml: tokenizer", grid["tokenizer"])]
    for section in ("models", "sources", "adopted"):
        found += [(f"{section}.yaml: {name}", entry) for name, entry in grid[section].items()]
    found += [(f"benchmarks.yaml: {name}.data", entry["data"]) for name, entry in grid["benchmarks"].items()]
    if comes_from_the_hub(grid["judge"]):
        found.append(("judge.yaml: judge", {**grid["judge"], "hub": grid["judge"]["model"]}))
    return [
        f"{where}: {entry['hub']} is not pinned, its revision is {MAIN}, which may change; `make pin` finds the commit"
        for where, entry in found
        if "hub" in entry and entry.get("revision", MAIN) == MAIN
    ]


def comes_from_the_hub(judge: dict[str, Any]) -> bool:
    """Whether a judge is downloaded, not asked on a server or read from a folder."""
    return judge["backend"] in JUDGES_FROM_THE_HUB and not Path(judge["model"]).is_dir()

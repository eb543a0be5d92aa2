"""What no schema can say about a grid: unknown names, entries that contradict themselves."""

import difflib
import math
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from gapgrid.config.plot_checks import outside_mixes, plot_problems, shared_cell_problems
from gapgrid.core import layout
from gapgrid.core.cells import AVERAGE, UNTOUCHED
from gapgrid.core.records import InputError, fail_if
from gapgrid.core.spec_types import with_defaults
from gapgrid.grid.cells import Grid, all_cells, benchmarks_of, named
from gapgrid.grid.specs import LOADING_BACKENDS, judge_is_on_hub

MAIN = "main"
ORIGINS = ("builtin", "hub", "path")
# By kind of model, the keys that it needs and no other kind takes.
KEYS_OF_KIND = {"hub": ("hub",), "path": ("path",), "tiny": ("architecture", "corpus", "pretrain")}
Entry = dict[str, Any]


def did_you_mean(name: Any, known: Iterable[Any]) -> str:
    """Return a hint at the known name nearest to `name`, or an empty text."""
    close = difflib.get_close_matches(str(name), [str(other) for other in known], n=1)
    return f" (did you mean '{close[0]}'?)" if close else ""


def cross_problems(grid: Grid) -> Iterator[str]:
    """Yield a message for each unknown name, wrong sum of shares and contradiction of a grid."""
    folder = grid["folder"]
    yield from _exactly_one(f"{folder}/grid.yaml: tokenizer", grid["tokenizer"], ORIGINS)
    yield from _judge_problems(grid, f"{folder}/judge.yaml")
    checks = {
        "models": _model_problems,
        "sources": _source_problems,
        "mixes": _mix_problems,
        "benchmarks": _benchmark_problems,
        "experiments": _experiment_problems,
    }
    for section, check in checks.items():
        for name, entry in grid[section].items():
            yield from check(grid, f"{folder}/{section}.yaml: {name}", entry)
    if UNTOUCHED in grid["mixes"]:
        yield (
            f"{folder}/mixes.yaml: {UNTOUCHED}: the name {UNTOUCHED} is taken, "
            "it is the untouched student"
        )
    if AVERAGE in grid["benchmarks"]:
        yield (
            f"{folder}/benchmarks.yaml: {AVERAGE}: the name {AVERAGE} is taken, "
            "it is the mean over benchmarks"
        )
    yield from _adopted_problems(grid, f"{folder}/adopted.yaml")
    yield from shared_cell_problems(grid)


def _unknown(
    grid: Grid, where: str, name: str, section: str, also: Iterable[str] = ()
) -> Iterator[str]:
    known = [*grid[section], *also]
    if name not in known:
        hint = did_you_mean(name, known)
        expected = ", ".join(known)
        yield f"{where}: '{name}' is not in {section}.yaml{hint}; expected one of {expected}"


def _exactly_one(where: str, entry: Entry, keys: tuple[str, ...]) -> Iterator[str]:
    given = [key for key in keys if key in entry]
    if len(given) != 1:
        listing = " and ".join(given) or "none"
        yield f"{where}: found {listing} of {', '.join(keys)}, expected exactly one"
    if "revision" in entry and "hub" not in entry:
        yield f"{where}: revision is given without hub"


def _judge_problems(grid: Grid, file: str) -> Iterator[str]:
    judge, backend = grid["judge"], grid["judge"]["backend"]
    needed = {"openai": "base_url", **dict.fromkeys(LOADING_BACKENDS, "size")}.get(backend)
    if needed and needed not in judge:
        yield f"{file}: key '{needed}' is missing; backend {backend} needs it"
    if "size" in judge:
        yield from _unknown(grid, f"{file}: size", judge["size"], "hardware")
    url = judge.get("base_url", "http://")
    if backend == "openai" and not url.startswith(("http://", "https://")):
        yield (
            f"{file}: base_url: found '{url}', expected the server's address, "
            "such as http://127.0.0.1:8000/v1"
        )
    is_local = backend in LOADING_BACKENDS and not judge_is_on_hub(judge)
    if is_local and not (Path(judge["model"]).expanduser() / "config.json").is_file():
        yield (
            f"{file}: model: found '{judge['model']}', "
            "expected a folder with config.json, or owner/name on the hub"
        )
    both = set(judge["replies"]["correct"]) & set(judge["replies"]["incorrect"])
    if both:
        yield (
            f"{file}: replies: {', '.join(sorted(both))} found under correct and incorrect, "
            "expected one verdict a word"
        )
    if backend != "none":
        yield from _prompt_problems(f"{file}: prompt", Path(judge["prompt"]))


def _prompt_problems(where: str, prompt: Path) -> Iterator[str]:
    if not prompt.is_file():
        yield f"{where}: {prompt} does not exist"
        return
    text = prompt.read_text(encoding="utf-8", errors="replace")
    for part in ("{problem}", "{gold}", "{answer}"):
        if text.count(part) != 1:
            yield f"{where}: {prompt} holds {part} {text.count(part)} times, expected once"


def _model_problems(grid: Grid, where: str, entry: Entry) -> Iterator[str]:
    kind = entry["kind"]
    for owner, keys in KEYS_OF_KIND.items():
        for key in keys:
            if owner == kind and key not in entry:
                yield f"{where}: key '{key}' is missing; kind {kind} needs it"
            if owner != kind and key in entry:
                yield f"{where}: key '{key}' goes with kind {owner}, found kind {kind}"
    if kind == "tiny" and "eos" in entry:
        yield f"{where}: key 'eos' goes with kind hub or path, found kind tiny"
    references = {
        "recipe": "recipes",
        "size": "hardware",
        "pretrain": "recipes",
        "corpus": "sources",
    }
    for key, section in references.items():
        if key in entry:
            yield from _unknown(grid, f"{where}.{key}", entry[key], section)
    shape = entry.get("architecture")
    if shape and shape["hidden_size"] % (2 * shape["heads"]):
        yield (
            f"{where}.architecture: hidden_size {shape['hidden_size']}, "
            f"expected a multiple of twice heads ({2 * shape['heads']})"
        )
    if kind == "path" and "path" in entry and not (Path(entry["path"]) / "config.json").is_file():
        yield f"{where}.path: {entry['path']} holds no config.json"


def _source_problems(grid: Grid, where: str, entry: Entry) -> Iterator[str]:
    yield from _exactly_one(where, entry, ORIGINS)
    path = entry.get("path")
    is_awaited = any(path in files for files in grid["awaited"].values())
    if path is not None and not Path(path).is_file() and not is_awaited:
        yield f"{where}.path: {path} does not exist"


def _mix_problems(grid: Grid, where: str, entry: Entry) -> Iterator[str]:
    for source in entry["parts"]:
        yield from _unknown(grid, f"{where}.parts", source, "sources")
    total = math.fsum(entry["parts"].values())
    if not math.isclose(total, 1.0, abs_tol=1e-9):
        yield f"{where}.parts: shares sum to {total:g}, expected 1"


def _benchmark_problems(grid: Grid, where: str, entry: Entry) -> Iterator[str]:
    yield from _exactly_one(f"{where}.data", entry["data"], ORIGINS)
    if "path" in entry["data"] and not Path(entry["data"]["path"]).is_file():
        yield f"{where}.data.path: {entry['data']['path']} does not exist"
    complete = with_defaults("benchmark", entry)
    if complete["repeats"] > 1 and not complete["sampling"].get("temperature", 0) > 0:
        yield (
            f"{where}.repeats: {entry['repeats']} greedy answers would be the same, "
            "expected sampling.temperature above 0"
        )
    task = entry["task"]
    file = Path(grid["folder"]) / "tasks" / f"{task}.yaml"
    if not file.is_file():
        tasks = sorted(other.stem for other in file.parent.glob("*.yaml"))
        yield (
            f"{where}.task: {file} does not exist{did_you_mean(task, tasks)}; "
            f"there is {', '.join(tasks) or 'none'}"
        )
        return
    text = file.read_text(encoding="utf-8", errors="replace")
    match = re.search(r"^task:\s*[\"']?([^\s\"'#]+)", text, re.MULTILINE)
    name = match[1] if match else "missing"
    if name != task:
        yield f"{file}: key task is {name}, expected {task}, the name of the file"


def _experiment_problems(grid: Grid, where: str, entry: Entry) -> Iterator[str]:
    for section in ("models", "mixes", "benchmarks"):
        also = (UNTOUCHED,) if section == "mixes" else ()
        for name in named(entry[section], grid[section]):
            yield from _unknown(grid, f"{where}.{section}", name, section, also)
    contrast = entry.get("contrast", ())
    yield from outside_mixes(grid, f"{where}.contrast", entry, contrast)
    if len(set(contrast)) == 1:
        yield f"{where}.contrast: '{contrast[0]}' twice, expected two different mixes"
    yield from plot_problems(grid, where, entry)


def _adopted_problems(grid: Grid, file: str) -> Iterator[str]:
    files = ("config.json", "adapter_config.json")
    for cell, entry in grid["adopted"].items():
        where = f"{file}: {cell}"
        model, mix, seed = cell.split("/")
        yield from _unknown(grid, where, model, "models")
        yield from _unknown(grid, where, mix, "mixes")
        yield from _exactly_one(where, entry, ("hub", "path"))
        if int(seed) not in grid["seeds"]:
            seeds = ", ".join(map(str, grid["seeds"]))
            yield f"{where}: seed {seed} is none of the grid's ({seeds})"
        if "path" in entry and not any((Path(entry["path"]) / name).is_file() for name in files):
            yield f"{where}.path: {entry['path']} holds neither {' nor '.join(files)}"


def engine_problems(grid: Grid) -> Iterator[str]:
    """Yield a message for each engine that the environment's lock does not pin.

    Its version would be in no spec.
    """
    engines = {
        "grid.yaml: engine.evaluate": grid["engine"]["evaluate"],
        "judge.yaml: backend": grid["judge"]["backend"],
    }
    for where, engine in engines.items():
        if engine == "vllm" and "vllm" not in grid["versions"]:
            yield (
                f"{grid['folder']}/{where}: vllm is not in envs/{grid['environment']}.txt; "
                "environment: gpu in grid.yaml has it"
            )


def awaited(grid: Grid) -> dict[str, list[str]]:
    """Return the experiments with `awaits_data` whose files are missing, each with these files."""
    missing: dict[str, list[str]] = {}
    for name, entry in grid["experiments"].items():
        mixes = named(entry["mixes"], grid["mixes"]) if entry.get("awaits_data") else []
        sources = {
            source for mix in mixes for source in grid["mixes"].get(mix, {}).get("parts", ())
        }
        paths = {grid["sources"].get(source, {}).get("path") for source in sources} - {None}
        files = sorted(path for path in paths if not Path(path).is_file())
        if files:
            missing[name] = files
    return missing


def unpinned(grid: Grid) -> list[str]:
    """Return a line for each hub repository of a loaded grid that is at `main`: file, key and id.

    `main` is the revision of an entry that names none.
    """
    entries = {
        "grid.yaml: tokenizer": grid["tokenizer"],
        **{
            f"{section}.yaml: {name}": entry
            for section in ("models", "sources", "adopted")
            for name, entry in grid[section].items()
        },
        **{
            f"benchmarks.yaml: {name}.data": entry["data"]
            for name, entry in grid["benchmarks"].items()
        },
    }
    if judge_is_on_hub(grid["judge"]):
        entries["judge.yaml: judge"] = {**grid["judge"], "hub": grid["judge"]["model"]}
    return [
        f"{where}: {entry['hub']} is not pinned, its revision is {MAIN}, which may change; "
        "`make pin` finds the commit"
        for where, entry in entries.items()
        if "hub" in entry and entry.get("revision", MAIN) == MAIN
    ]


def check_gpus(grid: Grid, offered: int) -> None:
    """Raise an `InputError` if a job of a student or the judge needs more GPUs than there are.

    `offered` are those of the machine. A judge on a server, or none, needs none.
    """
    sizes = {grid["models"][cell.model]["size"] for cell in all_cells(grid)}
    if grid["judge"]["backend"] in LOADING_BACKENDS:
        sizes.add(grid["judge"]["size"])
    n_gpus = {size: grid["hardware"][size]["gpus"] for size in sorted(sizes)}
    fail_if(
        [
            f"{grid['folder']}/hardware.yaml: {size}.gpus: {n}, but this machine has {offered} GPUs"
            for size, n in n_gpus.items()
            if n > offered
        ]
    )


def check_disk(grid: Grid, results: Path, free_bytes: int) -> None:
    """Raise an `InputError` if the students still to be trained will not fit on the disk.

    An estimate: 2 bytes a parameter for each student (bf16), and 16 for the resumable state of the
    largest one.
    """
    sizes = [
        grid["models"][cell.model]["params_b"]
        for cell in benchmarks_of(all_cells(grid))
        if cell.mix != UNTOUCHED and not (results / layout.path("train", *cell)).is_file()
    ]
    needed = 2 * sum(sizes) + 16 * max(sizes, default=0)  # GB, as sizes are in billions
    if needed * 1e9 > free_bytes:
        raise InputError(
            f"{results}: {len(sizes)} students to train need about {needed:.0f} GB, "
            f"{free_bytes / 1e9:.0f} GB free; free some space, build fewer experiments at a time, "
            "or delete train/*/*/*/model of students whose cells are scored"
        )

"""In which state every result of a grid is, told from the files alone: no Snakemake, no re-hashing of what is large.

A result is fresh, adopted (fresh, and a published checkpoint), stale (and why), running, failed or missing. What decides
is its manifest: the spec that it was made under against the configuration's present one, and the digests of what was
read against what lies there now. Whether a job is at work is read from Snakemake's own marks in `.snakemake`.
"""

import json
import re
from base64 import urlsafe_b64decode
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from gapgrid import grid as g
from gapgrid import manifest
from gapgrid.commands.artefacts import Artefact, Source, artefacts
from gapgrid.commands.resume import local_controllers
from gapgrid.records import InputError, Row, sha256_file

FRESH, ADOPTED, STALE, RUNNING, FAILED, MISSING = STATES = ("fresh", "adopted", "stale", "running", "failed", "missing")
MARKS = {FRESH: "", ADOPTED: "◇", STALE: "△", RUNNING: "▶", FAILED: "✕", MISSING: "–"}  # so that states read without colour
# A cell is what the worst of its steps is.
WORST_FIRST = (FAILED, RUNNING, MISSING, STALE, ADOPTED, FRESH)
# Outputs whose loss the next run makes good: of what only serves to make something else none, of a stage not named here all.
_SERVING: dict[str, tuple[str, ...]] = dict.fromkeys(("tokenizer", "source", "mix", "problems", "base", "train", "shift"), ())
TARGETS = {**_SERVING, "grade": ("samples.jsonl",), "score": ("score.json",)}
WANTED = ("grade", "score", "table")  # made anew when missing, whether or not something else asks for them
UNNEEDED = ("not needed: what is made from it is there",)
MOST_RUNS = 20  # whose logs are read for failures
LOG_BYTES = 20_000
MOST_INPUTS = 3  # named one by one
_CONTROL = re.compile(
    r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]"
)


class Status(NamedTuple):
    """An artefact's state. `follows` says that it is stale only because of one before it."""

    artefact: Artefact
    state: str
    reasons: tuple[str, ...] = ()
    follows: bool = False


class Work(NamedTuple):
    """What Snakemake has left in a working folder. `begun`: results begun and not ended, with their SLURM job if any.

    `failed`: the logs of jobs that failed when they ran last.
    """

    is_alive: bool
    begun: dict[str, str | None]
    failed: frozenset[str] = frozenset()


# ---- what there is ----


class Files:
    """Manifests and digests, each file read once."""

    def __init__(self) -> None:
        self._manifests: dict[Path, Row | None] = {}
        self._digests: dict[Path, str | None] = {}

    def manifest(self, path: Path) -> Row | None:
        """A manifest's content; None if it is not there. Raises `InputError` if it is none."""
        if path not in self._manifests:
            self._manifests[path] = manifest.read(path) if path.is_file() else None
        return self._manifests[path]

    def digest(self, source: Source) -> str | None:
        """SHA-256 of a source as it is now; None if it is not there."""
        path, output = source
        if output is not None:
            found = self.manifest(path)
            return found["outputs"].get(output, {}).get("sha256") if found else None
        if path not in self._digests:
            self._digests[path] = sha256_file(path) if path.is_file() else None
        return self._digests[path]


def _failed(logs: Path) -> frozenset[str]:
    """The logs of the jobs that failed when they ran last, as Snakemake's own logs tell in the order of time."""
    found: dict[str, bool] = {}
    for file in sorted(logs.glob("*.snakemake.log"))[-MOST_RUNS:]:
        with file.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if line.startswith("    log: "):
                    path, is_error, _ = line.removeprefix("    log: ").rstrip().partition(" (check log file")
                    found[path] = bool(is_error)
    return frozenset(path for path, is_error in found.items() if is_error)


def work_in(folder: Path) -> Work:
    """Snakemake's marks in a working folder. A mark without a living run is of one that died."""
    marks = folder / ".snakemake"
    begun: dict[str, str | None] = {}
    for file in sorted((marks / "incomplete").rglob("*")):
        try:
            key = urlsafe_b64decode("".join(part.removeprefix("@") for part in file.relative_to(marks / "incomplete").parts)).decode()
            begun[key] = json.loads(file.read_text() or "{}").get("external_jobid") if file.is_file() else None
        except (ValueError, OSError):
            continue  # half written, gone meanwhile, or not a mark
    is_locked = (marks / "locks").is_dir() and any((marks / "locks").iterdir())
    return Work(bool(begun) and is_locked and _is_alive(folder), begun, _failed(marks / "log"))


def _is_alive(folder: Path) -> bool:
    """Whether a run is at work here, on this machine or, with SLURM, on another."""
    if local_controllers(folder.resolve()):
        return True
    try:
        from snakemake_executor_plugin_gapgrid_slurm import folder as at_work
    except ImportError:
        return False
    return any(record.is_alive() for record in at_work.read_records(folder))


# ---- the judgement ----


def assess(grid: g.Grid, results: Path, logs: Path, work: Work, files: Files | None = None) -> list[Status]:
    """The state of every result that the configuration asks for, in the order of the flow."""
    files, found = files or Files(), dict[Path, Status]()
    for artefact in artefacts(grid, results, logs):
        found[artefact.path] = _follow(_assess(artefact, work, files), found)
    return _unneeded(list(found.values()))


def _assess(artefact: Artefact, work: Work, files: Files) -> Status:
    job = work.begun.get(artefact.path.as_posix())
    if artefact.path.as_posix() in work.begun:
        if work.is_alive:
            return Status(artefact, RUNNING, (f"SLURM job {job}",) if job else ())
        return Status(artefact, FAILED, ("cut off: its run has died, or is on another machine",))
    try:
        made = files.manifest(artefact.path)
        reasons = () if made is None else tuple(_differences(artefact, made, files))
    except InputError as error:
        return Status(artefact, STALE, (str(error),))
    if (made is None or reasons) and artefact.log.as_posix() in work.failed:
        return Status(artefact, FAILED, reasons)
    if made is None:
        return Status(artefact, MISSING)
    return Status(artefact, STALE if reasons else ADOPTED if "adopt" in made["spec"] else FRESH, reasons)


def _differences(artefact: Artefact, made: Row, files: Files) -> Iterator[str]:
    """Why a result is not what would be made now."""
    yield from manifest.changes(made["spec"], artefact.spec)
    now = {name: files.digest(artefact.inputs[name]) for name in sorted(artefact.inputs.keys() & made.get("inputs", {}).keys())}
    others = [name for name, digest in now.items() if digest is not None and digest != made["inputs"][name]]
    if len(others) > MOST_INPUTS:
        yield f"{len(others)} inputs are others: {', '.join(others[:MOST_INPUTS])}, …"
    else:
        yield from (f"input {name} is another: {made['inputs'][name][:8]}… → {(now[name] or '')[:8]}…" for name in others)
    for benchmark, (request, content) in artefact.requests.items():
        yield from _asked_otherwise(benchmark, request, content)
    yield from (f"{path} is newer" for path in artefact.local if path.is_file() and path.stat().st_mtime > artefact.path.stat().st_mtime)
    wanted = TARGETS.get(artefact.stage, made["outputs"].keys())
    yield from (f"{name} is gone" for name in made["outputs"] if name in wanted and not (artefact.path.parent / name).is_file())


def _asked_otherwise(benchmark: str, request: Path, content: str) -> Iterator[str]:
    """What has changed in how a benchmark is asked since its request was written."""
    if not request.is_file():
        yield f"{benchmark} is not asked yet"
        return
    written = request.read_text(encoding="utf-8")
    if written != content:
        made, now = (json.loads(text.split("\n", 1)[0]) for text in (written, content))
        yield from (f"{benchmark}: {change}" for change in manifest.changes(made, now) or ["its task file is another"])


def _follow(status: Status, found: Mapping[Path, Status]) -> Status:
    """Stale also is what follows a result that is to be made anew."""
    if status.state not in (FRESH, ADOPTED):
        return status
    before = [found[path] for path in status.artefact.after if path in found]
    causes = [one for one in before if one.state in (STALE, RUNNING, FAILED) or (one.state == MISSING and one.artefact.stage in WANTED)]
    if status.artefact.stage == "score":  # its manifest does not say with which prompt it was judged; the judge's does
        judge = found.get(status.artefact.path.parents[5] / "judge/round.json")
        causes += [judge] if judge and any(reason.startswith("input prompt ") for reason in judge.reasons) else []
    if not causes:
        return status
    return status._replace(state=STALE, reasons=(f"follows {title(causes[0].artefact)}, {causes[0].state}",), follows=True)


def _unneeded(statuses: list[Status]) -> list[Status]:
    """What is missing while all that is made from it is there: nothing will make it, as with a student deleted to make room."""
    users: dict[Path, list[Path]] = {}
    for status in statuses:
        for path in status.artefact.needs:
            users.setdefault(path, []).append(status.artefact.path)
    found = {status.artefact.path: status for status in statuses}
    for status in reversed(statuses):
        of = [found[user] for user in users.get(status.artefact.path, ())]
        if status.state == MISSING and of and all(user.state in (FRESH, ADOPTED) or user.reasons == UNNEEDED for user in of):
            found[status.artefact.path] = status._replace(reasons=UNNEEDED)
    return list(found.values())


# ---- what to say of it ----


def title(artefact: Artefact) -> str:
    """`train m/long/0`."""
    return f"{artefact.stage} {artefact.name}".strip()


def counts(statuses: Iterable[Status]) -> dict[str, dict[str, int]]:
    """Stage -> state -> how many, stages in the order of the flow."""
    found: dict[str, dict[str, int]] = {}
    for status in statuses:
        of_stage = found.setdefault(status.artefact.stage, dict.fromkeys(STATES, 0))
        of_stage[status.state] += 1
    return found


def worst(steps: Iterable[Status]) -> str:
    """The state of what is made in several steps; a step that nothing needs any more does not count."""
    return worst_of(FRESH if step.reasons == UNNEEDED else step.state for step in steps)


def worst_of(states: Iterable[str]) -> str:
    """The worst of several states."""
    return min(states, key=WORST_FIRST.index)


def cell_steps(grid: g.Grid, statuses: Iterable[Status]) -> dict[g.Cell, list[Status]]:
    """Cell -> its steps: the untouched student, training, answering, grading, scoring."""
    known = {(status.artefact.stage, status.artefact.name): status for status in statuses}
    found: dict[g.Cell, list[Status]] = {}
    for cell in g.all_cells(grid):
        trained = f"{cell.model}/{cell.mix}/{cell.seed}"
        steps = [("base", f"{cell.model}/{g.base_seed(grid, cell.model, cell.seed)}")]
        steps += [("train", trained)] if cell.mix != g.UNTOUCHED else []
        steps += [("evaluate", trained), ("grade", f"{trained}/{cell.benchmark}"), ("score", f"{trained}/{cell.benchmark}")]
        found[cell] = [known[step] for step in steps]
    return found


def cell_counts(grid: g.Grid, statuses: Iterable[Status]) -> dict[str, int]:
    """State -> how many cells; a cell is what the worst of its steps is."""
    states = [worst(steps) for steps in cell_steps(grid, statuses).values()]
    return {state: states.count(state) for state in STATES}


def causes(statuses: Iterable[Status], *states: str) -> dict[tuple[str, str, tuple[str, ...]], list[Status]]:
    """Results in one of these states for a reason of their own: (state, stage, reasons) -> which."""
    found: dict[tuple[str, str, tuple[str, ...]], list[Status]] = {}
    for status in statuses:
        if status.state in states and not status.follows:
            found.setdefault((status.state, status.artefact.stage, status.reasons), []).append(status)
    return found


def tail(log: Path, lines: int) -> str:
    """The last lines of a log, without what could steer a terminal; "" if there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - LOG_BYTES))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ""
    shown = [line.rstrip("\r").rsplit("\r", 1)[-1].rstrip() for line in text.split("\n")]  # of a progress bar its last state
    return harmless("\n".join([line for line in shown if line][-lines:]))


def harmless(text: str) -> str:
    """A text without escape sequences, control characters, and characters that turn the direction of writing."""
    return _CONTROL.sub("", text)

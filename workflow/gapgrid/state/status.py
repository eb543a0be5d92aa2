"""The state of every result of a grid, from its files alone: no Snakemake, no hash of large files.

A result is fresh, adopted (fresh, and a published checkpoint), stale (and why), running, failed or
missing. Its manifest decides: the spec it was built under against the configuration's present one,
and the digests of what was read against what is on disk now. Whether a job is running is read from
Snakemake's own marker files in `.snakemake`.
"""

import json
import re
from base64 import urlsafe_b64decode
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from gapgrid.core import layout, manifest
from gapgrid.core.cells import UNTOUCHED, Cell
from gapgrid.core.records import InputError, Row, sha256_file
from gapgrid.grid.cells import Grid, all_cells, base_seed
from gapgrid.state.controllers import local_controllers
from gapgrid.state.inventory import Expected, Source, expected

FRESH, ADOPTED, STALE = "fresh", "adopted", "stale"
RUNNING, FAILED, MISSING = "running", "failed", "missing"
# So that states can be read without colour.
SYMBOLS = {FRESH: "", ADOPTED: "◇", STALE: "△", RUNNING: "▶", FAILED: "✕", MISSING: "–"}
STATES = tuple(SYMBOLS)
# The state of a cell is the worst of its steps'.
WORST_FIRST = (FAILED, RUNNING, MISSING, STALE, ADOPTED, FRESH)
UNNEEDED = ("not needed: everything built from it exists",)
MOST_RUNS = 20  # whose logs are read for failures
LOG_BYTES = 20_000
MOST_INPUTS = 3  # named separately
_CONTROL = re.compile(
    r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?"
    r"|[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]"
)


class Status(NamedTuple):
    """A result's state. `follows` is whether it is stale only because of a result before it."""

    result: Expected
    state: str
    reasons: tuple[str, ...] = ()
    follows: bool = False


class Work(NamedTuple):
    """What Snakemake has left in a working folder.

    `begun`: results begun and not ended, with their SLURM job if any. `failed`: the logs of jobs
    that failed when they ran last.
    """

    is_alive: bool
    begun: dict[str, str | None]
    failed: frozenset[str] = frozenset()


# ---- files ----


def digest(path: Path) -> str | None:
    """Return the SHA-256 of a file; None without one."""
    return sha256_file(path) if path.is_file() else None


class Files:
    """Manifests and digests, each file read once."""

    def __init__(self) -> None:
        self._manifests: dict[Path, Row | None] = {}
        self._digests: dict[Path, str | None] = {}

    def manifest(self, path: Path) -> Row | None:
        """Return a manifest's content, None without one. Raises `InputError` for another file."""
        if path not in self._manifests:
            self._manifests[path] = manifest.read(path) if path.is_file() else None
        return self._manifests[path]

    def digest(self, source: Source) -> str | None:
        """Return the SHA-256 of a source as it is now; None without one."""
        path, output = source
        if output is not None:
            content = self.manifest(path)
            return content["outputs"].get(output, {}).get("sha256") if content else None
        if path not in self._digests:
            self._digests[path] = digest(path)
        return self._digests[path]


def _failed(logs: Path) -> frozenset[str]:
    """Return the logs of the jobs that failed when they ran last, by Snakemake's own logs."""
    has_failed: dict[str, bool] = {}
    for file in sorted(logs.glob("*.snakemake.log"))[-MOST_RUNS:]:
        with file.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if line.startswith("    log: "):
                    text = line.removeprefix("    log: ").rstrip()
                    path, error, _ = text.partition(" (check log file")
                    has_failed[path] = bool(error)
    return frozenset(path for path, failed in has_failed.items() if failed)


def work_in(folder: Path) -> Work:
    """Read Snakemake's marker files in a working folder.

    A marker without a living run is of a run that died.
    """
    incomplete, locks = folder / ".snakemake" / "incomplete", folder / ".snakemake" / "locks"
    begun: dict[str, str | None] = {}
    for file in sorted(incomplete.rglob("*")):
        parts = (part.removeprefix("@") for part in file.relative_to(incomplete).parts)
        try:
            path = urlsafe_b64decode("".join(parts)).decode()
            content = json.loads(file.read_text() or "{}") if file.is_file() else {}
            begun[path] = content.get("external_jobid")
        except (ValueError, OSError):
            continue  # half written, deleted meanwhile, or not a marker
    is_locked = locks.is_dir() and any(locks.iterdir())
    is_alive = bool(begun) and is_locked and _is_alive(folder)
    return Work(is_alive, begun, _failed(folder / ".snakemake" / "log"))


def _is_alive(folder: Path) -> bool:
    """Return whether a run is alive here, on this machine or, with SLURM, on another."""
    if local_controllers(folder.resolve()):
        return True
    try:
        from snakemake_executor_plugin_gapgrid_slurm import folder as slurm_folder
    except ImportError:
        return False
    return any(record.is_alive() for record in slurm_folder.read_records(folder))


# ---- states ----


def assess(grid: Grid, results: Path, logs: Path, work: Work) -> list[Status]:
    """Return the state of every result of the configuration, in the order of the flow."""
    files, statuses = Files(), dict[Path, Status]()
    for result in expected(grid, results, logs):
        statuses[result.path] = _follow(_assess(result, work, files), statuses)
    return _unneeded(list(statuses.values()))


def status_of(grid: Grid, results: Path) -> list[Status]:
    """Return the states of a grid whose workflow runs in the working directory."""
    return assess(grid, results, Path("logs") / grid["name"], work_in(Path()))


def _assess(result: Expected, work: Work, files: Files) -> Status:
    path = result.path.as_posix()
    if path in work.begun:
        if not work.is_alive:
            reason = "cut off: its run has died, or is on another machine"
            return Status(result, FAILED, (reason,))
        job = work.begun[path]
        return Status(result, RUNNING, (f"SLURM job {job}",) if job else ())
    try:
        content = files.manifest(result.path)
        reasons = () if content is None else tuple(_differences(result, content, files))
    except InputError as error:
        return Status(result, STALE, (str(error),))
    if (content is None or reasons) and result.log.as_posix() in work.failed:
        return Status(result, FAILED, reasons)
    if content is None:
        return Status(result, MISSING)
    if reasons:
        return Status(result, STALE, reasons)
    return Status(result, ADOPTED if "adopt" in content["spec"] else FRESH)


def _differences(result: Expected, content: Row, files: Files) -> Iterator[str]:
    """Yield each difference between a result, by its manifest's content, and what it should be."""
    yield from manifest.changes(content["spec"], result.spec)
    yield from _changed_inputs(result.inputs, content.get("inputs", {}), files)
    for benchmark, (request, text) in result.requests.items():
        yield from _changed_request(benchmark, request, text)
    time = result.path.stat().st_mtime
    for path in result.local:
        if path.is_file() and path.stat().st_mtime > time:
            yield f"{path} is newer"
    yield from (f"{path.name} is missing" for path in result.targets if not path.is_file())


def _changed_inputs(
    sources: dict[str, Source], digests: dict[str, str], files: Files
) -> Iterator[str]:
    now = {name: files.digest(sources[name]) for name in sorted(sources.keys() & digests.keys())}
    changed = {name: digest for name, digest in now.items() if digest not in (None, digests[name])}
    if len(changed) > MOST_INPUTS:
        yield f"{len(changed)} inputs changed: {', '.join([*changed][:MOST_INPUTS])}, …"
    else:
        for name, digest in changed.items():
            yield f"input {name} changed: {digests[name][:8]}… → {str(digest)[:8]}…"


def _changed_request(benchmark: str, request: Path, text: str) -> Iterator[str]:
    """Yield the changes of a benchmark's settings since its request was written."""
    if not request.is_file():
        yield f"{benchmark} has no request yet"
        return
    written = request.read_text(encoding="utf-8")
    if written != text:
        before, now = (json.loads(content.split("\n", 1)[0]) for content in (written, text))
        changes = manifest.changes(before, now) or ["its task file changed"]
        yield from (f"{benchmark}: {change}" for change in changes)


def _follow(status: Status, statuses: Mapping[Path, Status]) -> Status:
    """Return the status, stale if the result follows one that is to be built again."""
    if status.state not in (FRESH, ADOPTED):
        return status
    before = [statuses[path] for path in status.result.after if path in statuses]
    causes = [
        cause
        for cause in before
        if cause.state in (STALE, RUNNING, FAILED)
        or (cause.state == MISSING and cause.result.targets)
    ]
    if status.result.stage == "score":
        # The prompt of its verdicts is not in its own manifest but in the judge's.
        judge = statuses.get(status.result.path.parents[5] / layout.path("judge"))
        if judge and any(reason.startswith("input prompt ") for reason in judge.reasons):
            causes.append(judge)
    if not causes:
        return status
    reason = f"follows {title(causes[0].result)}, {causes[0].state}"
    return status._replace(state=STALE, reasons=(reason,), follows=True)


def _unneeded(statuses: list[Status]) -> list[Status]:
    """Mark what is missing while everything built from it exists: no run will build it.

    An example is a student deleted to free the disk.
    """
    users: dict[Path, list[Path]] = {}
    for status in statuses:
        for path in status.result.needs:
            users.setdefault(path, []).append(status.result.path)
    by_path = {status.result.path: status for status in statuses}
    for status in reversed(statuses):
        path = status.result.path
        of_users = [by_path[user] for user in users.get(path, ())]
        if status.state == MISSING and of_users and all(map(_is_final, of_users)):
            by_path[path] = status._replace(reasons=UNNEEDED)
    return list(by_path.values())


def _is_final(status: Status) -> bool:
    return status.state in (FRESH, ADOPTED) or status.reasons == UNNEEDED


# ---- summaries ----


def title(result: Expected) -> str:
    """Return the stage and the name: `train m/long/0`."""
    return f"{result.stage} {result.name}".strip()


def counts(statuses: Iterable[Status]) -> dict[str, dict[str, int]]:
    """Return the number of results by stage and state, stages in the order of the flow."""
    by_stage: dict[str, dict[str, int]] = {}
    for status in statuses:
        of_stage = by_stage.setdefault(status.result.stage, dict.fromkeys(STATES, 0))
        of_stage[status.state] += 1
    return by_stage


def worst(steps: Iterable[Status]) -> str:
    """Return the worst state of several steps; an unneeded step does not count."""
    return worst_of(FRESH if step.reasons == UNNEEDED else step.state for step in steps)


def worst_of(states: Iterable[str]) -> str:
    """Return the worst of several states."""
    return min(states, key=WORST_FIRST.index)


def cell_steps(grid: Grid, statuses: Iterable[Status]) -> dict[Cell, list[Status]]:
    """Return the steps of each cell: untouched student, training, evaluation, grading, score."""
    known = {(status.result.stage, status.result.name): status for status in statuses}
    by_cell: dict[Cell, list[Status]] = {}
    for cell in all_cells(grid):
        steps = [("base", f"{cell.model}/{base_seed(grid, cell.model, cell.seed)}")]
        steps += [("train", str(cell.trained))] if cell.mix != UNTOUCHED else []
        steps += [("evaluate", str(cell.trained)), ("grade", str(cell)), ("score", str(cell))]
        by_cell[cell] = [known[step] for step in steps]
    return by_cell


def cell_counts(grid: Grid, statuses: Iterable[Status]) -> dict[str, int]:
    """Return the number of cells in each state, a cell's being the worst of its steps'."""
    states = [worst(steps) for steps in cell_steps(grid, statuses).values()]
    return {state: states.count(state) for state in STATES}


def causes(
    statuses: Iterable[Status], *states: str
) -> dict[tuple[str, str, tuple[str, ...]], list[Status]]:
    """Return the results in one of these states for a reason of their own.

    They are grouped by state, stage and reasons.
    """
    groups: dict[tuple[str, str, tuple[str, ...]], list[Status]] = {}
    for status in statuses:
        if status.state in states and not status.follows:
            key = (status.state, status.result.stage, status.reasons)
            groups.setdefault(key, []).append(status)
    return groups


def tail(log: Path, lines: int) -> str:
    """Return the last lines of a log, safe for a terminal; "" without a log."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - LOG_BYTES))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ""
    # Of a progress bar its last state.
    shown = [line.rstrip("\r").rsplit("\r", 1)[-1].rstrip() for line in text.split("\n")]
    return harmless("\n".join([line for line in shown if line][-lines:]))


def harmless(text: str) -> str:
    """Return a text without escape sequences, control and writing-direction characters."""
    return _CONTROL.sub("", text)

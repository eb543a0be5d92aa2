"""`gapgrid verify`: check results against their manifests, and manifests against the configuration.

The second check sees what Snakemake cannot: results whose records are gone (`.snakemake` deleted,
results copied from elsewhere) while the configuration has changed.
"""

from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from gapgrid.commands.grid_args import grid_of
from gapgrid.core import layout, manifest
from gapgrid.core.cells import TrainingCell
from gapgrid.core.records import InputError, canonical, sha256_text
from gapgrid.grid.cells import Grid, all_cells, base_seed, benchmarks_of
from gapgrid.state.inventory import expected
from gapgrid.stores.responses import Store, checksum
from gapgrid.stores.verdicts import Ledger

MOST_CHANGES = 5  # named of one result


def run(args: Namespace) -> int:
    """Print every mismatch and the counts; return 1 if there is a mismatch."""
    grid, results = grid_of(args)
    if not results.is_dir():
        command = f"snakemake --config grid={args.grid}"
        raise InputError(f"{results}: no results yet; build them with: {command}")
    report = check(grid, results)
    for line in report.problems:
        print(line)
    if deleted := report.deleted:
        what, whose = ("student", "its") if len(deleted) == 1 else ("students", "their")
        text = f"{len(deleted)} {what} deleted, which is no problem as {whose} cells are scored"
        print(f"{text}: {', '.join(deleted)}")
    counts = f"{report.n_checked} manifests checked, {len(report.problems)} problems"
    print(f"{counts}, {report.n_missing} of the grid not built yet")
    return 1 if report.problems else 0


class Report(NamedTuple):
    """The counts of a check, and a line for each mismatch or stale result.

    `deleted` are the students that were deleted after their cells had been scored.
    """

    n_checked: int
    n_missing: int
    problems: list[str]
    deleted: list[str]


def check(grid: Grid, results: Path) -> Report:
    """Re-hash every manifest's outputs, check the stores, compare specs with the configuration."""
    specs = {entry.path: entry.spec for entry in expected(grid, results, Path())}
    unfinished = set(results.glob("train/*/*/*/scratch/**/*manifest.json"))
    manifests = {*results.glob("**/*manifest.json"), *results.glob("judge/round.json")} - unfinished
    problems: list[str] = []
    deleted: list[str] = []
    no_longer_needed = _scored_students(grid, results)
    for path in sorted(manifests):
        try:
            content = manifest.read(path)
            mismatches = manifest.mismatches(path)
            model = path.with_name("model")
            if path in no_longer_needed and not model.exists():
                mismatches = [line for line in mismatches if not line.startswith(f"{model}/")]
                deleted.append(str(TrainingCell.of_file(path)))
            problems.extend(mismatches)
            problems.extend(_store_problems(path, content))
        except InputError as error:
            problems.append(str(error))
            continue
        if path in specs and (changes := manifest.changes(content["spec"], specs[path])):
            text = "; ".join(changes[:MOST_CHANGES])
            problems.append(f"{path}: made under another configuration: {text}")
    return Report(len(manifests), len(specs.keys() - manifests), problems, deleted)


def _scored_students(grid: Grid, results: Path) -> set[Path]:
    """Return the manifests of students that no cell needs any more.

    All of their cells are scored, and of a student before SFT also those of all trained from it.
    """
    is_scored: dict[Path, bool] = {}
    for cell, benchmarks in benchmarks_of(all_cells(grid)).items():
        files = (layout.path("score", *cell, name, file="score.json") for name in benchmarks)
        has_scores = all((results / file).is_file() for file in files)
        base = layout.path("base", cell.model, base_seed(grid, cell.model, cell.seed))
        for path in {results / layout.path("train", *cell), results / base}:
            is_scored[path] = is_scored.get(path, True) and has_scores
    return {path for path, has_scores in is_scored.items() if has_scores}


def _store_problems(path: Path, content: dict[str, Any]) -> Iterator[str]:
    """Yield how the store that a batch manifest describes differs from it."""
    facts = content.get("facts", {})
    try:
        if content["stage"] == "evaluate":
            file = path.parent / "responses" / f"{facts['model']}.sqlite"
            with Store(file, must_exist=True) as store:
                for request, known in facts["requests"].items():
                    if checksum(store.rows(request)) != known["sha256"]:
                        text = f"answers of {known['benchmark']} differ from the batch manifest"
                        yield f"{file}: {text}"
        elif content["stage"] == "judge" and facts.get("n_verdicts"):
            file = path.parent / "verdicts.sqlite"
            with Ledger(file, read_only=True) as ledger:
                verdicts = ledger.verdicts(facts["judge"]).items()
                rows = sorted((key, *verdict) for key, verdict in verdicts)
            if sha256_text(canonical(rows)) != facts["verdicts_sha256"]:
                yield f"{file}: verdicts differ from the batch manifest"
    except InputError as error:
        yield str(error)

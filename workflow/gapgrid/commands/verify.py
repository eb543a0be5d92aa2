"""Checks a grid's results against its manifests, and its manifests against the configuration.

The second check sees what Snakemake cannot: results whose record of how they were made is gone (`.snakemake` deleted,
results copied from elsewhere) while the configuration has moved on.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from gapgrid import claims, closeups, manifest
from gapgrid import grid as g
from gapgrid.ledger import Ledger
from gapgrid.records import InputError, canonical, sha256_text
from gapgrid.responses import Store, checksum

MOST_CHANGES = 5  # named of one result


class Expected(NamedTuple):
    """A manifest that the configuration asks for, and the spec it should have been made under."""

    path: Path
    spec: str


def expected(grid: g.Grid, results: Path) -> Iterator[Expected]:
    """Every manifest of a finished grid, in the order of the flow."""
    cells = g.all_cells(grid)
    training_cells = sorted(g.benchmarks_of(cells))
    trained = [cell for cell in training_cells if cell.mix != g.UNTOUCHED]
    mixes = sorted({cell.mix for cell in trained})
    bases = sorted({(cell.model, g.base_seed(grid, cell.model, cell.seed)) for cell in training_cells})
    corpora = {grid["models"][model].get("corpus") for model, _ in bases} - {None}
    sources = sorted({source for mix in mixes for source in grid["mixes"][mix]["parts"]} | corpora)
    yield Expected(results / "tokenizer/manifest.json", g.tokenizer_spec(grid))
    for source in sources:
        yield Expected(results / f"sources/{source}/manifest.json", g.source_spec(grid, source))
    for mix in mixes:
        yield Expected(results / f"mixes/{mix}/manifest.json", g.mix_spec(grid, mix))
    for benchmark in sorted({cell.benchmark for cell in cells}):
        yield Expected(results / f"problems/{benchmark}/manifest.json", g.problems_spec(grid, benchmark))
        yield Expected(results / f"selftest/{benchmark}/manifest.json", g.selftest_spec(grid, benchmark))
    for model, seed in bases:
        yield Expected(results / f"train/{model}/none/{seed}/manifest.json", g.base_spec(grid, model, seed))
    for model, mix, seed in trained:
        yield Expected(results / f"train/{model}/{mix}/{seed}/manifest.json", g.train_spec(grid, model, mix, seed))
    for model, mix, seed in training_cells:
        yield Expected(results / f"evaluate/{model}/{mix}/{seed}/manifest.json", g.evaluate_spec(grid))
    for cell in cells:
        yield Expected(results / "grade" / "/".join(map(str, cell)) / "manifest.json", g.grade_spec(grid, cell.benchmark))
    yield Expected(results / "judge/round.json", g.judge_spec(grid))
    for cell in cells:
        yield Expected(results / "score" / "/".join(map(str, cell)) / "manifest.json", g.score_spec(grid))
    yield Expected(results / "audit/manifest.json", g.audit_spec(grid))
    for experiment in grid["experiments"]:
        yield Expected(results / f"tables/{experiment}.manifest.json", claims.table_spec(grid, experiment))
    for experiment in closeups.drawn_by(grid, "figure"):
        yield Expected(results / f"figures/{experiment}.manifest.json", g.figure_spec(grid, experiment))
    for cell in closeups.shift_cells(grid):
        yield Expected(results / "shift" / "/".join(map(str, cell)) / "manifest.json", closeups.shift_spec(grid, cell))
    for experiment in closeups.drawn_by(grid, "shift_figure"):
        yield Expected(results / f"figures/{experiment}.manifest.json", closeups.shift_figure_spec(grid, experiment))
    for experiment in closeups.drawn_by(grid, "case"):
        yield Expected(results / f"cases/{experiment}.manifest.json", closeups.case_spec(grid, experiment))


class Report(NamedTuple):
    """What a check found: counts, and one line per mismatch or stale result."""

    n_checked: int
    n_missing: int
    problems: list[str]


def check(grid: g.Grid, results: Path) -> Report:
    """Re-hash every output of every manifest, check the stores, compare specs with the configuration."""
    wanted = {entry.path: entry.spec for entry in expected(grid, results)}
    found = sorted({*results.glob("**/*manifest.json"), *results.glob("judge/round.json")} - _unfinished(results))
    problems: list[str] = []
    for path in found:
        try:
            content = manifest.read(path)
            problems.extend(manifest.mismatches(path))
            problems.extend(_store_problems(path, content))
        except InputError as error:
            problems.append(str(error))
            continue
        if path in wanted and (differ := manifest.changes(content["spec"], json.loads(wanted[path]))):
            problems.append(f"{path}: made under another configuration: {'; '.join(differ[:MOST_CHANGES])}")
    return Report(len(found), sum(path not in found for path in wanted), problems)


def _unfinished(results: Path) -> set[Path]:
    return set(results.glob("train/*/*/*/scratch/**/*manifest.json"))


def _store_problems(path: Path, content: dict[str, Any]) -> Iterator[str]:
    """The side files that a stamp vouches for."""
    facts = content.get("facts", {})
    if content["stage"] == "evaluate":
        store_path = path.parent / "responses" / f"{facts['model']}.sqlite"
        try:
            with Store(store_path, must_exist=True) as store:
                for request, known in facts["requests"].items():
                    if checksum(store.rows(request)) != known["sha256"]:
                        yield f"{store_path}: answers of {known['benchmark']} differ from the stamp"
        except InputError as error:
            yield str(error)
    elif content["stage"] == "judge" and facts.get("n_verdicts"):
        try:
            with Ledger(path.parent / "verdicts.sqlite", read_only=True) as ledger:
                kept = sorted((key, *verdict) for key, verdict in ledger.verdicts(facts["judge"]).items())
            if sha256_text(canonical(kept)) != facts["verdicts_sha256"]:
                yield f"{path.parent / 'verdicts.sqlite'}: verdicts differ from the stamp"
        except InputError as error:
            yield str(error)

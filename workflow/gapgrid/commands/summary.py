"""`gapgrid summary`: every experiment's averages as a table in the terminal."""

import csv
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

from rich.table import Table

from gapgrid.commands.grid_args import console, grid_of
from gapgrid.core import layout, manifest
from gapgrid.core.cells import AVERAGE
from gapgrid.grid.cells import Grid, label, named

Column = tuple[str, str, str]  # quantity, mix, minus
QUANTITIES = ("accuracy", "gap", "best_guess")  # a table's estimates hold more


def run(args: Namespace) -> int:
    """Print a table per experiment, students x mixes and the gap with its interval."""
    grid, results = grid_of(args)
    output = console()
    for name in grid["experiments"]:
        file = results / layout.path("table", name, file="estimates.csv")
        if not file.is_file():
            output.print(f"{name}: not built yet")
            continue
        with open(file, encoding="utf-8", newline="") as opened:
            rows = [
                row
                for row in csv.DictReader(opened)
                if row["benchmark"] == AVERAGE and row["quantity"] in QUANTITIES
            ]
        output.print(_table(grid, name, rows))
        guess = next((row for row in rows if row["quantity"] == "best_guess"), None)
        if guess:
            share, n_questions = 100 * float(guess["estimate"]), guess["n_questions"]
            n_seeds = max((int(row["n_seeds"]) for row in rows if row["n_seeds"]), default=0)
            counts = f"{n_seeds} training seed(s), {n_questions} questions"
            output.print(f"best constant guess {share:.1f} %; {counts}")
    for line in _judge_lines(results / layout.path("judge")):
        print(line)
    pages = f"report: {results}/report.html  grid: {results}/grid.html"
    print(f"results: {results}/  figures: {results}/figures/  {pages}")
    return 0


def _table(grid: Grid, name: str, rows: list[dict[str, str]]) -> Table:
    experiment = grid["experiments"][name]
    table = Table(title=f"{name}: {experiment['caption']}", title_justify="left")
    columns = _columns(rows, named(experiment["mixes"], grid["mixes"]))
    table.add_column("student")
    for column in columns:
        table.add_column(_title(grid, *column), justify="right")
    for model in grid["models"]:
        cells = {_column(row): row for row in rows if row["model"] == model}
        if cells:
            values = [_value(cells.get(column)) for column in columns]
            table.add_row(label(grid, "models", model), *values)
    return table


def _judge_lines(path: Path) -> Iterator[str]:
    """Yield how many answers rules decided and how many calls of the judge were saved, if any."""
    if not path.is_file():
        return
    content = manifest.read(path)
    facts = content["facts"]
    yield (
        f"grading: {facts['n']} answers, {facts['n_accepted']} accepted by rules, "
        f"{facts['n_no_answer']} without an answer, "
        f"{facts['n_pending'] - facts['n_asked']} rejected decisively, "
        f"{facts['n_asked']} left open"
    )
    if content["spec"]["judge"]["engine"]["name"] != "none":
        n_saved = facts["n_asked"] - facts["n_unique"]
        calls = f"{facts['n_unique']} calls for {facts['n_asked']} open answers"
        yield f"judge: {calls}, {n_saved} saved as seen before"


def _column(row: dict[str, str]) -> Column:
    return row["quantity"], row["mix"], row["minus"]


def _columns(rows: list[dict[str, str]], mixes: list[str]) -> list[Column]:
    """Return accuracies in the order in which the experiment names its mixes, then the gap."""
    columns = dict.fromkeys(_column(row) for row in rows if row["model"])
    return sorted(columns, key=lambda column: (column[0] == "gap", mixes.index(column[1])))


def _title(grid: Grid, quantity: str, mix: str, minus: str) -> str:
    names = [label(grid, "mixes", name) for name in (mix, minus) if name]
    return " − ".join(names) + (" (points)" if quantity == "gap" else " (%)")


def _value(row: dict[str, str] | None) -> str:
    if row is None or not row["estimate"]:
        return "missing"
    value, low, high = (100 * float(row[key]) for key in ("estimate", "low", "high"))
    sign = "+" if row["quantity"] == "gap" else ""
    return f"{value:{sign}.1f} [{low:{sign}.1f}, {high:{sign}.1f}]"

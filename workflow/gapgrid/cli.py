"""The `gapgrid` command: what is not a rule of the workflow."""

import argparse
import csv
import sys
from pathlib import Path

from gapgrid import config
from gapgrid.grid import Grid
from gapgrid.records import InputError


def verify(args: argparse.Namespace) -> int:
    """Re-hash every output against its manifest; exit status 1 names each mismatch."""
    from gapgrid import verify as verifying

    grid = config.load(args.grid, _overrides(args))
    results = args.results / args.grid
    if not results.is_dir():
        raise InputError(f"{results}: no results yet; build them with: snakemake --config grid={args.grid}")
    report = verifying.check(grid, results)
    for line in report.problems:
        print(line)
    print(f"{report.n_checked} manifests checked, {len(report.problems)} problems, {report.n_missing} of the grid not built yet")
    return 1 if report.problems else 0


def summary(args: argparse.Namespace) -> int:
    """Print every experiment's averages as a table: students x mixes, and the gap with its interval."""
    from rich.console import Console
    from rich.table import Table

    grid = config.load(args.grid, _overrides(args))
    results = args.results / args.grid
    console = Console(width=None if sys.stdout.isatty() else 100)
    for name, experiment in grid["experiments"].items():
        file = results / "tables" / f"{name}.estimates.csv"
        if not file.is_file():
            console.print(f"{name}: not built yet")
            continue
        with open(file, encoding="utf-8", newline="") as rows:
            averages = [row for row in csv.DictReader(rows) if row["benchmark"] == "average"]
        table = Table(title=f"{name}: {experiment['caption']}", title_justify="left")
        columns = _columns(averages, list(grid["mixes"]) if experiment["mixes"] == "all" else experiment["mixes"])
        table.add_column("student")
        for column in columns:
            table.add_column(_title(grid, *column), justify="right")
        for model in [model for model in grid["models"] if any(row["model"] == model for row in averages)]:
            cells = {_column(row): row for row in averages if row["model"] == model}
            label = grid["models"][model].get("label", model)
            table.add_row(label, *(_value(cells.get(column)) for column in columns))
        console.print(table)
        guess = next((row for row in averages if row["quantity"] == "best_guess"), None)
        seeds = max(int(row["n_seeds"]) for row in averages if row["n_seeds"])
        if guess:
            share, questions = 100 * float(guess["estimate"]), guess["n_questions"]
            console.print(f"best constant guess {share:.1f} %; {seeds} training seed(s), {questions} questions")
    print(f"results: {results}/  figures: {results}/figures/  report: {results}/report.html")
    return 0


Column = tuple[str, str, str]


def _column(row: dict[str, str]) -> Column:
    return row["quantity"], row["mix"], row["minus"]


def _columns(rows: list[dict[str, str]], mixes: list[str]) -> list[Column]:
    """Accuracies in the order in which the experiment names its mixes, then the gap."""
    found = dict.fromkeys(_column(row) for row in rows if row["model"])
    return sorted(found, key=lambda column: (column[0] == "gap", mixes.index(column[1])))


def _title(grid: Grid, quantity: str, mix: str, minus: str) -> str:
    names = [grid["mixes"][name].get("label", name) if name in grid["mixes"] else "untouched" for name in (mix, minus) if name]
    return " − ".join(names) + (" (points)" if quantity == "gap" else " (%)")


def _value(row: dict[str, str] | None) -> str:
    if row is None:
        return "missing"
    value, low, high = (100 * float(row[key]) for key in ("estimate", "low", "high"))
    sign = "+" if row["quantity"] == "gap" else ""
    return f"{value:{sign}.1f} [{low:{sign}.1f}, {high:{sign}.1f}]"


def _overrides(args: argparse.Namespace) -> dict[str, list[int]]:
    return {"seeds": args.seeds} if args.seeds else {}


def main(argv: list[str] | None = None) -> int:
    """Entry point; an `InputError` is one message and exit status 1."""
    parser = argparse.ArgumentParser(prog="gapgrid", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, work in (("verify", verify), ("summary", summary)):
        command = commands.add_parser(name, help=(work.__doc__ or "").split(";")[0].rstrip("."), description=work.__doc__)
        command.add_argument("grid", help="a folder of config/")
        command.add_argument("--seeds", type=int, nargs="+", help="the seeds given to snakemake by --config, if any")
        command.add_argument("--results", type=Path, default=Path("results"), help="the results folder (default results)")
        command.set_defaults(work=work)
    args = parser.parse_args(argv)
    try:
        return int(args.work(args))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1

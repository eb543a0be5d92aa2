"""The `gapgrid` command: what is not a rule of the workflow."""

import argparse
import csv
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from gapgrid import config, manifest
from gapgrid.commands import poweroptions
from gapgrid.grid import Grid
from gapgrid.records import InputError, read_json


def verify(args: argparse.Namespace) -> int:
    """Re-hash every output against its manifest; exit status 1 names each mismatch."""
    from gapgrid.commands import verify as verifying

    grid = config.load(args.grid, _overrides(args))
    results = args.results / args.grid
    if not results.is_dir():
        raise InputError(f"{results}: no results yet; build them with: snakemake --config grid={args.grid}")
    report = verifying.check(grid, results)
    for line in report.problems:
        print(line)
    print(f"{report.n_checked} manifests checked, {len(report.problems)} problems, {report.n_missing} of the grid not built yet")
    return 1 if report.problems else 0


def status(args: argparse.Namespace) -> int:
    """Say of every result whether it is fresh, stale and why, running, failed or missing; nothing is started."""
    from rich.console import Console

    from gapgrid.commands import statusview

    grid = config.load(args.grid, _overrides(args))
    statuses = statusview.status_of(grid, args.results / args.grid)
    if args.json:
        print(statusview.as_json(grid, statuses))
    else:
        statusview.show(grid, statuses, Console(width=None if sys.stdout.isatty() else 100))
    return 0


def page(args: argparse.Namespace) -> int:
    """Write the grid page, results/GRID/grid.html: a heat map of scores and states, a card for every cell; opens without a server."""
    from gapgrid.commands import statusview
    from gapgrid.page import gridpage

    grid = config.load(args.grid, _overrides(args))
    results = args.results / args.grid
    written = gridpage.write(grid, results, statusview.status_of(grid, results))
    print(f"{written}")
    return 0


def tables(args: argparse.Namespace) -> int:
    """Write every experiment's tables from the cells that are there; the rest is shown as missing.

    CSV, Markdown and LaTeX, by the same functions as the workflow's own tables in results/GRID/tables, which stay as they are.
    """
    from gapgrid.commands import preview

    grid = config.load(args.grid, _overrides(args))
    out = args.out or args.results / args.grid / "preview"
    for line in preview.write_tables(grid, args.results / args.grid, out):
        print(line)
    print(f"written to {out}/")
    return 0


def figures(args: argparse.Namespace) -> int:
    """Draw every experiment's figure from what `gapgrid tables` wrote; what is not built is left out and named."""
    from gapgrid.commands import sketch

    results = args.results / args.grid
    tables_of = args.tables or results / "preview"
    for line in sketch.draw_figures(config.load(args.grid, _overrides(args)), results, tables_of, args.out or tables_of / "figures"):
        print(line)
    return 0


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
            averages = [row for row in csv.DictReader(rows) if row["benchmark"] == "average" and row["quantity"] in SUMMED_UP]
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
    for line in _judge_lines(results / "judge" / "round.json"):
        print(line)
    print(f"results: {results}/  figures: {results}/figures/  report: {results}/report.html  grid: {results}/grid.html")
    return 0


def power(args: argparse.Namespace) -> int:
    """Plan how many repeats, training seeds and questions a gap needs to be seen; from the grid's own scores, or a declared flip rate.

    Prints, for the mean over benchmarks or one of them, the power of the present plan, the least of each that suffices, and what
    each doubling buys.
    """
    from rich.console import Console

    from gapgrid.commands import planner

    grid = config.load(args.grid, _overrides(args))
    wanted = planner.Wanted(**{key: getattr(args, key) for key in planner.Wanted._fields})
    planner.run(grid, args.results / args.grid, wanted, Console(width=None if sys.stdout.isatty() else 100))
    return 0


def resume(args: argparse.Namespace) -> int:
    """After a controller that died hard: wait for its jobs in this folder, or cancel them, then go on."""
    from gapgrid.commands import resume as resuming

    return resuming.resume(Path.cwd(), args.cancel)


def audit_sample(args: argparse.Namespace) -> int:
    """Label a sample of graded answers by hand, blind, in the terminal; goes on where it was left."""
    from gapgrid.commands import labelling

    config.load(args.grid, _overrides(args))
    return labelling.sample(args.results / args.grid, args.labels or Path("labels") / f"{args.grid}.jsonl", args.n, args.seed)


def audit_report(args: argparse.Namespace) -> int:
    """Print the false-accept and false-reject rates of rules and judge that the labels of a grid show."""
    from rich.console import Console

    from gapgrid.commands import labelling

    console = Console(width=None if sys.stdout.isatty() else 100)
    return labelling.report(args.labels or Path("labels") / f"{args.grid}.jsonl", console)


def judges(args: argparse.Namespace) -> int:
    """List the judges in a grid's verdict ledger; compare two of them, or forget what one left unparsed."""
    from gapgrid.ledger import Ledger

    path = args.results / args.grid / "judge" / "verdicts.sqlite"
    with Ledger(path, must_exist=True, read_only=not args.forget_unparsed) as ledger:
        known = {digest for digest, _, _ in ledger.judges()}
        for digest in [*(args.compare or ()), *([args.forget_unparsed] if args.forget_unparsed else [])]:
            if digest not in known:
                raise InputError(f"{path}: no judge '{digest}', expected one of {', '.join(sorted(known)) or 'none'}")
        if args.forget_unparsed:
            n_forgotten = ledger.forget_unparsed(args.forget_unparsed)
            _judge_again(args.results / args.grid)
            print(f"{n_forgotten} unparsed verdicts forgotten; the next run asks for them again")
        for digest, n_verdicts, who in ledger.judges():
            print(f"{digest}  {n_verdicts} verdicts  {who}")
        if args.compare:
            found = ledger.compare(*args.compare)
            print(f"{found.n_agree} pairs agree, {found.n_disagree} disagree, {found.n_unparsed} unparsed by one of them")
            for pair, first, second in found.disagreeing:
                print(json.dumps({**pair._asdict(), args.compare[0]: first, args.compare[1]: second}, ensure_ascii=True))
    return 0


def _judge_again(results: Path) -> None:
    """Take back what counted unparsed verdicts: the stamp that vouches for them, and the scores, which the next run then lacks."""
    (results / "judge" / "round.json").unlink(missing_ok=True)
    for score in results.glob("score/*/*/*/*/score.json"):
        if read_json(score)["n_unparsed"]:
            score.unlink()


def export(args: argparse.Namespace) -> int:
    """Write summary_results_{task}.json and problematic_instances_{task}.json per training cell, as the paper's scripts do.

    A task that several benchmarks share is named by the benchmark instead.
    """
    from gapgrid import exports
    from gapgrid.grid import all_cells

    grid = config.load(args.grid, _overrides(args))
    asked = Counter(entry["task"] for entry in grid["benchmarks"].values())
    tasks = {name: entry["task"] if asked[entry["task"]] == 1 else name for name, entry in grid["benchmarks"].items()}
    written = exports.export_grid(args.results / args.grid, all_cells(grid), args.out, tasks)
    print(f"{len(written)} files written to {args.out}/")
    return 0 if written else 1


def _judge_lines(stamp: Path) -> Iterator[str]:
    """What the judge was asked and what it was spared, if it has run."""
    if not stamp.is_file():
        return
    found = manifest.read(stamp)
    facts = found["facts"]
    yield (
        f"grading: {facts['n']} answers, {facts['n_accepted']} accepted by rules, {facts['n_no_answer']} without an answer, "
        f"{facts['n_pending'] - facts['n_asked']} rejected decisively, {facts['n_asked']} left open"
    )
    if found["spec"]["judge"]["engine"]["name"] != "none":
        n_saved = facts["n_asked"] - facts["n_unique"]
        yield f"judge: {facts['n_unique']} calls for {facts['n_asked']} open answers, {n_saved} saved as seen before"


Column = tuple[str, str, str]
SUMMED_UP = ("accuracy", "gap", "best_guess")  # a table holds more


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


def _command(commands: Any, name: str, work: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
    """A command about one grid."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=(work.__doc__ or "").split(";")[0].rstrip("."), description=work.__doc__
    )
    parser.add_argument("grid", help="a folder of config/")
    parser.add_argument("--seeds", type=int, nargs="+", help="the seeds given to snakemake by --config, if any")
    parser.add_argument("--results", type=Path, default=Path("results"), help="the results folder (default results)")
    parser.set_defaults(work=work)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Entry point; an `InputError` is one message and exit status 1."""
    parser = argparse.ArgumentParser(prog="gapgrid", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _command(commands, "verify", verify)
    _command(commands, "status", status).add_argument("--json", action="store_true", help="for machines")
    _command(commands, "page", page)
    _command(commands, "summary", summary)
    _command(commands, "tables", tables).add_argument("--out", type=Path, help="folder to write to (default RESULTS/GRID/preview)")
    _command(commands, "export", export).add_argument("--out", type=Path, required=True, help="folder to write to")
    of_judges = _command(commands, "judges", judges)
    of_judges.add_argument("--compare", nargs=2, metavar="JUDGE", help="two digests: print the pairs on which they disagree, as JSON lines")
    of_judges.add_argument("--forget-unparsed", metavar="JUDGE", help="a digest: have its unparsed pairs judged again by the next run")
    draws = _command(commands, "figures", figures)
    draws.add_argument("--tables", type=Path, help="folder of tables (default RESULTS/GRID/preview)")
    draws.add_argument("--out", type=Path, help="folder to write to (default its folder figures)")
    poweroptions.add(_command(commands, "power", power))
    resumes = commands.add_parser("resume", help="Go on after a SLURM controller that died hard", description=resume.__doc__)
    resumes.add_argument("--cancel", action="store_true", help="cancel its jobs instead of waiting for them")
    resumes.set_defaults(work=resume)
    audit = commands.add_parser("audit", help="Label graded answers by hand, and what the labels say")
    audits = audit.add_subparsers(dest="part", required=True, metavar="PART")
    sample = _command(audits, "sample", audit_sample)
    sample.add_argument("-n", type=int, default=200, help="how many pairs to draw (default 200)")
    sample.add_argument("--seed", type=int, default=0, help="seed of the draw (default 0)")
    for command in (sample, _command(audits, "report", audit_report)):
        command.add_argument("--labels", type=Path, help="the file of labels (default labels/<grid>.jsonl)")
    args = parser.parse_args(argv)
    try:
        return int(args.work(args))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1

"""The parser of the `gapgrid` command; each command is a function of a module of `commands`."""

import argparse
from importlib import import_module
from pathlib import Path
from typing import Any

from gapgrid.core.cells import AVERAGE
from gapgrid.core.stage_cli import report_errors
from gapgrid.interop.columns import GOLD_COLUMNS, GRADERS, PROBLEM_COLUMNS

Parser = argparse.ArgumentParser


def parser() -> Parser:
    """Return the parser; what it parses names a module of `commands` and that module's function."""
    top = Parser(prog="gapgrid", description="Inspect, verify, grade and export results.")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    text = "Re-hash every output against its manifest and name each mismatch."
    _command(commands, "verify", text)
    text = "Show which results are fresh, stale (and why), running, failed or missing."
    status = _command(commands, "status", text)
    status.add_argument("--json", action="store_true", help="Print JSON instead of tables.")
    text = "Write the grid page, results/GRID/grid.html, which opens without a server."
    _command(commands, "page", text)
    text = "Print the averages of every experiment, with gaps and their intervals."
    _command(commands, "summary", text)
    _add_previews(commands)
    text = "Plan how many repeats, seeds and questions are needed to detect a gap."
    _add_power_options(_command(commands, "power", text, "planner"))
    _add_judges(commands)
    text = "Write each training cell's results in the files of the paper's scripts."
    export = _command(commands, "export", text)
    export.description = f"""{text} They are summary_results_TASK.json and
        problematic_instances_TASK.json; a task that several benchmarks share is named by the
        benchmark instead."""
    export.add_argument("--out", type=Path, required=True, help="The folder to write to.")
    _add_audit(commands)
    text = "Continue after a SLURM controller died and left its jobs running."
    resume = _command(commands, "resume", text, has_grid=False)
    text = "Cancel the jobs that are left instead of waiting for them."
    resume.add_argument("--cancel", action="store_true", help=text)
    text = "Grade a file of pairs (reference, answer) by rules, without a grid."
    pairs = _command(commands, "pairs", text, has_grid=False)
    text = "JSON lines with id, gold, and pred or response."
    pairs.add_argument("pairs", type=Path, metavar="FILE", help=text)
    text = "Grade lm-eval's samples_*.jsonl by rules, without a grid."
    _add_samples_options(_command(commands, "samples", text, has_grid=False))
    return top


def _command(
    commands: Any, name: str, text: str, function: str = "", has_grid: bool = True
) -> Parser:
    """Add a command; `function` is `module:function` of `commands`, by default `name:run`."""
    added: Parser = commands.add_parser(name, help=text, description=text)
    module, _, called = (function or name).partition(":")
    added.set_defaults(module=module, function=called or "run")
    if has_grid:
        added.add_argument("grid", metavar="GRID", help="The name of a folder in config/.")
        text = "The training seeds, if snakemake was given some by --config."
        added.add_argument("--seeds", type=int, nargs="+", metavar="SEED", help=text)
        text = "The folder in which GRID's results lie (default results)."
        added.add_argument("--results", type=Path, default=Path("results"), help=text)
    return added


def _add_previews(commands: Any) -> None:
    text = "Write every experiment's tables from the cells that are scored; the rest is missing."
    tables = _command(commands, "tables", text, "preview:run_tables")
    tables.description = f"""{text} The files are CSV, Markdown and LaTeX, like those of the
        workflow in results/GRID/tables, which stay as they are."""
    text = "The folder to write to (default RESULTS/GRID/preview)."
    tables.add_argument("--out", type=Path, help=text)
    text = "Draw every experiment's figure from the files that `gapgrid tables` wrote."
    figures = _command(commands, "figures", text, "preview:run_figures")
    text = "The folder of these files (default RESULTS/GRID/preview)."
    figures.add_argument("--tables", type=Path, help=text)
    text = "The folder to write to (default TABLES/figures)."
    figures.add_argument("--out", type=Path, help=text)


def _add_judges(commands: Any) -> None:
    text = "List the judges in a grid's verdict ledger, or compare two."
    judges = _command(commands, "judges", text)
    text = "Print the pairs on which the judges of these two digests disagree, as JSON lines."
    judges.add_argument("--compare", nargs=2, metavar="JUDGE", help=text)
    text = "Have the next run judge again what the judge of this digest left unparsed."
    judges.add_argument("--forget-unparsed", metavar="JUDGE", help=text)


def _add_audit(commands: Any) -> None:
    text = "Label graded answers by hand, or report the error rates that the labels show."
    audit = commands.add_parser("audit", help=text, description=text)
    parts = audit.add_subparsers(dest="part", required=True, metavar="PART")
    text = "Label a sample of graded answers blind, in the terminal; a later call continues it."
    sample = _command(parts, "sample", text, "labelling")
    text = "The number of pairs to draw (default 200)."
    sample.add_argument("-n", type=int, default=200, help=text)
    sample.add_argument("--seed", type=int, default=0, help="The seed of the draw (default 0).")
    text = "Print the false-accept and false-reject rates of rules and judge by the labels."
    report = _command(parts, "report", text, "error_rates")
    text = "The file of the labels (default labels/GRID.jsonl)."
    for part in (sample, report):
        part.add_argument("--labels", type=Path, help=text)


def _add_power_options(power: Parser) -> None:
    """Add the fields of `planner.Wanted`."""
    power.description = f"""{power.description} Its rates come from the grid's own scores, or from a
        declared flip rate. Prints the power of the present plan, the least of each that suffices,
        and what each doubling changes."""
    goal = power.add_argument_group("what to detect")
    text = "The gap to detect, in percentage points (default 3)."
    goal.add_argument("--gap", type=float, default=3.0, metavar="POINTS", help=text)
    text = "The two mixes, first minus second (default: the first experiment's contrast)."
    goal.add_argument("--contrast", nargs=2, metavar="MIX", help=text)
    text = "The benchmark to plan for (default: the mean over the experiment's benchmarks)."
    goal.add_argument("--benchmark", default=AVERAGE, help=text)
    text = "The students whose scores are used (default: all that are scored)."
    goal.add_argument("--models", nargs="+", metavar="MODEL", help=text)
    text = "The wanted probability of detecting the gap (default 0.8)."
    goal.add_argument("--power", type=float, default=0.8, help=text)
    text = """The significance level of the two-sided test of one gap by itself (default 0.05).
        Tables are stricter: they correct for all gaps of an experiment."""
    goal.add_argument("--alpha", type=float, default=0.05, help=text)
    plan = power.add_argument_group("the plan, where it differs from the grid's")
    text = "The number of answers to each question."
    plan.add_argument("--repeats", type=int, metavar="K", help=text)
    text = "The number of training seeds."
    plan.add_argument("--n-seeds", type=int, metavar="S", help=text)
    text = "The number of questions of all benchmarks together."
    plan.add_argument("--n-questions", type=int, metavar="N", help=text)
    rates = power.add_argument_group("rates declared instead of measured")
    text = "The share of questions of which exactly one of the two students' answers is correct."
    rates.add_argument("--flip-rate", type=float, metavar="SHARE", help=text)
    text = "The gap's standard deviation between seeds, in percentage points (default 0)."
    rates.add_argument("--seed-sd", type=float, default=0.0, metavar="POINTS", help=text)
    text = "The share of the remaining variance that more repeats reduce (default 0)."
    rates.add_argument("--within", type=float, default=0.0, metavar="SHARE", help=text)


def _add_samples_options(samples: Parser) -> None:
    text = "Folders of sample files, or folders of such folders."
    samples.add_argument("samples", type=Path, nargs="+", metavar="FOLDER", help=text)
    text = "Write graded rows, pending rows and the paper's files to this folder."
    samples.add_argument("--out", type=Path, metavar="FOLDER", help=text)
    text = "Grade only these tasks."
    samples.add_argument("--task", action="extend", nargs="+", metavar="NAME", help=text)
    text = "Which of several runs is graded: its timestamp, or latest."
    samples.add_argument("--run", metavar="TIMESTAMP", help=text)
    text = "Read only the rows of this filter, if filters differ in their responses."
    samples.add_argument("--filter", metavar="NAME", help=text)
    text = f"The column of doc with the reference answer ({_first_of(GOLD_COLUMNS)})."
    samples.add_argument("--gold-column", metavar="NAME", help=text)
    text = f"The column of doc with the problem ({_first_of(PROBLEM_COLUMNS)})."
    samples.add_argument("--problem-column", metavar="NAME", help=text)
    text = "How answers are extracted (default: boxed_or_last_number for gsm8k*, else boxed)."
    samples.add_argument("--grader", choices=GRADERS, help=text)


def _first_of(columns: tuple[str, ...]) -> str:
    return f"default: the first of {', '.join(columns)}"


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit status; a mistake of the user is one message."""
    args = parser().parse_args(argv)

    def run() -> int:
        return int(getattr(import_module(f"gapgrid.commands.{args.module}"), args.function)(args))

    return report_errors("gapgrid", run)

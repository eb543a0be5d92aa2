"""Stage `case`: the same problem answered by several students, side by side.

A declared rule chooses the problems. One matches in a seed and repeat if every student of which the
rule speaks answers it so. Shown are the first that match, in the order of benchmarks and problems,
each in the first seed in which it does. The page also counts each pattern of verdicts, so that
nobody takes a case for the common one; where nothing matches it says so.
"""

from argparse import Namespace
from collections import Counter
from pathlib import Path

from gapgrid.core import manifest, rows
from gapgrid.core.cells import UNTOUCHED, Cell
from gapgrid.core.records import InputError, sha256_file, write_text
from gapgrid.core.spec_types import CaseSpec
from gapgrid.core.stage_cli import run_stage, stage_parser
from gapgrid.reporting.case_page import Answer, Case, Column, Selection, page

Key = tuple[int, int]  # doc_id, repeat
Answers = dict[Cell, dict[Key, Answer]]


def read_cell(score: Path) -> dict[Key, Answer]:
    """Return a cell's answers by problem and repeat; `score` is its score's manifest.

    Raises `InputError` unless verdicts, graded rows and samples are about the same answers.
    """
    seed = Cell.of_file(score).seed
    return {
        (sample["doc_id"], sample["repeat"]): Answer(seed, sample, graded, verdict)
        for sample, graded, verdict in rows.read_cell(score)
    }


def columns(spec: CaseSpec) -> list[Column]:
    """Return the page's columns, students and then mixes in the order in which they are named."""
    models, mixes = spec["shown"]["models"], spec["shown"]["mixes"]
    return [
        Column(model, mix, f"{student}, {label}" if len(models) > 1 else label, wanted)
        for model, student in models
        for mix, label in mixes
        for wanted in [spec["choose"].get(mix)]
    ]


def choose(answers: Answers, spec: CaseSpec) -> Selection:
    """Return every problem that matches, in order, and counts over all problems and seeds."""
    cells = [Cell(*cell) for cell in spec["cells"]]
    trained = [cell for cell in cells if cell.mix != UNTOUCHED]
    seeds = sorted({cell.seed for cell in trained or cells})
    shown = columns(spec)
    wanted = tuple(column.wanted for column in shown if column.wanted)
    cases, n_problems, patterns = [], {}, Counter[tuple[str, ...]]()
    for benchmark, _ in spec["shown"]["benchmarks"]:
        keys = sorted(next(answers[cell] for cell in answers if cell.benchmark == benchmark))
        matches: dict[int, list[tuple[int, int, list[Answer]]]] = {}
        for seed in seeds:
            for doc_id, repeat in keys:
                side_by_side = _answers_to(answers, shown, seed, benchmark, (doc_id, repeat))
                pairs = zip(side_by_side, shown, strict=True)
                pattern = tuple(answer.outcome for answer, column in pairs if column.wanted)
                patterns[pattern] += 1
                if pattern == wanted:
                    matches.setdefault(doc_id, []).append((seed, repeat, side_by_side))
        n_problems[benchmark] = len({doc_id for doc_id, _ in keys})
        for doc_id, matching in sorted(matches.items()):
            n_seeds = len({seed for seed, _, _ in matching})
            cases.append(Case(benchmark, doc_id, *matching[0], n_seeds))
    return Selection(cases, n_problems, patterns, len(seeds))


def _answers_to(
    answers: Answers, shown: list[Column], seed: int, benchmark: str, key: Key
) -> list[Answer]:
    """Return each column's answer; a student with one state before SFT has it for every seed."""
    side_by_side = []
    for column in shown:
        cell = Cell(column.model, column.mix, seed, benchmark)
        if cell not in answers and column.mix == UNTOUCHED:
            cell = cell._replace(seed=0)
        if key not in answers.get(cell, {}):
            raise InputError(f"case: {cell} has no answer to problem {key[0]}, repeat {key[1]}")
        side_by_side.append(answers[cell][key])
    return side_by_side


def work(args: Namespace) -> None:
    """Read the cells, choose, write the page and the manifest."""
    spec: CaseSpec = args.spec
    cells = [Cell(*cell) for cell in spec["cells"]]
    answers: Answers = {}
    for score, cell in zip(args.scores, cells, strict=True):
        if Cell.of_file(score) != cell:
            raise InputError(f"{score}: expected the score of {cell}")
        answers[cell] = read_cell(score)
    selection = choose(answers, spec)
    write_text(args.page, page(selection, spec, columns(spec)))
    hashes = [sha256_file(score) for score in args.scores]
    inputs = dict(zip(map(str, cells), hashes, strict=True))
    n_problems = sum(selection.n_problems.values())
    facts = {"n_matching": len(selection.cases), "n_problems": n_problems}
    manifest.write(args.manifest, "case", args.spec, inputs, [args.page.name], facts=facts)


def main(argv: list[str] | None = None) -> int:
    """Run `--spec … PAGE MANIFEST SCORE_MANIFESTS…`."""
    parser = stage_parser("case", __doc__)
    for name in ("page", "manifest"):
        parser.add_argument(name, type=Path)
    in_order = "the scores' manifests, in the order of the spec's cells"
    parser.add_argument("scores", type=Path, nargs="+", help=in_order)
    return run_stage(parser, work, argv)


if __name__ == "__main__":
    raise SystemExit(main())

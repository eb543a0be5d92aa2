"""Stage `case`: the same problem answered by several students, side by side; which problems, a declared rule chooses.

A problem matches in one seed and repeat if every student that the rule speaks of answers it so. Shown are the first that
match, in the order of benchmarks and problems, each in the first seed in which it does. Beside them stands how often each
pattern of verdicts occurs, so that nobody takes a case for the rule; where nothing matches the page says so.
"""

from argparse import Namespace
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from gapgrid import manifest
from gapgrid.case_page import page
from gapgrid.command import run_stage, stage_parser
from gapgrid.records import InputError, Row, read_jsonl, sha256_file, write_text

CELL = ("model", "mix", "seed", "benchmark")
UNTOUCHED = "none"
Place = tuple[int, int]  # doc_id, repeat
Answers = dict[tuple[str, str, int, str], dict[Place, Row]]


class Case(NamedTuple):
    """One problem to show: where it matched first, how many seeds it matches in, and each student's answer in the columns' order."""

    benchmark: str
    doc_id: int
    seed: int
    repeat: int
    n_seeds: int
    answers: list[Row]


class Found(NamedTuple):
    """What the rule found: all cases, how many problems there are by benchmark, and how often each pattern of outcomes occurs."""

    cases: list[Case]
    n_problems: dict[str, int]
    patterns: Counter[tuple[str, ...]]


def read_cell(score: Path) -> dict[Place, Row]:
    """A cell's answers with their verdicts, by problem and repeat; `score` is its score's manifest.

    Raises `InputError` unless verdicts, graded rows and samples are about the same answers.
    """
    folder = Path(*score.parts[:-6], "grade", *score.parts[-5:-1])
    files = (folder / "samples.jsonl", folder / "graded.jsonl", score.with_name("verdicts.jsonl"))
    rows = [read_jsonl(file) for file in files]
    places = [[(row["doc_id"], row["repeat"]) for row in part] for part in rows]
    if not places[0] == places[1] == places[2]:
        raise InputError(f"{score}: its verdicts, {files[1]} and {files[0]} are not about the same answers in the same order")
    return {place: {**sample, **grade, **verdict} for place, sample, grade, verdict in zip(places[0], *rows, strict=True)}


def outcome(row: Row) -> str:
    """`right`, `wrong` (no answer too), or `unparsed` where nobody can tell."""
    return {"correct": "right", "unparsed": "unparsed"}.get(row["verdict"], "wrong")


def columns(spec: dict[str, Any]) -> list[tuple[str, str]]:
    """Student and mix of each column, in the order in which the experiment names them."""
    return [(model, mix) for model, _ in spec["shown"]["models"] for mix, _ in spec["shown"]["mixes"]]


def answers_to(answers: Answers, spec: dict[str, Any], benchmark: str, seed: int, place: Place) -> list[Row]:
    """Each column's answer to one problem in one seed. A student with one untouched state has it for each seed."""
    found = []
    for model, mix in columns(spec):
        cell = (model, mix, seed, benchmark)
        if cell not in answers and mix == UNTOUCHED:
            cell = (model, mix, 0, benchmark)
        if place not in answers.get(cell, {}):
            raise InputError(f"case: {'/'.join(map(str, cell))} has no answer to problem {place[0]}, repeat {place[1]}")
        found.append({**answers[cell][place], "seed": cell[2]})
    return found


def choose(answers: Answers, spec: dict[str, Any]) -> Found:
    """Every problem that matches, in order, and counts over all problems, seeds and repeats."""
    cells = [tuple(cell) for cell in spec["cells"]]
    seeds = sorted({cell[2] for cell in cells if cell[1] != UNTOUCHED} or {cell[2] for cell in cells})
    asked = [spec["choose"].get(mix) for _, mix in columns(spec)]
    cases, n_problems, patterns = [], {}, Counter[tuple[str, ...]]()
    for benchmark, _ in spec["shown"]["benchmarks"]:
        first = next(answers[cell] for cell in answers if cell[3] == benchmark)
        matched: dict[int, list[tuple[int, int, list[Row]]]] = {}
        for seed in seeds:
            for place in sorted(first):
                rows = answers_to(answers, spec, benchmark, seed, place)
                pattern = tuple(outcome(row) for row, wanted in zip(rows, asked, strict=True) if wanted)
                patterns[pattern] += 1
                if pattern == tuple(filter(None, asked)):
                    matched.setdefault(place[0], []).append((seed, place[1], rows))
        n_problems[benchmark] = len({doc_id for doc_id, _ in first})
        for doc_id, found in sorted(matched.items()):
            seed, repeat, rows = found[0]
            cases.append(Case(benchmark, doc_id, seed, repeat, len({one[0] for one in found}), rows))
    return Found(cases, n_problems, patterns)


def labels(spec: dict[str, Any]) -> Iterator[str]:
    """What each column is called: its mix, and its student where there are several."""
    names = {kind: dict(spec["shown"][kind]) for kind in ("models", "mixes")}
    for model, mix in columns(spec):
        yield names["mixes"][mix] if len(names["models"]) == 1 else f"{names['models'][model]}, {names['mixes'][mix]}"


def work(args: Namespace) -> None:
    """Read the cells, choose, write the page and the manifest."""
    answers: Answers = {}
    for score, (model, mix, seed, benchmark) in zip(args.scores, args.spec["cells"], strict=True):
        if list(score.parts[-5:-1]) != [model, mix, str(seed), benchmark]:
            raise InputError(f"{score}: expected the score of {model}/{mix}/{seed}/{benchmark}")
        answers[model, mix, seed, benchmark] = read_cell(score)
    found = choose(answers, args.spec)
    write_text(args.page, page(found, args.spec, list(labels(args.spec)), [args.spec["choose"].get(mix) for _, mix in columns(args.spec)]))
    inputs = {"/".join(file.parts[-5:-1]): sha256_file(file) for file in args.scores}
    facts = {"n_matching": len(found.cases), "n_problems": sum(found.n_problems.values())}
    manifest.write(args.manifest, "case", args.spec, inputs, [args.page.name], facts=facts)


def main(argv: list[str] | None = None) -> int:
    """`python -m gapgrid.case --spec … PAGE MANIFEST SCORE_MANIFESTS…`."""
    parser = stage_parser("case", __doc__)
    for name in ("page", "manifest"):
        parser.add_argument(name, type=Path)
    parser.add_argument("scores", type=Path, nargs="+", help="the scores' manifests, in the order of the spec's cells")
    return run_stage(parser, work, argv)


if __name__ == "__main__":
    raise SystemExit(main())

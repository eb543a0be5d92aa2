"""Stage `audit`: how a grid's answers were graded: by which step and rule, and where they disagree.

Cells are read one at a time: memory holds the answers of one cell, the counts, and the rows shown
on the page.
"""

import csv
import os
from argparse import Namespace
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from urllib.parse import quote

from gapgrid.core import layout, manifest, rows
from gapgrid.core.cells import Cell
from gapgrid.core.records import (
    InputError,
    Row,
    atomic,
    canonical,
    read_json,
    sha256_file,
    sha256_text,
    write_text,
)
from gapgrid.core.rows import CORRECT, INCORRECT, NO_ANSWER, UNPARSED
from gapgrid.core.stage_cli import run_stage, stage_parser
from gapgrid.core.text import capped, cell_text
from gapgrid.grading.prompt_injection import flags
from gapgrid.reporting.html import render

CATEGORIES = {  # each answer is in exactly one, so the counts add up to n
    "both": "a rule accepted it, and so did the judge",
    "rule_only": "a rule accepted it; the judge did not see it, or did not accept it",
    "judge_only": "no rule accepted it, the judge did",
    "neither": "no rule decided, and the judge rejected it",
    "decisively_rejected": "a rule understood answer and reference and found them different; "
    "the judge did not see it, or rejected it too",
    "undecided": "no rule decided and no judge saw it",
    UNPARSED: "no rule accepted it, and the judge's reply holds no verdict",
    NO_ANSWER: "no answer was found in the response",
}
# Counted besides; an answer may have several.
PROPERTIES = ("truncated", "flagged", "rule_accepted", "judge_accepted")
AUDIT_COLUMNS = ("benchmark", "model", "n", *CATEGORIES, *PROPERTIES)
RULES_COLUMNS = ("benchmark", "rule", "outcome", "n", "share")
KINDS = {  # why an answer is worth a look; there may be several reasons
    "overruled": "The judge accepted what a rule had decisively rejected",
    "judge_accepted": "The judge accepted what no rule had decided",
    "judge_rejected": "The judge rejected what a rule had accepted",
    UNPARSED: "The judge's reply holds no verdict",
    "flagged": "The answer seems to speak to the judge, or hides something",
}
ALL = "all"  # in a row that counts over every model or benchmark
# Longest text in a CSV cell, in characters.
TEXTS = {"problem": 2000, "gold": 2000, "answer": 2000, "judge_reply": 500}
DISAGREEMENT_COLUMNS = (
    *("kinds", *Cell._fields, "doc_id", "repeat", "problem", "gold", "answer"),
    *("rule", "rejected_by", "verdict", "judge_reply", "flags", "link"),
)
MOST_SHOWN = 100  # rows per kind on the page
MOST_TEXT = 300  # characters of a text on the page


def cell_files(score: Path) -> list[Path]:
    """Return the files that are read of a cell: `score`, verdicts, graded rows and samples."""
    names = ("graded.jsonl", "samples.jsonl")
    graded = [layout.same_cell(score, "grade", name) for name in names]
    return [score, score.with_name("verdicts.jsonl"), *graded]


def read_cell(score: Path) -> Iterator[Row]:
    """Yield a cell's answers; `score` is its score.json.

    A row has the cell's coordinates, the columns of its graded row and its verdict, `problem`,
    `finish`, and `samples` and `line`: the file samples.jsonl and its line there. Raises
    `InputError` if a column is missing or the files are not about the same answers.
    """
    counts = read_json(score)
    samples = layout.same_cell(score, "grade", "samples.jsonl")
    try:
        cell = {key: counts[key] for key in Cell._fields}
        for line, (sample, graded, verdict) in enumerate(rows.read_cell(score), 1):
            yield {
                **cell,
                **graded,
                **verdict,
                "rejected_by": graded["rejected_by"],
                "problem": sample["problem"],
                "finish": sample["finish"],
                "samples": samples,
                "line": line,
            }
    except KeyError as error:
        where = "in it or in the rows that go with it"
        raise InputError(f"{score}: no column {error} {where}; run the workflow again") from None


def judged(row: Row) -> str | None:
    """Return the judge's verdict: `correct`, `incorrect`, `unparsed`, or None if it saw no answer.

    It is the answer's verdict where the judge decided (`by` is "judge"). Where a rule decided and
    the judge was asked as well, it is the column `judge_verdict`, which a cell need not have.
    """
    if row["answer"] is None:
        return None
    return row["verdict"] if row["by"] == "judge" else row.get("judge_verdict")


def category(row: Row) -> str:
    """Return the one of `CATEGORIES` in which an answer is counted."""
    opinion = judged(row)
    if row["answer"] is None:
        return NO_ANSWER
    if row["rule_correct"]:
        return "both" if opinion == CORRECT else "rule_only"
    if opinion in (CORRECT, UNPARSED):
        return "judge_only" if opinion == CORRECT else UNPARSED
    if row["rejected_by"]:
        return "decisively_rejected"
    return "undecided" if opinion is None else "neither"


def decided(row: Row) -> tuple[str, str]:
    """Return which rule decided and the outcome.

    That is accepted, rejected, no_answer, judge_correct, judge_incorrect, unparsed or undecided.
    The rule of an undecided answer is why no rule accepted it: `different`, `rule_timeout` and so
    on.
    """
    if row["answer"] is None:
        return row["rule"], NO_ANSWER
    if row["by"] == "judge":
        return "judge", UNPARSED if row["verdict"] == UNPARSED else f"judge_{row['verdict']}"
    if row["rule_correct"]:
        return row["rule"], "accepted"
    return (row["rejected_by"], "rejected") if row["rejected_by"] else (row["rule"], "undecided")


def kinds(row: Row, signs: Sequence[str]) -> list[str]:
    """Return for which of `KINDS` an answer is worth a look; `signs` are its flags."""
    opinion, is_rejected = judged(row), row["rejected_by"] is not None
    is_disputed = opinion == CORRECT and not row["rule_correct"]
    is_kind = {
        "overruled": is_disputed and is_rejected,
        "judge_accepted": is_disputed and not is_rejected,
        "judge_rejected": opinion == INCORRECT and row["rule_correct"],
        UNPARSED: opinion == UNPARSED,
        "flagged": bool(signs),
    }
    return [kind for kind in KINDS if is_kind[kind]]


class Counts:
    """Counts of answers, by benchmark and model and by benchmark and rule, each with totals."""

    def __init__(self) -> None:
        self.groups: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)
        self.rules: defaultdict[str, Counter[tuple[str, str]]] = defaultdict(Counter)

    def add(self, row: Row, signs: Sequence[str]) -> None:
        """Count one answer; `signs` are its flags."""
        counted = category(row)
        has = {
            "truncated": row["finish"] == "length",
            "flagged": bool(signs),
            "rule_accepted": counted in ("both", "rule_only"),
            "judge_accepted": counted in ("both", "judge_only"),
        }
        names = ["n", counted, *(name for name in PROPERTIES if has[name])]
        for benchmark in (row["benchmark"], ALL):
            self.rules[benchmark][decided(row)] += 1
            for model in (row["model"], ALL):
                self.groups[benchmark, model].update(names)

    def audit_rows(self) -> list[Row]:
        """Return the rows of audit.csv, sorted, totals last."""
        table = []
        for benchmark, model in sorted(self.groups, key=lambda key: [(n == ALL, n) for n in key]):
            count = self.groups[benchmark, model]
            numbers = {name: count[name] for name in AUDIT_COLUMNS[2:]}
            table.append({"benchmark": benchmark, "model": model, **numbers})
        return table

    def rule_rows(self) -> list[Row]:
        """Return the rows of rules.csv, each benchmark's commonest first.

        `share` is of the benchmark's answers.
        """
        table = []
        for benchmark in sorted(self.rules, key=lambda name: (name == ALL, name)):
            count = self.rules[benchmark]
            for (rule, outcome), n in sorted(count.items(), key=lambda item: (-item[1], item[0])):
                values = (benchmark, rule, outcome, n, n / count.total())
                table.append(dict(zip(RULES_COLUMNS, values, strict=True)))
        return table


class Shown:
    """Rows for the page, at most `most` of each kind.

    Those with the smallest digests are kept: from anywhere in the grid, and always the same.
    """

    def __init__(self, most: int) -> None:
        self.most, self.n = most, Counter[str]()
        self.rows: defaultdict[str, list[tuple[str, int, Row]]] = defaultdict(list)

    def add(self, row: Row) -> None:
        """Add a row of disagreements.csv, its texts capped for the page."""
        digest = sha256_text(canonical([row[key] for key in (*Cell._fields, "doc_id", "repeat")]))
        for kind in row["kinds"].split():
            self.n[kind] += 1
            self.rows[kind].append((digest, self.n[kind], row))
            if len(self.rows[kind]) >= 2 * self.most:
                self.rows[kind] = self._kept(kind)

    def of(self, kind: str) -> list[Row]:
        """Return the rows to show, in the order in which they were added."""
        return [row for _, _, row in sorted(self._kept(kind), key=lambda entry: entry[1])]

    def _kept(self, kind: str) -> list[tuple[str, int, Row]]:
        return sorted(self.rows[kind], key=lambda entry: entry[:2])[: self.most]


def write_rows(file: Path, columns: Iterable[str], rows: Iterable[Row]) -> None:
    """Write rows as CSV, atomically, as they come."""
    with atomic(file) as side, open(side, "w", encoding="utf-8", newline="") as opened:
        writer = csv.DictWriter(opened, list(columns), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def disagreements(scores: list[Path], counts: Counts, shown: Shown, folder: Path) -> Iterator[Row]:
    """Read every cell, count each answer, and yield the rows of disagreements.csv.

    A row's `link` leads from `folder` to the answer's line in samples.jsonl.
    """
    for score in scores:
        for answer in read_cell(score):
            signs = flags(answer["answer"]) if answer["answer"] is not None else []
            counts.add(answer, signs)
            reasons = kinds(answer, signs)
            if not reasons:
                continue
            samples = Path(os.path.relpath(answer["samples"], folder)).as_posix()
            answer |= {
                "kinds": " ".join(reasons),
                "flags": " ".join(signs),
                "judge_reply": answer["raw"] or "",
                "link": f"{quote(samples)}#L{answer['line']}",
            }
            row = {key: answer[key] for key in DISAGREEMENT_COLUMNS}
            shown.add(row | {key: capped(row[key], MOST_TEXT) for key in TEXTS})
            yield row | {key: cell_text(row[key], most) for key, most in TEXTS.items()}


def page(counts: Counts, shown: Shown) -> str:
    """Return the page, with at most `shown.most` answers of each kind."""
    return render(
        "audit.html",
        categories=CATEGORIES,
        category_columns=AUDIT_COLUMNS,
        by_category=counts.audit_rows(),
        rule_columns=RULES_COLUMNS,
        by_rule=counts.rule_rows(),
        kinds=[
            {"name": kind, "meaning": meaning, "n": shown.n[kind], "rows": shown.of(kind)}
            for kind, meaning in KINDS.items()
        ],
        columns=[name for name in DISAGREEMENT_COLUMNS if name not in ("kinds", "link")],
        texts=TEXTS,
        total=ALL,
    )


def work(args: Namespace) -> None:
    """Read the cells, sorted by coordinates; write three tables, the page and the manifest."""
    for score in args.scores:
        if score.parts[-6:-5] != ("score",):
            raise InputError(f"{score}: expected …/score/MODEL/MIX/SEED/BENCHMARK/score.json")
    scores = sorted(args.scores, key=lambda file: [str(name) for name in Cell.of_file(file)])
    counts, shown = Counts(), Shown(MOST_SHOWN)
    disagreeing = disagreements(scores, counts, shown, args.page.parent)
    write_rows(args.disagreements, DISAGREEMENT_COLUMNS, disagreeing)
    write_rows(args.audit, AUDIT_COLUMNS, counts.audit_rows())
    write_rows(args.rules, RULES_COLUMNS, counts.rule_rows())
    write_text(args.page, page(counts, shown))
    inputs = {}
    for score in scores:
        digests = [sha256_file(file) for file in cell_files(score)]
        inputs[str(Cell.of_file(score))] = sha256_text(canonical(digests))
    outputs = [file.name for file in (args.audit, args.rules, args.disagreements, args.page)]
    manifest.write(args.manifest, "audit", args.spec, inputs, outputs)


def main(argv: list[str] | None = None) -> int:
    """Run `--spec … AUDIT RULES DISAGREEMENTS PAGE MANIFEST SCORES…`; five files in one folder."""
    parser = stage_parser("audit", __doc__)
    for name in ("audit", "rules", "disagreements", "page", "manifest"):
        parser.add_argument(name, type=Path)
    parser.add_argument("scores", type=Path, nargs="+")
    return run_stage(parser, work, argv)


if __name__ == "__main__":
    raise SystemExit(main())

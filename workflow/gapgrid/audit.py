"""Stage `audit`: how the answers of a grid were graded: by which step, by which rule, and where the steps disagree.

Cells are read one at a time, so memory holds the answers of one cell, the counts, and the rows shown on the page.
"""

import csv
import os
from argparse import Namespace
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import quote
from xml.etree import ElementTree

from gapgrid import manifest
from gapgrid.command import run_stage, stage_parser
from gapgrid.injections import capped, cell_text, element, flags
from gapgrid.records import InputError, Row, atomic, canonical, read_json, read_jsonl, sha256_file, sha256_text, write_text

CELL = ("model", "mix", "seed", "benchmark")
ALL = "all"  # stands in a row that counts over every model or benchmark
PLACES = {  # where an answer ends up: each in exactly one, so the counts add up to n
    "both": "a rule accepted it, and so did the judge",
    "rule_only": "a rule accepted it; the judge did not see it, or did not accept it",
    "judge_only": "no rule accepted it, the judge did",
    "neither": "no rule decided, and the judge rejected it",
    "decisively_rejected": "a rule understood answer and reference and found them different; the judge did not see it, or rejected it too",
    "undecided": "no rule decided and no judge saw it",
    "unparsed": "no rule accepted it, and the judge's reply holds no verdict",
    "no_answer": "no answer was found in the response",
}
MARKS = ("truncated", "flagged", "rule_accepted", "judge_accepted")  # counted besides; an answer may have several
AUDIT_COLUMNS = ("benchmark", "model", "n", *PLACES, *MARKS)
RULES_COLUMNS = ("benchmark", "rule", "outcome", "n", "share")
KINDS = {  # why an answer is worth a look; it may be so for several reasons
    "overruled": "The judge accepted what a rule had decisively rejected",
    "judge_accepted": "The judge accepted what no rule had decided",
    "judge_rejected": "The judge rejected what a rule had accepted",
    "unparsed": "The judge's reply holds no verdict",
    "flagged": "The answer seems to speak to the judge, or hides something",
}
TEXTS = {"problem": 2000, "gold": 2000, "answer": 2000, "judge_reply": 500}  # longest text in a CSV cell, in characters
DISAGREEMENT_COLUMNS = (
    "kinds",
    *CELL,
    "doc_id",
    "repeat",
    *tuple(TEXTS)[:3],
    "rule",
    "rejected_by",
    "verdict",
    "judge_reply",
    "flags",
    "link",
)
MOST_SHOWN = 100  # rows a kind on the page
MOST_TEXT = 300  # characters of a text on the page


def cell_files(score: Path) -> list[Path]:
    """What is read of a cell: its score.json, verdicts beside it, and graded rows and samples in the parallel folder under grade/."""
    if len(score.parts) < 6 or score.parts[-6] != "score":
        raise InputError(f"{score}: expected …/score/MODEL/MIX/SEED/BENCHMARK/score.json")
    folder = Path(*score.parts[:-6], "grade", *score.parts[-5:-1])
    return [score, score.with_name("verdicts.jsonl"), folder / "graded.jsonl", folder / "samples.jsonl"]


def read_cell(score: Path) -> Iterator[Row]:
    """One row an answer: the cell, the columns of its graded row and its verdict, problem, finish, `samples` (a path) and `line`.

    An `InputError` says when a column is missing or the three files are not about the same answers.
    """
    _, verdicts, graded, samples = cell_files(score)
    found = read_json(score)
    files = [read_jsonl(file) for file in (samples, graded, verdicts)]
    try:
        places = [[(row["doc_id"], row["repeat"]) for row in rows] for rows in files]
        if not places[0] == places[1] == places[2]:
            raise InputError(f"{score}: its verdicts, {graded} and {samples} are not about the same answers in the same order")
        for line, (sample, grade, verdict) in enumerate(zip(*files, strict=True), 1):
            row = {**{key: found[key] for key in CELL}, **grade, **verdict, "samples": samples, "line": line}
            yield {**row, **{key: sample[key] for key in ("problem", "finish")}, "rejected_by": grade["rejected_by"]}
    except KeyError as error:
        raise InputError(f"{score}: no column {error} in it or in the rows that go with it; run the workflow again") from None


def judged(row: Row) -> str | None:
    """What the judge says of an answer: `correct`, `incorrect`, `unparsed`, or None if it did not see it.

    Its verdict is the answer's where the judge decided (`by` is "judge"). Where a rule decided and the judge was asked
    as well, it stands in the column `judge_verdict`, which a cell need not have.
    """
    if row["answer"] is None:
        return None
    return row["verdict"] if row["by"] == "judge" else row.get("judge_verdict")


def place(row: Row) -> str:
    """In which of `PLACES` an answer is counted."""
    opinion = judged(row)
    if row["answer"] is None:
        return "no_answer"
    if row["rule_correct"]:
        return "both" if opinion == "correct" else "rule_only"
    if opinion in ("correct", "unparsed"):
        return "judge_only" if opinion == "correct" else "unparsed"
    if row["rejected_by"]:
        return "decisively_rejected"
    return "undecided" if opinion is None else "neither"


def decided(row: Row) -> tuple[str, str]:
    """Which rule decided and how: accepted, rejected, no_answer, judge_correct, judge_incorrect, unparsed or undecided.

    The rule of an undecided answer is why no rule accepted it: `different`, `rule_timeout` and the like.
    """
    if row["answer"] is None:
        return row["rule"], "no_answer"
    if row["by"] == "judge":
        return "judge", "unparsed" if row["verdict"] == "unparsed" else f"judge_{row['verdict']}"
    if row["rule_correct"]:
        return row["rule"], "accepted"
    return (row["rejected_by"], "rejected") if row["rejected_by"] else (row["rule"], "undecided")


def kinds(row: Row, marks: list[str]) -> list[str]:
    """For which of `KINDS` an answer is worth a look."""
    opinion = judged(row)
    is_kind = {
        "overruled": opinion == "correct" and not row["rule_correct"] and row["rejected_by"] is not None,
        "judge_accepted": opinion == "correct" and not row["rule_correct"] and row["rejected_by"] is None,
        "judge_rejected": opinion == "incorrect" and row["rule_correct"],
        "unparsed": opinion == "unparsed",
        "flagged": bool(marks),
    }
    return [kind for kind in KINDS if is_kind[kind]]


class Counts:
    """Counts of answers, per benchmark and model and per benchmark and rule, each with totals."""

    def __init__(self) -> None:
        self.groups: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)
        self.rules: defaultdict[str, Counter[tuple[str, str]]] = defaultdict(Counter)

    def add(self, row: Row, marks: list[str]) -> None:
        """Count one answer; `marks` are its flags."""
        where = place(row)
        has = (row["finish"] == "length", bool(marks), where in ("both", "rule_only"), where in ("both", "judge_only"))
        names = ["n", where, *(name for name, is_so in zip(MARKS, has, strict=True) if is_so)]
        for benchmark in (row["benchmark"], ALL):
            self.rules[benchmark][decided(row)] += 1
            for model in (row["model"], ALL):
                self.groups[benchmark, model].update(names)

    def audit_rows(self) -> list[Row]:
        """Rows of audit.csv, sorted, totals last."""
        groups = sorted(self.groups.items(), key=lambda item: [(name == ALL, name) for name in item[0]])
        return [dict(zip(AUDIT_COLUMNS, (*names, *(count[name] for name in AUDIT_COLUMNS[2:])), strict=True)) for names, count in groups]

    def rule_rows(self) -> list[Row]:
        """Rows of rules.csv: per benchmark the commonest first; `share` is of the benchmark's answers."""
        rows = []
        for benchmark, count in sorted(self.rules.items(), key=lambda item: (item[0] == ALL, item[0])):
            for (rule, outcome), n in sorted(count.items(), key=lambda item: (-item[1], item[0])):
                rows.append(dict(zip(RULES_COLUMNS, (benchmark, rule, outcome, n, n / count.total()), strict=True)))
        return rows


class Shown:
    """Rows for the page: of each kind at most `most`, those with the smallest digests, so from anywhere and always the same."""

    def __init__(self, most: int) -> None:
        self.most, self.n = most, Counter[str]()
        self.rows: defaultdict[str, list[tuple[str, int, Row]]] = defaultdict(list)

    def add(self, row: Row) -> None:
        """Take a row of disagreements.csv, its texts capped for the page."""
        digest = sha256_text(canonical([row[key] for key in (*CELL, "doc_id", "repeat")]))
        for kind in row["kinds"].split():
            self.n[kind] += 1
            kept = self.rows[kind]
            kept.append((digest, self.n[kind], row))
            if len(kept) >= 2 * self.most:
                self.rows[kind] = sorted(kept, key=lambda entry: entry[:2])[: self.most]

    def of(self, kind: str) -> list[Row]:
        """The rows to show, in the order in which they came."""
        kept = sorted(self.rows[kind], key=lambda entry: entry[:2])[: self.most]
        return [row for _, _, row in sorted(kept, key=lambda entry: entry[1])]


def disagreement(row: Row, found: list[str], marks: list[str], folder: Path) -> Row:
    """A row of disagreements.csv, its texts as they are; `link` leads from `folder` to the answer's line in samples.jsonl."""
    link = quote(Path(os.path.relpath(row["samples"], folder)).as_posix()) + f"#L{row['line']}"
    said = {"kinds": " ".join(found), "flags": " ".join(marks), "judge_reply": row["raw"] or "", "link": link}
    return {key: said.get(key, row.get(key)) for key in DISAGREEMENT_COLUMNS}


def write_rows(file: Path, columns: Iterable[str], rows: Iterable[Row]) -> None:
    """Write rows as CSV, atomically, as they come."""
    with atomic(file) as side, open(side, "w", encoding="utf-8", newline="") as opened:
        writer = csv.DictWriter(opened, list(columns), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def disagreements(scores: list[Path], counts: Counts, shown: Shown, folder: Path) -> Iterator[Row]:
    """Read every cell; count each answer, and yield the rows of disagreements.csv."""
    for score in scores:
        for row in read_cell(score):
            marks = flags(row["answer"]) if row["answer"] is not None else []
            counts.add(row, marks)
            if found := kinds(row, marks):
                made = disagreement(row, found, marks, folder)
                shown.add({**made, **{key: capped(made[key], MOST_TEXT) for key in TEXTS}})
                yield {**made, **{key: cell_text(made[key], most) for key, most in TEXTS.items()}}


STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 100rem; padding: 0 1rem; color: #1b1b1b; background: #fff }
table { border-collapse: collapse; margin: .6rem 0 1.4rem; font-size: 13px }
th, td { border: 1px solid #ccc; padding: .25rem .5rem; text-align: left; vertical-align: top }
th { background: #f1f1f1 } td.n { text-align: right }
td.text { white-space: pre-wrap; overflow-wrap: anywhere; min-width: 8rem; max-width: 26rem }
tr.total { font-weight: 600 } nav a { margin-right: 1rem }
"""
POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
PAGE_COLUMNS = tuple(name for name in DISAGREEMENT_COLUMNS if name not in ("kinds", "link"))


def table(columns: Iterable[str], rows: Iterable[Row]) -> ElementTree.Element:
    """An HTML table; numbers to the right, texts capped, a doc_id that has a link leads to its answer."""
    head = element("tr", *(element("th", name.replace("_", " ")) for name in columns))
    body = [
        element("tr", *(_cell(name, row) for name in columns), class_="total" if ALL in (row["benchmark"], row.get("model")) else "row")
        for row in rows
    ]
    return element("table", element("thead", head), element("tbody", *body))


def _cell(name: str, row: Row) -> ElementTree.Element:
    value = row[name]
    if name in TEXTS:
        return element("td", value, class_="text")
    if name == "doc_id":
        return element("td", element("a", str(value), href=row["link"]), class_="n")
    if isinstance(value, int | float):
        return element("td", f"{value:.4f}" if isinstance(value, float) else str(value), class_="n")
    return element("td", str(value or ""))


def page(counts: Counts, shown: Shown) -> str:
    """The page: both tables of counts, then the disagreements kind by kind, at most `shown.most` of each. No script, no request."""
    places = (element("li", element("b", name), f": {meaning}") for name, meaning in PLACES.items())
    sections = []
    for kind, title in KINDS.items():
        rows, n = shown.of(kind), shown.n[kind]
        words = f"{len(rows)} of {n}, the same ones each time; all are in the CSV file." if n > len(rows) else f"{n} in all."
        sections += [element("h2", f"{title} ({n})", id=kind), element("p", words), *([table(PAGE_COLUMNS, rows)] if rows else [])]
    body = [
        element("h1", "Audit of grading"),
        element("nav", *(element("a", f"{kind} ({shown.n[kind]})", href=f"#{kind}") for kind in KINDS)),
        element("h2", "Which step decided"),
        element("details", element("summary", "Each answer is counted in one of these, so they add up to n"), element("ul", *places)),
        table(AUDIT_COLUMNS, counts.audit_rows()),
        element("h2", "Which rule decided"),
        table(RULES_COLUMNS, counts.rule_rows()),
        *sections,
    ]
    meta = [element("meta", charset="utf-8"), element("meta", **{"http-equiv": "Content-Security-Policy", "content": POLICY})]
    head = element("head", *meta, element("title", "Audit of grading"), element("style", STYLE))
    tree = element("html", head, element("body", *body), lang="en")
    return "<!DOCTYPE html>\n" + ElementTree.tostring(tree, encoding="unicode", method="html") + "\n"


def work(args: Namespace) -> None:
    """Read the cells, in the order of their coordinates; write the three tables, the page and the manifest."""
    scores = sorted(args.scores, key=lambda file: file.parts[-5:-1])
    counts, shown = Counts(), Shown(MOST_SHOWN)
    write_rows(args.disagreements, DISAGREEMENT_COLUMNS, disagreements(scores, counts, shown, args.page.parent))
    write_rows(args.audit, AUDIT_COLUMNS, counts.audit_rows())
    write_rows(args.rules, RULES_COLUMNS, counts.rule_rows())
    write_text(args.page, page(counts, shown))
    inputs = {"/".join(file.parts[-5:-1]): sha256_text(canonical([sha256_file(read) for read in cell_files(file)])) for file in scores}
    outputs = [file.name for file in (args.audit, args.rules, args.disagreements, args.page)]
    manifest.write(args.manifest, "audit", args.spec, inputs, outputs)


def main(argv: list[str] | None = None) -> int:
    """`python -m gapgrid.audit --spec … AUDIT RULES DISAGREEMENTS PAGE MANIFEST SCORES…`; the five files in one folder."""
    parser = stage_parser("audit", __doc__)
    for name in ("audit", "rules", "disagreements", "page", "manifest"):
        parser.add_argument(name, type=Path)
    parser.add_argument("scores", type=Path, nargs="+")
    return run_stage(parser, work, argv)


if __name__ == "__main__":
    raise SystemExit(main())

"""The page of a case study: one HTML file, no script, no request. What students wrote is text in it, whatever it holds."""

from collections.abc import Iterable
from typing import Any
from xml.etree import ElementTree

from gapgrid.injections import capped, element
from gapgrid.records import Row

MOST_TEXT = 40_000  # characters of a response
MOST_PATTERNS = 16
POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 1.5rem auto; max-width: 110rem; padding: 0 1.2rem; color: #1b1b1b; background: #fff }
h1 { font-size: 1.5rem; margin-bottom: .3rem }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .5rem; border-top: 1px solid #bbb; padding-top: 1rem }
h3 { font-size: 1rem; margin: 0 }
table { border-collapse: collapse; margin: .6rem 0 1rem; font-size: 14px }
th, td { border: 1px solid #ccc; padding: .25rem .6rem; text-align: left } th { background: #f1f1f1 } td.n { text-align: right }
tr.chosen td { font-weight: 600; background: #fff6dd }
pre { white-space: pre-wrap; overflow-wrap: anywhere; font: 13px/1.5 ui-monospace, monospace; margin: .4rem 0 0 }
.problem { background: #f6f6f6; border-left: 4px solid #777; padding: .5rem .8rem; margin: .4rem 0 }
.columns { display: flex; gap: 1rem; overflow-x: auto; align-items: stretch; padding-bottom: .4rem }
.answer { flex: 1 1 0; min-width: 17rem; border: 1px solid #ccc; border-top: 5px solid #777; border-radius: 4px; padding: .6rem .8rem }
.right { border-top-color: #0072B2 } .wrong { border-top-color: #D55E00 }
.verdict { font-weight: 700 } .right .verdict { color: #00527f } .wrong .verdict { color: #a84300 }
.facts { color: #444; font-size: 13px; margin: .2rem 0 0 }
"""
WORDS = {
    "correct": "✓ right",
    "incorrect": "✗ wrong",
    "no_answer": "✗ wrong: no answer found",
    "unparsed": "? the judge's reply holds no verdict",
}
KINDS = {"correct": "right", "unparsed": "unparsed"}


def page(found: Any, spec: dict[str, Any], labels: list[str], wanted: list[str | None]) -> str:
    """The whole page. `labels` and `wanted` (right, wrong or either) are of the columns; `found` is what the rule found."""
    benchmarks = dict(spec["shown"]["benchmarks"])
    asked = [f"{label} {outcome}" for label, outcome in zip(labels, wanted, strict=True) if outcome]
    shown = found.cases[: spec["problems"]]
    seeds = len({cell[2] for cell in spec["cells"] if cell[1] != "none"}) or 1
    students = ", ".join(label for _, label in spec["shown"]["models"])
    body = [
        element("h1", "Case study"),
        element("p", spec["caption"]),
        element(
            "p",
            f"Student{'s' if len(spec['shown']['models']) > 1 else ''} {students}. Chosen are problems with ",
            *_strong("; ".join(asked)),
            ".",
        ),
        element("p", _counted(found, benchmarks, len(shown), seeds)),
        element("p", f"How often each pattern occurs, over all problems and {seeds} seed{'s' if seeds > 1 else ''}:"),
        patterns(found.patterns, [label for label, outcome in zip(labels, wanted, strict=True) if outcome], tuple(filter(None, wanted))),
        *(part for case in shown for part in section(case, benchmarks[case.benchmark], labels, seeds)),
    ]
    meta = [element("meta", charset="utf-8"), element("meta", **{"http-equiv": "Content-Security-Policy", "content": POLICY})]
    head = element("head", *meta, element("title", "Case study"), element("style", STYLE))
    tree = element("html", head, element("body", *body), lang="en")
    return "<!DOCTYPE html>\n" + ElementTree.tostring(tree, encoding="unicode", method="html") + "\n"


def _strong(text: str) -> list[ElementTree.Element]:
    return [element("strong", text)]


def _counted(found: Any, benchmarks: dict[str, str], n_shown: int, seeds: int) -> str:
    """How many problems match of how many, by benchmark, and which of them are shown."""
    by_benchmark = [
        f"{sum(case.benchmark == name for case in found.cases)} of {n} problems of {benchmarks[name]}"
        for name, n in found.n_problems.items()
    ]
    matching = f"{', '.join(by_benchmark)} match{' in at least one of the seeds' if seeds > 1 else ''}"
    if not found.cases:
        return f"No problem matches: {matching}. So nothing is shown."
    which = (
        "all of them"
        if n_shown == len(found.cases)
        else f"the first {n_shown} of {len(found.cases)}, in the order of benchmarks and problems"
    )
    return f"{matching}. Shown: {which}{', each in the first seed in which it matches' if seeds > 1 else ''}."


def patterns(counts: Any, labels: list[str], chosen: tuple[str, ...]) -> ElementTree.Element:
    """The patterns of outcomes, the commonest first, with the chosen one marked."""
    total = sum(counts.values())
    rows = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    shown = [row for index, row in enumerate(rows) if index < MOST_PATTERNS or row[0] == chosen]
    head = element("tr", *(element("th", label) for label in labels), element("th", "times"), element("th", "share"))
    body = [
        element(
            "tr",
            *(element("td", outcome) for outcome in pattern),
            element("td", f"{n:,}", class_="n"),
            element("td", f"{100 * n / total:.1f} %", class_="n"),
            class_="chosen" if pattern == chosen else "other",
        )
        for pattern, n in shown
    ]
    if len(shown) < len(rows):
        body.append(element("tr", element("td", f"{len(rows) - len(shown)} rarer patterns are left out", colspan=str(len(labels) + 2))))
    return element("table", element("thead", head), element("tbody", *body))


def section(case: Any, benchmark: str, labels: list[str], seeds: int) -> Iterable[ElementTree.Element]:
    """One problem: its text and reference answer, then the answers in columns."""
    matches = f", matches in {case.n_seeds} of {seeds} seeds" if seeds > 1 else ""
    repeat = f", repeat {case.repeat}" if case.repeat else ""
    yield element("h2", f"{benchmark}, problem {case.doc_id}, seed {case.seed}{repeat}{matches}")
    first = case.answers[0]
    yield element("div", element("strong", "Problem"), element("pre", first["problem"]), class_="problem")
    yield element("p", element("strong", "Reference answer: "), element("code", str(first["gold"])))
    yield element("div", *(answer(row, label) for row, label in zip(case.answers, labels, strict=True)), class_="columns")


def answer(row: Row, label: str) -> ElementTree.Element:
    """One student's answer: verdict, who gave it, the answer found, tokens, whether it was cut off, and the text."""
    is_cut = row["finish"] != "stop"
    length = f"{row['n_tokens']:,} tokens, " + ("cut off at the cap" if is_cut else "ended by itself")
    said, given = WORDS.get(str(row["verdict"]), str(row["verdict"])), row["answer"]
    found = ["no answer found"] if given is None else ["answer found: ", element("code", capped(str(given), 300))]
    text = row["response"] or "(empty)"
    return element(
        "div",
        element("h3", label),
        element("p", element("span", said, class_="verdict"), f" (decided by: {row['by']})", class_="facts"),
        element("p", *found, class_="facts"),
        element("p", f"{length}; seed {row['seed']}", class_="facts"),
        element("pre", capped(text, MOST_TEXT)),
        class_=f"answer {KINDS.get(row['verdict'], 'wrong')}",
    )

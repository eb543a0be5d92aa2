"""The page of a case study: one HTML file without scripts or requests.

What students wrote is text in it, whatever it holds.
"""

from collections import Counter
from typing import NamedTuple

from gapgrid.core.rows import (
    CORRECT,
    INCORRECT,
    NO_ANSWER,
    UNPARSED,
    GradedRow,
    SampleRow,
    VerdictRow,
    outcome,
)
from gapgrid.core.spec_types import CaseSpec
from gapgrid.reporting.html import render

MOST_TEXT = 40_000  # characters of a response
MOST_ANSWER = 300  # characters of the extracted answer
MOST_PATTERNS = 16
VERDICT_TEXTS = {
    CORRECT: "✓ right",
    INCORRECT: "✗ wrong",
    NO_ANSWER: "✗ wrong: no answer found",
    UNPARSED: "? the judge's reply holds no verdict",
}


class Column(NamedTuple):
    """A student after one mix: its label, and the outcome that the rule wants of it, if any."""

    model: str
    mix: str
    label: str
    wanted: str | None


class Answer(NamedTuple):
    """A student's answer with its grading and its verdict; `seed` is the student's."""

    seed: int
    sample: SampleRow
    graded: GradedRow
    verdict: VerdictRow

    @property
    def outcome(self) -> str:
        """Return `right`, `wrong` (no answer too), or `unparsed` where nobody can tell."""
        return outcome(self.verdict)


class Case(NamedTuple):
    """A problem to show: where it matches first, the columns' answers, and in how many seeds."""

    benchmark: str
    doc_id: int
    seed: int
    repeat: int
    answers: list[Answer]
    n_seeds: int


class Selection(NamedTuple):
    """What the rule has chosen: all cases, problems by benchmark, how often each pattern occurs.

    A pattern is the outcomes of the columns of which the rule speaks.
    """

    cases: list[Case]
    n_problems: dict[str, int]
    patterns: Counter[tuple[str, ...]]
    n_seeds: int


def page(selection: Selection, spec: CaseSpec, columns: list[Column]) -> str:
    """Return the whole page."""
    cases = selection.cases[: spec["problems"]]
    benchmarks = dict(spec["shown"]["benchmarks"])
    ruled = [column for column in columns if column.wanted]
    chosen = tuple(column.wanted for column in ruled)
    patterns = sorted(selection.patterns.items(), key=lambda item: (-item[1], item[0]))
    common, rare = patterns[:MOST_PATTERNS], patterns[MOST_PATTERNS:]
    shown = common + [item for item in rare if item[0] == chosen]
    return render(
        "case.html",
        caption=spec["caption"],
        students=[label for _, label in spec["shown"]["models"]],
        rule="; ".join(f"{column.label} {column.wanted}" for column in ruled),
        counted=_counted(selection, benchmarks, len(cases)),
        n_seeds=selection.n_seeds,
        pattern_labels=[column.label for column in ruled],
        patterns=shown,
        chosen=chosen,
        n_patterns=selection.patterns.total(),
        n_rarer=len(patterns) - len(shown),
        cases=cases,
        benchmarks=benchmarks,
        columns=columns,
        verdict_texts=VERDICT_TEXTS,
        most_answer=MOST_ANSWER,
        most_text=MOST_TEXT,
    )


def _counted(selection: Selection, benchmarks: dict[str, str], n_shown: int) -> str:
    """Return how many problems match of how many, by benchmark, and which of them are shown."""
    n_matching = Counter(case.benchmark for case in selection.cases)
    several = selection.n_seeds > 1
    matching = ", ".join(
        f"{n_matching[name]} of {n} problems of {benchmarks[name]}"
        for name, n in selection.n_problems.items()
    )
    matching += f" match{' in at least one of the seeds' if several else ''}"
    n_cases = len(selection.cases)
    if not n_cases:
        return f"No problem matches: {matching}. So nothing is shown."
    which = "all of them"
    if n_shown < n_cases:
        which = f"the first {n_shown} of {n_cases}, in the order of benchmarks and problems"
    first = ", each in the first seed in which it matches" if several else ""
    return f"{matching}. Shown: {which}{first}."

"""`gapgrid audit report`: the error rates of rules and judge by labels, with intervals."""

from argparse import Namespace
from statistics import NormalDist
from typing import TYPE_CHECKING, NamedTuple

from gapgrid.commands.grid_args import console
from gapgrid.commands.labelling import (
    ALGEBRA,
    BY_JUDGE,
    CHEAP,
    REJECTED,
    LabelRow,
    labels_file,
    read_labels,
)
from gapgrid.stats import bootstrap

if TYPE_CHECKING:
    from rich.table import Table

RATES = {  # name -> which decisions it is about, and the label that says that they erred
    "rules: false accept": ((CHEAP, ALGEBRA), "different"),
    "rules: not accepted, yet the same": ((*REJECTED, *BY_JUDGE, "unparsed", "undecided"), "same"),
    "decisive rejections: false reject": (REJECTED, "same"),
    "judge: false accept": (("judge_correct", "overruled"), "different"),
    "judge: false reject": (("judge_incorrect", "confirmed"), "same"),
}
OVERALL = "overall"


class Rate(NamedTuple):
    """The error rate of a step in a stratum.

    `n` labels count, `n_errors` of them are errors; `n_unsure` labels do not count. The rate and
    its interval are shares, None if no label counts.
    """

    name: str
    stratum: str
    n: int
    n_errors: int
    n_unsure: int
    rate: float | None
    low: float | None
    high: float | None


def wilson(share: float, n: float, confidence: float = 0.95) -> tuple[float, float]:
    """Return Wilson's score interval of a share of `n` draws; `n` need not be whole."""
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    return bootstrap.wilson(share, z * z / n)


def rates(labels: list[LabelRow], confidence: float = 0.95) -> list[Rate]:
    """Return the error rates of the steps, per stratum and overall, over unique pairs.

    A false accept is a pair that the step accepted and the labeller calls different, as a share of
    what it accepted; a false reject is one that it rejected and that is the same, as a share of
    what it rejected. Overall: the strata's rates weighted by their unique pairs, W = pairs / sum of
    pairs, in Wilson's interval with the effective sample size 1 / sum(W^2 / n) (Kish 1965, Survey
    Sampling, on weights). It does not shrink to nothing where no error was found, as the stratified
    normal interval does; Franco, Little, Louis and Slud (2019), J. Surv. Stat. Methodol. 7:334-364,
    find Wilson's interval with an effective sample size among the best in complex samples. Strata
    without a label that counts are in no overall rate.
    """
    result = []
    for name, (decisions, error) in RATES.items():
        groups: dict[str, list[LabelRow]] = {}
        for row in labels:
            if row["stratum"].partition("/")[0] in decisions:
                groups.setdefault(row["stratum"], []).append(row)
        parts = [
            _rate(name, stratum, [row["label"] for row in rows], error, confidence)
            for stratum, rows in sorted(groups.items())
        ]
        sizes = [groups[part.stratum][-1]["stratum_pairs"] for part in parts]
        result += [*parts, _overall(name, parts, sizes, confidence)]
    return result


def _rate(name: str, stratum: str, labels: list[str], error: str, confidence: float) -> Rate:
    n_unsure, n_errors = labels.count("unsure"), labels.count(error)
    n = len(labels) - n_unsure
    if not n:
        return Rate(name, stratum, n, n_errors, n_unsure, None, None, None)
    interval = wilson(n_errors / n, n, confidence)
    return Rate(name, stratum, n, n_errors, n_unsure, n_errors / n, *interval)


def _overall(name: str, parts: list[Rate], sizes: list[int], confidence: float) -> Rate:
    n, n_errors = sum(part.n for part in parts), sum(part.n_errors for part in parts)
    n_unsure = sum(part.n_unsure for part in parts)
    known = [(part, size) for part, size in zip(parts, sizes, strict=True) if part.n]
    if not known:
        return Rate(name, OVERALL, n, n_errors, n_unsure, None, None, None)
    total = sum(size for _, size in known)
    share = min(sum(part.n_errors / part.n * size for part, size in known) / total, 1.0)
    effective = total**2 / sum(size**2 / part.n for part, size in known)
    return Rate(name, OVERALL, n, n_errors, n_unsure, share, *wilson(share, effective, confidence))


def table(rows: list[Rate]) -> "Table":
    """Return the rates as a table; rates and intervals are in percent."""
    from rich.table import Table
    from rich.text import Text

    title = "Error rates of grading by label, with 95 % intervals"
    shown = Table(title=title, title_justify="left")
    for column in ("rate", "stratum"):
        shown.add_column(column, overflow="fold")
    for column in ("labels", "errors", "unsure", "%"):
        shown.add_column(column, justify="right", overflow="fold", no_wrap=column == "%")
    previous = ""
    for rate in rows:
        numbers = [f"{100 * part:.1f}" for part in rate[5:] if part is not None]
        value = f"{numbers[0]} [{numbers[1]}, {numbers[2]}]" if numbers else "no label"
        cells = ["" if rate.name == previous else rate.name, *rate[1:5], value]
        is_last = rate.stratum == OVERALL
        style = "bold" if is_last else ""
        shown.add_row(*(Text(str(cell)) for cell in cells), style=style, end_section=is_last)
        previous = rate.name
    return shown


def run(args: Namespace) -> int:
    """Print the error rates that a grid's labels show."""
    console().print(table(rates(read_labels(labels_file(args)))))
    return 0

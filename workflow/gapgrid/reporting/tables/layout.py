"""What an experiment's tables say, as sections of plain text entries, which `render` writes.

Rows are students and columns training sets, in the order in which the experiment names them.
Accuracies are in per cent, gaps in percentage points; what is missing is a dash, never a zero.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from gapgrid.core.cells import AVERAGE
from gapgrid.core.records import Row
from gapgrid.core.spec_types import TableSpec
from gapgrid.reporting.tables.numbers import billions, interval, per_cent, points, signed

MISSING = "–"
LEGEND = (
    "Bold: the sign is significant, Holm-corrected over all {} of the experiment, on each "
    "benchmark and on average. Grey, with °: it is not."
)
GAIN_LEGEND = (
    "The best source is chosen on the scores shown, which biases the gap downwards; best in: share "
    "of resamples in which it is the best; p: of no gain over the best source, one-sided, after "
    "Holm's correction over all mixes and students of the experiment, on each benchmark and on "
    "average. Bold: a gain is significant. Grey, with °: it is not."
)
SIZE_LEGEND = (
    "The size above which {} is positive, by straight lines between students on a log scale. "
    "Shares of resamples: the sign changes within the family; all students gain; the largest does "
    "not."
)
CUT_OFF_LEGEND = (
    "Per cent, means of benchmarks and seeds. Bounds: answers cut off at the cap taken as wrong, "
    "and as right. Of finished: right among those that ended by themselves. Tokens: median length "
    "of right and of wrong answers, with quartiles; – where a benchmark has none."
)
PUBLISHED_LEGEND = (
    "Per cent and percentage points. Inside: whether the published number, whose own chance error "
    "is unknown, lies in our interval."
)


class Entry(NamedTuple):
    """An entry of a table: its text, small type below or after it, and what a gap's sign is worth.

    `is_significant` is None for what is no gap.
    """

    text: str
    small: str = ""
    is_significant: bool | None = None


class Section(NamedTuple):
    """One table: `n_labels` columns of labels on the left, then numbers; a legend below.

    In groups, the first column names a group in its first row and is empty in its others.
    """

    title: str
    head: list[str]
    n_labels: int
    body: list[list[Entry]]
    legend: list[str]
    is_grouped: bool = False


class Document(NamedTuple):
    """An experiment's tables, its warning of undeclared confounders or "", its notes by heading."""

    caption: str
    warning: str
    sections: list[Section]
    notes: dict[str, list[str]]


Key = tuple[str, str | None, str | None, str]


class View(NamedTuple):
    """An experiment's estimates by quantity, model, mix and benchmark, with its labels."""

    spec: TableSpec
    estimates: Mapping[Key, Row]

    def names(self, kind: str) -> list[str]:
        """Return the models, mixes or benchmarks in reading order."""
        return [name for name, _ in self.spec["shown"][kind]]

    def label(self, kind: str, name: str) -> str:
        """Return the label of a model, mix or benchmark.

        A student has its family before it where there are several, and its name after it where the
        label alone is another student's too.
        """
        labels = dict(self.spec["shown"][kind])
        if kind != "models":
            return AVERAGE if name == AVERAGE else labels[name]
        families = {model: entry["family"] for model, entry in self.spec["models"].items()}
        if len(set(families.values())) > 1:
            labels = {model: f"{families[model]} {label}" for model, label in labels.items()}
        is_unique = list(labels.values()).count(labels[name]) == 1
        return labels[name] if is_unique else f"{labels[name]} ({name})"

    def labels(self, kind: str) -> list[str]:
        """Return all labels of a kind in reading order."""
        return [self.label(kind, name) for name in self.names(kind)]

    def gap_label(self) -> str:
        """Return `first − second` of the contrast."""
        return " − ".join(self.label("mixes", mix) for mix in self.spec["contrast"] or ())

    def accuracy(self, model: str, mix: str, benchmark: str) -> Entry:
        """Return an accuracy in per cent with its interval."""
        row = self.estimates.get(("accuracy", model, mix, benchmark), {})
        if row.get("estimate") is None:
            return Entry(MISSING)
        return Entry(per_cent(row["estimate"]), interval(row))

    def gap(self, quantity: str, model: str, mix: str, benchmark: str) -> Entry:
        """Return a gap in points with its interval."""
        row = self.estimates.get((quantity, model, mix, benchmark), {})
        if row.get("estimate") is None:
            return Entry(MISSING)
        return Entry(points(row["estimate"]), interval(row, "+"), bool(row["settled"]))


def document(
    spec: TableSpec,
    estimates: Sequence[Row],
    scores: Sequence[Row],
    compared: Sequence[Row],
    notes: Row,
) -> Document:
    """Return all sections for which the experiment has numbers.

    `scores` are rows of cells and averages, `compared` those of `published.compare`.
    """
    by_key: dict[Key, Row] = {
        (row["quantity"], row.get("model"), row.get("mix"), row["benchmark"]): row
        for row in estimates
    }
    view = View(spec, by_key)
    sections = [
        main(view),
        by_benchmark(view),
        gains(view),
        best_gaps(view),
        sizes(view, estimates),
        cut_off(view, scores),
        published(view, compared),
    ]
    warning = f"Not only {notes['varies']}: {', '.join(notes['differs_in'])}."
    headings = {
        "What differs besides": notes["differs"],
        "Between students": notes["between_students"],
        "Protocol": notes["protocol"],
    }
    return Document(
        notes["caption"],
        warning if notes["differs"] else "",
        [section for section in sections if section is not None],
        {heading: lines for heading, lines in headings.items() if lines},
    )


def main(view: View) -> Section:
    """Lay out students x training sets, averages over the benchmarks, and the gap."""
    contrast, benchmarks = view.spec["contrast"], view.labels("benchmarks")
    body = []
    for model in view.names("models"):
        line = [view.accuracy(model, mix, AVERAGE) for mix in view.names("mixes")]
        line += [view.gap("gap", model, contrast[0], AVERAGE)] if contrast else []
        body.append([Entry(view.label("models", model)), *line, *_counts(view, model)])
    gap = [view.gap_label()] if contrast else []
    head = ["student", *view.labels("mixes"), *gap, "n", "seeds"]
    legend = ["Accuracy in per cent, with intervals; n: questions; seeds: training seeds."]
    if guess := view.estimates.get(("best_guess", None, None, AVERAGE)):
        legend.append(f"The best constant guess scores {per_cent(guess['estimate'])}.")
    if contrast:
        legend.append(f"The gap is in percentage points. {LEGEND.format('gaps')}")
    n = len(benchmarks)
    return Section(f"Mean of {n} benchmarks" if n > 1 else benchmarks[0], head, 1, body, legend)


def _counts(view: View, model: str) -> list[Entry]:
    """Return questions and seeds behind a student's averages; a range where mixes differ."""
    keys: list[Key] = [("accuracy", model, mix, AVERAGE) for mix in view.names("mixes")]
    rows = [view.estimates.get(key, {}) for key in keys]
    entries = []
    for column in ("n_questions", "n_seeds"):
        values = sorted({row[column] for row in rows if row.get(column) is not None})
        ends = [values[0], values[-1]] if len(values) > 1 else values
        entries.append(Entry("–".join(f"{value:,}" for value in ends) or MISSING))
    return entries


def by_benchmark(view: View) -> Section | None:
    """Lay out students and training sets x benchmarks, where there are several."""
    contrast = view.spec["contrast"]
    if not view.spec["by_benchmark"] or len(view.names("benchmarks")) == 1:
        return None
    names = [*view.names("benchmarks"), AVERAGE]
    body = []
    for model in view.names("models"):
        lines = [
            [Entry(label), *(view.accuracy(model, mix, name) for name in names)]
            for mix, label in zip(view.names("mixes"), view.labels("mixes"), strict=True)
        ]
        if contrast:
            gaps = (view.gap("gap", model, contrast[0], name) for name in names)
            lines.append([Entry(view.gap_label()), *gaps])
        body += _group(view, model, lines)
    head = ["student", "trained on", *view.labels("benchmarks"), AVERAGE]
    legend = "Per cent, with intervals."
    if contrast:
        legend = f"Per cent and percentage points, with intervals. {LEGEND.format('gaps')}"
    return Section("By benchmark", head, 2, body, [legend], is_grouped=True)


def _group(view: View, model: str, lines: list[list[Entry]]) -> list[list[Entry]]:
    """Return a student's lines, its label in front of the first."""
    label = view.label("models", model)
    return [[Entry("" if index else label), *line] for index, line in enumerate(lines)]


def gains(view: View) -> Section | None:
    """Lay out trained less untouched, averages over the benchmarks."""
    gained = {mix for quantity, _, mix, _ in view.estimates if quantity == "gain"}
    mixes = [mix for mix in view.names("mixes") if mix in gained]
    if not mixes:
        return None
    body = []
    for model in view.names("models"):
        gaps = (view.gap("gain", model, mix, AVERAGE) for mix in mixes)
        body.append([Entry(view.label("models", model)), *gaps])
    head = ["student", *(view.label("mixes", mix) for mix in mixes)]
    title, legend = "Trained − untouched, average (percentage points)", LEGEND.format("gains")
    return Section(title, head, 1, body, [legend])


def best_gaps(view: View) -> Section | None:
    """Lay out mixes less the best of their single sources, averages over the benchmarks."""
    body = []
    for model in view.names("models"):
        for mix in view.spec["singles"]:
            row = view.estimates.get(("mix_minus_best", model, mix, AVERAGE), {})
            best, share, p = MISSING, MISSING, MISSING
            if row.get("estimate") is not None:
                best = view.label("mixes", row["minus"])
                share, p = f"{100 * row['share_best']:.0f} %", f"{row['p_holm']:.3f}"
            labels = (view.label("models", model), view.label("mixes", mix), best)
            gap = view.gap("mix_minus_best", model, mix, AVERAGE)
            body.append([*map(Entry, labels), gap, Entry(share), Entry(p)])
    if not body:
        return None
    head = ["student", "mix", "best source", "mix − best", "best in", "p"]
    title = "Mix − best single source, average (percentage points)"
    return Section(title, head, 3, body, [GAIN_LEGEND])


def sizes(view: View, estimates: Sequence[Row]) -> Section | None:
    """Lay out, per family, the size from which on students gain."""
    body = []
    for row in estimates:
        if row["quantity"] == "sign_flip" and row["benchmark"] == AVERAGE:
            shares = (row.get(key) for key in ("crosses", "below", "above"))
            texts = (MISSING if share is None else f"{100 * share:.0f} %" for share in shares)
            body.append([Entry(row["family"]), _size(row), *map(Entry, texts)])
    if not body:
        return None
    head = ["family", "size", "changes", "all gain", "largest does not"]
    legend = SIZE_LEGEND.format(view.gap_label())
    return Section("Sign-flip size, average", head, 1, body, [legend])


def _size(row: Row) -> Entry:
    """Return a size and its interval.

    An open end lies beyond the family; without any resample there is no size.
    """
    if row.get("crosses") is None:
        return Entry(MISSING)
    low = "below all" if row["low"] is None else billions(row["low"])
    high = "above all" if row["high"] is None else billions(row["high"])
    # An interval on one side only: both ends lie beyond the family on that side.
    if row["low"] is None and row["high"] is None and 0 in (row["below"], row["above"]):
        low = high = "below all" if row["below"] else "above all"
    size = "all gain" if row["below"] > row["above"] else "largest does not gain"
    if row["estimate"] is not None:
        size = billions(row["estimate"])
    return Entry(size, f"[{low}, {high}]")


def cut_off(view: View, scores: Sequence[Row]) -> Section:
    """Lay out what the cap on answers does: bounds of the accuracy, answers cut off, lengths."""
    averages: dict[tuple[str, str], list[Row]] = {}
    for row in scores:
        if row["benchmark"] == AVERAGE:
            averages.setdefault((row["model"], row["mix"]), []).append(row)
    body = []
    for model in view.names("models"):
        lines = []
        for mix in view.names("mixes"):
            values = _means(averages.get((model, mix), []))
            keys = ("acc_finished", "share_truncated", "share_no_answer")
            shares = [
                _share(values, "acc"),
                _bounds(values),
                *(_share(values, key) for key in keys),
            ]
            tokens = (_quartiles(values, kind) for kind in ("correct", "wrong"))
            lines.append([Entry(view.label("mixes", mix)), *shares, *tokens])
        body += _group(view, model, lines)
    shares_head = ["right", "bounds", "of finished", "cut off", "no answer"]
    head = ["student", "trained on", *shares_head, "tokens, right", "tokens, wrong"]
    return Section("Answers cut off", head, 2, body, [CUT_OFF_LEGEND], is_grouped=True)


def _means(rows: Sequence[Row]) -> dict[str, float | None]:
    """Return the mean of each numeric column, None where a row has no value."""
    items = [item for row in rows for item in row.items()]
    keys = {key for key, value in items if value is None or isinstance(value, int | float)}
    means: dict[str, float | None] = {}
    for key in keys:
        values = [row.get(key) for row in rows]
        known = [value for value in values if value is not None]
        means[key] = sum(known) / len(known) if len(known) == len(values) else None
    return means


def _share(values: Mapping[str, Any], key: str) -> Entry:
    return Entry(MISSING if values.get(key) is None else per_cent(values[key]))


def _bounds(values: Mapping[str, Any]) -> Entry:
    low, high = _share(values, "acc_low").text, _share(values, "acc_high").text
    return Entry(MISSING if MISSING in (low, high) else f"{low} to {high}")


def _quartiles(values: Mapping[str, Any], kind: str) -> Entry:
    low, middle, high = (values.get(f"tokens_{kind}_{name}") for name in ("p25", "p50", "p75"))
    if low is None or middle is None or high is None:
        return Entry(MISSING)
    return Entry(f"{middle:,.0f}", f"[{low:,.0f}, {high:,.0f}]")


def published(view: View, compared: Sequence[Row]) -> Section | None:
    """Lay out published numbers beside ours; without a section by benchmark, averages alone."""
    body, legend = [], [PUBLISHED_LEGEND]
    for row in compared:
        if not view.spec["by_benchmark"] and row["benchmark"] != AVERAGE:
            continue
        mix = " − ".join(view.label("mixes", name) for name in (row["mix"], row["minus"]) if name)
        benchmark = view.label("benchmarks", row["benchmark"])
        labels = [view.label("models", row["model"]), mix, benchmark]
        sign = "+" if row["minus"] else ""
        ours = [Entry(MISSING)] * 3
        if row["ours"] is not None:
            low, high = signed(row["low"], sign), signed(row["high"], sign)
            difference = Entry(signed(row["difference"], "+"))
            is_inside = Entry("yes" if row["inside"] else "no")
            ours = [Entry(signed(row["ours"], sign), f"[{low}, {high}]"), difference, is_inside]
        number = Entry(signed(row["published"], sign))
        body.append([*map(Entry, labels), number, *ours, Entry(row["source"])])
        if row["note"]:
            legend.append(f"{', '.join(labels)}: {row['note']}")
    if not body:
        return None
    numbers_head = ["published", "ours", "difference", "inside", "source"]
    head = ["student", "trained on", "benchmark", *numbers_head]
    return Section("Beside what was published", head, 3, body, list(dict.fromkeys(legend)))

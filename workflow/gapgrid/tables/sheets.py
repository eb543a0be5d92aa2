"""What an experiment's table says, as sections of plain text entries; `typeset` turns them into Markdown and LaTeX.

Rows are students and columns training sets, in the order in which the experiment names them: the paper's reading order.
Accuracies are in per cent, gaps in percentage points; what is missing is a dash, never a zero.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from gapgrid.records import Row
from gapgrid.statistics import AVERAGE
from gapgrid.tables.numerals import billions, per_cent, points, signed, span

MISSING = "–"
OPEN, SETTLED = "open", "settled"
LEGEND = "Bold: the sign is settled. Grey, with °: it is not."
Key = tuple[str, str | None, str | None, str]


class Entry(NamedTuple):
    """One place of a table: its text, what stands below or after it in small type, and its mark (`open`, `settled` or none)."""

    text: str
    small: str = ""
    mark: str = ""


class Section(NamedTuple):
    """One table: `n_words` columns of words on the left, then numbers; lines of explanation below.

    In groups, the first column names a group in its first row and is empty in the others.
    """

    title: str
    head: list[str]
    n_words: int
    body: list[list[Entry]]
    legend: list[str]
    is_grouped: bool = False


class Sheet(NamedTuple):
    """An experiment's tables, its stamp if more differs than it declares, and its notes by heading."""

    caption: str
    stamp: str
    sections: list[Section]
    notes: dict[str, list[str]]


class View(NamedTuple):
    """An experiment's numbers as the sections look them up."""

    spec: Row
    found: Mapping[Key, Row]

    def names(self, kind: str) -> list[str]:
        """Models, mixes or benchmarks in reading order."""
        return [name for name, _ in self.spec["shown"][kind]]

    def label(self, kind: str, name: str) -> str:
        """How one of them is called; a student with its family where there are several, and with its name if that leaves a doubt."""
        labels = dict(self.spec["shown"][kind])
        if kind != "models":
            return AVERAGE if name == AVERAGE else str(labels[name])
        families = {model: entry["family"] for model, entry in self.spec["models"].items()}
        several = len(set(families.values())) > 1
        full = {model: f"{families[model]} {label}" if several else label for model, label in labels.items()}
        return full[name] if list(full.values()).count(full[name]) == 1 else f"{full[name]} ({name})"

    def accuracy(self, model: str, mix: str, benchmark: str) -> Entry:
        """An accuracy in per cent with its interval."""
        row = self.found.get(("accuracy", model, mix, benchmark), {})
        return Entry(MISSING) if row.get("estimate") is None else Entry(per_cent(row["estimate"]), span(row))

    def gap(self, quantity: str, model: str, mix: str, benchmark: str) -> Entry:
        """A gap in points with its interval, marked by whether its sign is settled."""
        row = self.found.get((quantity, model, mix, benchmark), {})
        if row.get("estimate") is None:
            return Entry(MISSING)
        return Entry(points(row["estimate"]), span(row, "+"), SETTLED if row["settled"] else OPEN)


def sheet(spec: Row, estimates: Sequence[Row], scores: Sequence[Row], beside: Sequence[Row], notes: Row) -> Sheet:
    """All sections that the experiment has something for."""
    found = {(row["quantity"], row.get("model"), row.get("mix"), row["benchmark"]): row for row in estimates}
    view = View(spec, found)
    sections = [main(view)]
    if spec["by_benchmark"] and len(view.names("benchmarks")) > 1:
        sections.append(by_benchmark(view))
    sections += [section for make in (gains, best_gaps) if (section := make(view)) is not None]
    if flips := [row for row in estimates if row["quantity"] == "sign_flip" and row["benchmark"] == AVERAGE]:
        sections.append(sizes(view, flips))
    sections.append(cut_off(view, scores))
    if shown := [row for row in beside if spec["by_benchmark"] or row["benchmark"] == AVERAGE]:
        sections.append(published(view, shown))
    stamp = f"Not only {notes['varies']}: {', '.join(notes['differs_in'])}." if notes["differs"] else ""
    headed = {
        "What differs besides": notes["differs"],
        "Between students": notes["between_students"],
        "Protocol": notes["protocol"],
    }
    return Sheet(notes["caption"], stamp, sections, {heading: lines for heading, lines in headed.items() if lines})


def gap_label(view: View) -> str:
    """`first − second` of the contrast."""
    return " − ".join(view.label("mixes", mix) for mix in view.spec["contrast"])


def main(view: View) -> Section:
    """Students x training sets, averages over the benchmarks, and the gap."""
    mixes, contrast, benchmarks = view.names("mixes"), view.spec.get("contrast"), view.names("benchmarks")
    which = f"Mean of {len(benchmarks)} benchmarks" if len(benchmarks) > 1 else view.label("benchmarks", benchmarks[0])
    head = ["student", *(view.label("mixes", mix) for mix in mixes), *([gap_label(view)] if contrast else []), "n", "seeds"]
    body = []
    for model in view.names("models"):
        line = [view.accuracy(model, mix, AVERAGE) for mix in mixes]
        line += [view.gap("gap", model, contrast[0], AVERAGE)] if contrast else []
        body.append([Entry(view.label("models", model)), *line, *_counted(view, model)])
    legend = ["Accuracy in per cent, with intervals; n: questions; seeds: training seeds."]
    guess = view.found.get(("best_guess", None, None, AVERAGE))
    legend += [f"The best constant guess scores {per_cent(guess['estimate'])}."] if guess else []
    return Section(which, head, 1, body, [*legend, *([f"The gap is in percentage points. {LEGEND}"] if contrast else [])])


def _counted(view: View, model: str) -> list[Entry]:
    """Questions and seeds behind a student's averages; a range where training sets differ."""
    rows = [view.found.get(("accuracy", model, mix, AVERAGE), {}) for mix in view.names("mixes")]
    texts = []
    for key in ("n_questions", "n_seeds"):
        known = sorted({row[key] for row in rows if row.get(key) is not None})
        texts.append("–".join(f"{value:,}" for value in ([known[0], known[-1]] if len(known) > 1 else known)) or MISSING)
    return [Entry(text) for text in texts]


def by_benchmark(view: View) -> Section:
    """Students and training sets x benchmarks."""
    benchmarks, contrast = [*view.names("benchmarks"), AVERAGE], view.spec.get("contrast")
    body = []
    for model in view.names("models"):
        lines = [
            [Entry(view.label("mixes", mix)), *(view.accuracy(model, mix, name) for name in benchmarks)] for mix in view.names("mixes")
        ]
        if contrast:
            lines.append([Entry(gap_label(view)), *(view.gap("gap", model, contrast[0], name) for name in benchmarks)])
        body += [[Entry(view.label("models", model) if place == 0 else ""), *line] for place, line in enumerate(lines)]
    head = ["student", "trained on", *(view.label("benchmarks", name) for name in benchmarks)]
    legend = f"Per cent and percentage points, with intervals. {LEGEND}" if contrast else "Per cent, with intervals."
    return Section("By benchmark", head, 2, body, [legend], is_grouped=True)


def gains(view: View) -> Section | None:
    """Trained less untouched, averages over the benchmarks."""
    mixes = [mix for mix in view.names("mixes") if any(key[0] == "gain" and key[2] == mix for key in view.found)]
    if not mixes:
        return None
    body = [
        [Entry(view.label("models", model)), *(view.gap("gain", model, mix, AVERAGE) for mix in mixes)] for model in view.names("models")
    ]
    head = ["student", *(view.label("mixes", mix) for mix in mixes)]
    return Section("Trained − untouched, average (percentage points)", head, 1, body, [LEGEND])


def best_gaps(view: View) -> Section | None:
    """Mixes less the best of their single sources, averages over the benchmarks."""
    body = []
    for model in view.names("models"):
        for mix in view.spec["singles"]:
            row = view.found.get(("mix_minus_best", model, mix, AVERAGE), {})
            is_there = row.get("estimate") is not None
            best = view.label("mixes", row["minus"]) if is_there else MISSING
            numbers = [f"{100 * row['share_best']:.0f} %", f"{row['p_holm']:.3f}"] if is_there else [MISSING, MISSING]
            gap = view.gap("mix_minus_best", model, mix, AVERAGE)
            body.append([Entry(view.label("models", model)), Entry(view.label("mixes", mix)), Entry(best), gap, *map(Entry, numbers)])
    head = ["student", "mix", "best source", "mix − best", "best in", "p"]
    legend = (
        "The best source is chosen on the scores shown, which biases the gap downwards; best in: share of resamples in which it is "
        "the best; p: of no gain over the best source, one-sided, after Holm's correction. Bold: a gain is settled. Grey, with °: it "
        "is not."
    )
    return Section("Mix − best single source, average (percentage points)", head, 3, body, [legend]) if body else None


def sizes(view: View, flips: Sequence[Row]) -> Section:
    """Per family, the size from which on students gain."""
    body = []
    for row in flips:
        shares = [f"{100 * row[key]:.0f} %" if row.get(key) is not None else MISSING for key in ("crosses", "below", "above")]
        body.append([Entry(row["family"]), Entry(*_size(row)), *map(Entry, shares)])
    legend = [
        f"The size above which {gap_label(view)} is positive, by straight lines between students on a log scale. "
        "Shares of resamples: the sign changes within the family; all students gain; the largest does not."
    ]
    return Section("Sign-flip size, average", ["family", "size", "changes", "all gain", "largest does not"], 1, body, legend)


def _size(row: Row) -> tuple[str, str]:
    """A size and its interval; an open end is one beyond the family, and without any resample there is no size."""
    if row.get("crosses") is None:
        return MISSING, ""
    none = "all gain" if row["below"] > row["above"] else "largest does not gain"
    low, high = (billions(row[key]) if row[key] is not None else end for key, end in (("low", "below all"), ("high", "above all")))
    # An interval on one side only: both ends lie beyond the family on that side.
    if row["low"] is None and row["high"] is None and 0 in (row["below"], row["above"]):
        low = high = "below all" if row["below"] else "above all"
    return (none if row["estimate"] is None else billions(row["estimate"])), f"[{low}, {high}]"


def cut_off(view: View, scores: Sequence[Row]) -> Section:
    """What the cap on answers does: bounds of the accuracy, answers cut off, lengths; means over benchmarks and seeds."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in scores:
        if row["benchmark"] == AVERAGE:
            groups.setdefault((row["model"], row["mix"]), []).append(row)
    body = []
    for model in view.names("models"):
        for place, mix in enumerate(view.names("mixes")):
            values = _means(groups.get((model, mix), []))
            line = [
                _share(values, "acc"),
                _bounds(values),
                *(_share(values, key) for key in ("acc_finished", "share_truncated", "share_no_answer")),
                *(_quartiles(values, kind) for kind in ("correct", "wrong")),
            ]
            body.append([Entry(view.label("models", model) if place == 0 else ""), Entry(view.label("mixes", mix)), *line])
    head = ["student", "trained on", "right", "bounds", "of finished", "cut off", "no answer", "tokens, right", "tokens, wrong"]
    legend = [
        "Per cent, means of benchmarks and seeds. Bounds: answers cut off at the cap taken as wrong, and as right. Of finished: right "
        "among those that ended by themselves. Tokens: median length of right and of wrong answers, with quartiles; – where a benchmark "
        "has none."
    ]
    return Section("Answers cut off", head, 2, body, legend, is_grouped=True)


def _means(rows: Sequence[Row]) -> dict[str, float | None]:
    keys = {key for row in rows for key, value in row.items() if isinstance(value, int | float) or value is None}
    found: dict[str, float | None] = {}
    for key in keys:
        values = [row.get(key) for row in rows]
        known = [value for value in values if value is not None]
        found[key] = sum(known) / len(known) if len(known) == len(values) else None
    return found


def _share(values: Mapping[str, Any], key: str) -> Entry:
    return Entry(MISSING) if values.get(key) is None else Entry(per_cent(values[key]))


def _bounds(values: Mapping[str, Any]) -> Entry:
    low, high = _share(values, "acc_low").text, _share(values, "acc_high").text
    return Entry(MISSING) if MISSING in (low, high) else Entry(f"{low} to {high}")


def _quartiles(values: Mapping[str, Any], kind: str) -> Entry:
    low, middle, high = (values.get(f"tokens_{kind}_{name}") for name in ("p25", "p50", "p75"))
    if low is None or middle is None or high is None:
        return Entry(MISSING)
    return Entry(f"{middle:,.0f}", f"[{low:,.0f}, {high:,.0f}]")


def published(view: View, beside: Sequence[Row]) -> Section:
    """Published numbers beside ours."""
    said = "Per cent and percentage points. Inside: whether the published number, whose own chance error is unknown, lies in our interval."
    body, legend = [], [said]
    for row in beside:
        mix = " − ".join(view.label("mixes", name) for name in (row["mix"], row["minus"]) if name)
        student, benchmark = view.label("models", row["model"]), view.label("benchmarks", row["benchmark"])
        sign = "+" if row["minus"] else ""
        numbers = [Entry(signed(row["published"], sign)), Entry(MISSING), Entry(MISSING), Entry(MISSING)]
        if row["ours"] is not None:
            ours = Entry(signed(row["ours"], sign), f"[{signed(row['low'], sign)}, {signed(row['high'], sign)}]")
            numbers[1:] = [ours, Entry(signed(row["difference"], "+")), Entry("yes" if row["inside"] else "no")]
        body.append([Entry(student), Entry(mix), Entry(benchmark), *numbers, Entry(row["source"])])
        if row["note"]:
            legend.append(f"{student}, {mix}, {benchmark}: {row['note']}")
    head = ["student", "trained on", "benchmark", "published", "ours", "difference", "inside", "source"]
    return Section("Beside what was published", head, 3, body, list(_once(legend)))


def _once(lines: Sequence[str]) -> Iterator[str]:
    yield from dict.fromkeys(lines)

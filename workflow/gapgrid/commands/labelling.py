"""Labels by hand for the steps of grading: a stratified sample, a sheet in the terminal, and error rates with intervals.

A pair (problem, reference answer, answer) is labelled once, however many answers share it, and the labeller sees neither
who decided on it nor how. Labels are appended to a JSONL file one by one, so that nothing is lost when it stops.
"""

import json
import math
import os
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import NormalDist
from typing import TYPE_CHECKING, NamedTuple

from gapgrid.injections import capped, visible
from gapgrid.records import InputError, Row, canonical, fail_if, read_jsonl, sha256_text

if TYPE_CHECKING:
    from rich.console import Console

CHEAP, ALGEBRA = "accepted_rule", "accepted_algebra"
REJECTED = ("rejected", "overruled", "confirmed")  # decisively by a rule; by the judge as well: not, or so too
BY_JUDGE = ("judge_correct", "judge_incorrect")
DECISIONS = (CHEAP, ALGEBRA, *REJECTED, *BY_JUDGE, "unparsed", "undecided")
LABELS = {"y": "same", "n": "different", "u": "unsure"}
COLUMNS = ("problem", "gold", "answer", "stratum", "stratum_n", "stratum_pairs", "decided_by", "decision", "label", "seed")
Pair = tuple[str, str, str]  # problem, gold, answer
MOST_TEXT = 6000  # characters of a text on the sheet


class Stratum(NamedTuple):
    """Answers of one decision and benchmark: how many, and a row for each unique pair among them."""

    n: int
    pairs: dict[Pair, Row]


def pair_of(row: Row) -> Pair:
    """What is labelled."""
    return row["problem"], row["gold"], row["answer"]


def strata(rows: Iterable[Row]) -> dict[str, Stratum]:
    """Name -> stratum, sorted; named by one of `DECISIONS` and the benchmark, `judge_correct/math-500`.

    Rows have problem, gold, answer, benchmark, decided_by (a rule or the judge) and decision. Each pair is in
    one stratum, and all its answers count there: the first by name, if benchmarks that share it decide otherwise.
    """
    chosen: dict[Pair, Row] = {}
    counts: Counter[Pair] = Counter()
    for row in rows:
        chosen[pair_of(row)] = min(
            row, chosen.get(pair_of(row), row), key=lambda row: (row["decision"], row["benchmark"], row["decided_by"])
        )
        counts[pair_of(row)] += 1
    found: dict[str, dict[Pair, Row]] = {}
    for pair, row in chosen.items():
        found.setdefault(f"{row['decision']}/{row['benchmark']}", {})[pair] = row
    return {name: Stratum(sum(counts[pair] for pair in pairs), pairs) for name, pairs in sorted(found.items())}


def shares(sizes: list[int], n: int) -> list[int]:
    """How many to draw from strata of these sizes: as even as possible, `n` in all or everything there is."""
    taken = [0] * len(sizes)
    for place, index in enumerate(sorted(range(len(sizes)), key=lambda index: (sizes[index], index))):
        # The smallest first: what one cannot give, the larger ones share.
        taken[index] = min(sizes[index], -(-(n - sum(taken)) // (len(sizes) - place)))
    return taken


def draw(rows: Iterable[Row], n: int, seed: int) -> list[Row]:
    """A sample of `n` unique pairs, as even over the strata as can be, in an order that says nothing of the strata.

    Each row has the columns of a labels file but for the label. Within a stratum every pair is as likely; the same rows and
    seed give the same sample, in whatever order the rows come, and a larger `n` adds pairs and takes none away.
    """
    if n < 1:
        raise InputError(f"audit sample: {n} pairs asked for, expected 1 or more")
    found = strata(rows)
    drawn: list[Row] = []
    for (name, stratum), share in zip(found.items(), shares([len(found[name].pairs) for name in found], n), strict=True):
        for pair in sorted(stratum.pairs, key=lambda pair: _digest("draw", seed, pair))[:share]:
            row = {**stratum.pairs[pair], "stratum": name, "stratum_n": stratum.n, "stratum_pairs": len(stratum.pairs), "seed": seed}
            drawn.append({key: row[key] for key in COLUMNS if key != "label"})
    # By another digest: in the order of the first one, the pairs of small strata would come late.
    return sorted(drawn, key=lambda row: _digest("order", seed, pair_of(row)))


def _digest(use: str, seed: int, pair: Pair) -> str:
    return sha256_text(canonical([use, seed, *pair]))


def decision_rows(results: Path) -> Iterable[Row]:
    """Every answer of a grid's finished cells, with who decided on it and how; responses without an answer are left out."""
    from gapgrid import audit

    scores = sorted(results.glob("score/*/*/*/*/score.json"))
    if not scores:
        raise InputError(f"{results}: no scored cells; run the grid first")
    for score in scores:
        for row in audit.read_cell(score):
            rule, outcome = audit.decided(row)
            if outcome != "no_answer":
                kept = {key: row[key] for key in ("problem", "gold", "answer", "benchmark")}
                yield {**kept, "decided_by": rule, "decision": _decision(rule, outcome, row["rejected_by"] is not None)}


def _decision(rule: str, outcome: str, is_rejected: bool) -> str:
    if outcome == "accepted":
        return ALGEBRA if rule == "math_verify" else CHEAP
    if is_rejected and outcome in BY_JUDGE:  # a judge that is asked about all answers
        return "overruled" if outcome == "judge_correct" else "confirmed"
    return outcome


def read_labels(file: Path) -> list[Row]:
    """The labels of a file, the last one of each pair; an `InputError` names rows that are none."""
    rows = read_jsonl(file)
    problems = []
    for number, row in enumerate(rows, 1):
        lacking = [key for key in COLUMNS if key not in row]
        if lacking:
            problems.append(f"{file}: label {number} has no column '{lacking[0]}'")
        elif row["label"] not in LABELS.values():
            problems.append(f"{file}: label {number} is '{row['label']}', expected one of {', '.join(LABELS.values())}")
        elif str(row["stratum"]).partition("/")[0] not in DECISIONS:
            problems.append(f"{file}: label {number} has the stratum '{row['stratum']}', which starts with no known decision")
    fail_if(problems)
    return list({pair_of(row): row for row in rows}.values())


def _append(file: Path, row: Row) -> None:
    """One line at the end of a file, on the disk when this returns."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with open(file, "a", encoding="ascii", newline="\n") as opened:
        opened.write(json.dumps(row, sort_keys=True, allow_nan=False) + "\n")
        opened.flush()
        os.fsync(opened.fileno())


def _resume(file: Path, rows: list[Row]) -> set[Pair]:
    """The pairs that have a label. A last line that a crash cut off is taken away: its pair is asked again."""
    if not file.is_file():
        return set()
    if not (content := file.read_bytes()).endswith(b"\n"):
        os.truncate(file, content.rfind(b"\n") + 1)
    labels = read_labels(file)
    seeds = {row["seed"] for row in rows} | {row["seed"] for row in labels}
    if rows and len(seeds) > 1:
        raise InputError(f"{file}: has labels of a sample with another seed ({', '.join(map(str, sorted(seeds)))}); take another file")
    return {pair_of(row) for row in labels}


def sheet(console: "Console", rows: list[Row], file: Path, ask: Callable[[str], str] | None = None) -> int:
    """Ask for a label of each row that has none in `file`; returns how many of the rows have one at the end.

    Keys: y the same, n different, u unsure, b back to the one before, q quit. Every label is on the disk before the next
    question; an end of input or an interrupt is a quit. `ask` takes a prompt and returns what was typed.
    """
    ask = ask or console.input
    done = _resume(file, rows)
    at = _next(rows, done, 0)
    while at < len(rows):
        _show(console, rows[at], f"{at + 1} of {len(rows)}")
        try:
            key = ask("same meaning? y same, n different, u unsure, b back, q quit: ").strip().lower()
        except (EOFError, KeyboardInterrupt):
            break
        if key == "q":
            break
        if key == "b":
            at = max(at - 1, 0)
        elif key in LABELS:
            _append(file, {**rows[at], "label": LABELS[key]})
            done.add(pair_of(rows[at]))
            at = _next(rows, done, at + 1)
    labelled = sum(pair_of(row) in done for row in rows)
    console.print(
        f"{labelled} of {len(rows)} labelled; report with: gapgrid audit report GRID --labels {file}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    return labelled


def _next(rows: list[Row], done: set[Pair], start: int) -> int:
    """The first row from `start` on, then from the beginning, that has no label; the number of rows if none is left."""
    order = [*range(start, len(rows)), *range(start)]
    return next((index for index in order if pair_of(rows[index]) not in done), len(rows))


def _show(console: "Console", row: Row, title: str) -> None:
    """One pair, without who decided on it. Text objects take no markup, and what is hidden is written out."""
    from rich.panel import Panel
    from rich.text import Text

    console.rule(Text(title))
    for name, label in (("problem", "problem"), ("gold", "reference"), ("answer", "answer")):
        console.print(Panel(Text(capped(visible(row[name]), MOST_TEXT)), title=label, title_align="left"))


RATES = {  # name -> which decisions it is about, and the label that says that they erred
    "rules: false accept": ((CHEAP, ALGEBRA), "different"),
    "rules: not accepted, yet the same": ((*REJECTED, *BY_JUDGE, "unparsed", "undecided"), "same"),
    "decisive rejections: false reject": (REJECTED, "same"),
    "judge: false accept": (("judge_correct", "overruled"), "different"),
    "judge: false reject": (("judge_incorrect", "confirmed"), "same"),
}
OVERALL = "overall"


class Rate(NamedTuple):
    """An error rate: of which step, in which stratum; labels that count, errors and unsure ones among them; None if no label counts."""

    name: str
    stratum: str
    n: int
    n_errors: int
    n_unsure: int
    rate: float | None
    low: float | None
    high: float | None


def wilson(share: float, n: float, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a share of `n` draws; `n` may be an effective sample size, not whole.

    Wilson (1927), Probable inference, the law of succession, and statistical inference, JASA 22:209-212.
    """
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    scale = 1 + z * z / n
    centre = (share + z * z / (2 * n)) / scale
    half = z / scale * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return (0.0 if share == 0 else centre - half), (1.0 if share == 1 else centre + half)


def rates(labels: list[Row], confidence: float = 0.95) -> list[Rate]:
    """Error rates of the steps, per stratum and overall, over unique pairs; unsure labels are counted and left out.

    A false accept is a pair that the step accepted and the labeller calls different, as a share of what it accepted; a
    false reject one that it rejected and that is the same, as a share of what it rejected. Overall: the strata's rates
    weighted by their unique pairs, W = pairs / sum of pairs, in Wilson's interval with the effective sample size
    1 / sum(W^2 / n) (Kish 1965, Survey Sampling, on weights). It does not shrink to nothing where no error was found, as
    the stratified normal interval does; Franco, Little, Louis and Slud (2019), J. Surv. Stat. Methodol. 7:334-364,
    find Wilson's interval with an effective sample size among the best in complex samples. Strata without a label
    that counts are in no overall rate.
    """
    found = []
    for name, (decisions, error) in RATES.items():
        groups: dict[str, list[Row]] = {}
        for row in labels:
            if row["stratum"].partition("/")[0] in decisions:
                groups.setdefault(row["stratum"], []).append(row)
        parts = [_rate(name, stratum, [row["label"] for row in rows], error, confidence) for stratum, rows in sorted(groups.items())]
        sizes = [groups[part.stratum][-1]["stratum_pairs"] for part in parts]
        found += [*parts, _overall(name, parts, sizes, confidence)]
    return found


def _rate(name: str, stratum: str, labels: list[str], error: str, confidence: float) -> Rate:
    n_unsure, n_errors = labels.count("unsure"), labels.count(error)
    n = len(labels) - n_unsure
    rate = n_errors / n if n else None
    low, high = (None, None) if rate is None else wilson(rate, n, confidence)
    return Rate(name, stratum, n, n_errors, n_unsure, rate, low, high)


def _overall(name: str, parts: list[Rate], sizes: list[int], confidence: float) -> Rate:
    n, n_errors, n_unsure = sum(part.n for part in parts), sum(part.n_errors for part in parts), sum(part.n_unsure for part in parts)
    known = [(part.n_errors / part.n, part.n, size) for part, size in zip(parts, sizes, strict=True) if part.n]
    if not known:
        return Rate(name, OVERALL, n, n_errors, n_unsure, None, None, None)
    total = sum(size for _, _, size in known)
    share = min(sum(rate * size for rate, _, size in known) / total, 1.0)
    effective = total**2 / sum(size**2 / n_labels for _, n_labels, size in known)
    return Rate(name, OVERALL, n, n_errors, n_unsure, share, *wilson(share, effective, confidence))


def sample(results: Path, file: Path, n: int, seed: int, console: "Console | None" = None, ask: Callable[[str], str] | None = None) -> int:
    """Draw `n` pairs of the finished cells under `results` and ask for the labels that `file` lacks; the exit status."""
    from rich.console import Console

    sheet(console or Console(), draw(decision_rows(results), n, seed), file, ask)
    return 0


def report(file: Path, console: "Console | None" = None) -> int:
    """Print the error rates that a file of labels gives; the exit status."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title="Error rates of grading by label, with 95 % intervals", title_justify="left")
    for column in ("rate", "stratum", "labels", "errors", "unsure", "%"):
        table.add_column(column, justify="left" if column in ("rate", "stratum") else "right", overflow="fold", no_wrap=column == "%")
    found = rates(read_labels(file))
    for before, rate in zip([None, *found], found, strict=False):
        shown = [f"{100 * part:.1f}" for part in rate[5:] if part is not None]
        value = f"{shown[0]} [{shown[1]}, {shown[2]}]" if shown else "no label"
        cells = [Text(str(part)) for part in ("" if before and rate.name == before.name else rate.name, *rate[1:5], value)]
        table.add_row(*cells, style="bold" if rate.stratum == OVERALL else "", end_section=rate.stratum == OVERALL)
    (console or Console()).print(table)
    return 0

"""`gapgrid audit sample`: label graded answers by hand, for the error rates of `error_rates`.

A pair (problem, reference answer, answer) is labelled once, however many answers share it, and the
labeller sees neither who decided on it nor how. Labels are appended to a JSONL file one by one, so
that nothing is lost when it stops.
"""

import json
import os
from argparse import Namespace
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypedDict

from gapgrid.commands.grid_args import console, grid_of
from gapgrid.core.records import InputError, canonical, fail_if, read_jsonl, sha256_text
from gapgrid.core.rows import Pair
from gapgrid.core.text import capped, visible

if TYPE_CHECKING:
    from rich.console import Console

CHEAP, ALGEBRA = "accepted_rule", "accepted_algebra"
# Rejected decisively by a rule; the judge did not see it, accepted it, or rejected it too.
REJECTED = ("rejected", "overruled", "confirmed")
BY_JUDGE = ("judge_correct", "judge_incorrect")
DECISIONS = (CHEAP, ALGEBRA, *REJECTED, *BY_JUDGE, "unparsed", "undecided")
LABELS = {"y": "same", "n": "different", "u": "unsure"}
MOST_TEXT = 6000  # characters of a text on the screen


class DecidedPair(TypedDict):
    """A problem, its reference, an answer; who decided (a rule or the judge), by `DECISIONS`."""

    problem: str
    gold: str
    answer: str
    decided_by: str
    decision: str


class DecisionRow(DecidedPair):
    """An extracted answer."""

    benchmark: str


class DrawnRow(DecidedPair):
    """A pair to label; `stratum_n` counts its stratum's answers, `stratum_pairs` unique pairs."""

    stratum: str
    stratum_n: int
    stratum_pairs: int
    seed: int


class LabelRow(DrawnRow):
    """Of a labels file; `label` is one of `LABELS`."""

    label: str


COLUMNS = tuple(LabelRow.__annotations__)


class Stratum(NamedTuple):
    """Answers of one decision and benchmark: their number, and a row for each unique pair."""

    n: int
    pairs: dict[Pair, DecisionRow]


def pair_of(row: DecidedPair) -> Pair:
    """Return what is labelled."""
    return Pair(row["problem"], row["gold"], row["answer"])


def strata(rows: Iterable[DecisionRow]) -> dict[str, Stratum]:
    """Return the strata by name, sorted; a name is decision and benchmark: `unparsed/math-500`.

    Each pair is in one stratum, and all its answers count there: the first by name, if benchmarks
    that share the pair decide otherwise.
    """
    chosen: dict[Pair, DecisionRow] = {}
    counts: Counter[Pair] = Counter()
    for row in rows:
        pair = pair_of(row)
        chosen[pair] = min(
            row,
            chosen.get(pair, row),
            key=lambda row: (row["decision"], row["benchmark"], row["decided_by"]),
        )
        counts[pair] += 1
    groups: dict[str, dict[Pair, DecisionRow]] = {}
    for pair, row in chosen.items():
        groups.setdefault(f"{row['decision']}/{row['benchmark']}", {})[pair] = row
    return {
        name: Stratum(sum(counts[pair] for pair in pairs), pairs)
        for name, pairs in sorted(groups.items())
    }


def shares(sizes: list[int], n: int) -> list[int]:
    """Return how many to draw from strata of these sizes: `n` in all, or all there are, evenly."""
    drawn = [0] * len(sizes)
    smallest_first = sorted(range(len(sizes)), key=lambda index: (sizes[index], index))
    for n_done, index in enumerate(smallest_first):
        # What a small stratum cannot give, the larger ones share.
        drawn[index] = min(sizes[index], -(-(n - sum(drawn)) // (len(sizes) - n_done)))
    return drawn


def draw(rows: Iterable[DecisionRow], n: int, seed: int) -> list[DrawnRow]:
    """Return `n` unique pairs, evenly over the strata, in an order that gives no stratum away.

    Within a stratum every pair is equally likely. The same rows and seed give the same sample, in
    whatever order the rows come; a larger `n` adds pairs and removes none.
    """
    if n < 1:
        raise InputError(f"audit sample: {n} pairs asked for, expected 1 or more")
    by_name = strata(rows)
    sizes = [len(stratum.pairs) for stratum in by_name.values()]
    drawn: list[DrawnRow] = []
    for (name, stratum), share in zip(by_name.items(), shares(sizes, n), strict=True):
        for pair in sorted(stratum.pairs, key=lambda pair: _digest("draw", seed, pair))[:share]:
            row = stratum.pairs[pair]
            drawn.append(
                {
                    "problem": row["problem"],
                    "gold": row["gold"],
                    "answer": row["answer"],
                    "stratum": name,
                    "stratum_n": stratum.n,
                    "stratum_pairs": len(stratum.pairs),
                    "decided_by": row["decided_by"],
                    "decision": row["decision"],
                    "seed": seed,
                }
            )
    # By another digest: in the order of the first one, the pairs of small strata would come late.
    return sorted(drawn, key=lambda row: _digest("order", seed, pair_of(row)))


def _digest(use: str, seed: int, pair: Pair) -> str:
    return sha256_text(canonical([use, seed, *pair]))


def decision_rows(results: Path) -> Iterator[DecisionRow]:
    """Yield every extracted answer of a grid's scored cells; raise `InputError` if none is."""
    from gapgrid.stages import audit

    scores = sorted(results.glob("score/*/*/*/*/score.json"))
    if not scores:
        raise InputError(f"{results}: no scored cells; run the grid first")
    for score in scores:
        for row in audit.read_cell(score):
            rule, outcome = audit.decided(row)
            if outcome != "no_answer":
                yield {
                    "problem": row["problem"],
                    "gold": row["gold"],
                    "answer": row["answer"],
                    "benchmark": row["benchmark"],
                    "decided_by": rule,
                    "decision": _decision(rule, outcome, row["rejected_by"] is not None),
                }


def _decision(rule: str, outcome: str, is_rejected: bool) -> str:
    if outcome == "accepted":
        return ALGEBRA if rule == "math_verify" else CHEAP
    if is_rejected and outcome in BY_JUDGE:  # where the judge sees all answers
        return "overruled" if outcome == "judge_correct" else "confirmed"
    return outcome


def read_labels(file: Path) -> list[LabelRow]:
    """Return the last label of each pair in a file; raise `InputError` for rows that are none."""
    rows = read_jsonl(file)
    problems = []
    for number, row in enumerate(rows, 1):
        where = f"{file}: label {number}"
        missing = [key for key in COLUMNS if key not in row]
        if missing:
            problems.append(f"{where} has no column '{missing[0]}'")
        elif row["label"] not in LABELS.values():
            expected = ", ".join(LABELS.values())
            problems.append(f"{where} is '{row['label']}', expected one of {expected}")
        elif str(row["stratum"]).partition("/")[0] not in DECISIONS:
            stratum = f"the stratum '{row['stratum']}', which starts with no known decision"
            problems.append(f"{where} has {stratum}")
    fail_if(problems)
    return list({pair_of(row): row for row in rows}.values())


def _append(file: Path, row: LabelRow) -> None:
    """Append one line to a file; it is on the disk when this returns."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with open(file, "a", encoding="ascii", newline="\n") as opened:
        opened.write(json.dumps(row, sort_keys=True, allow_nan=False) + "\n")
        opened.flush()
        os.fsync(opened.fileno())


def _labelled(file: Path, rows: list[DrawnRow]) -> set[Pair]:
    """Return the pairs that have a label; truncate a last line that a crash cut off."""
    if not file.is_file():
        return set()
    if not (content := file.read_bytes()).endswith(b"\n"):
        os.truncate(file, content.rfind(b"\n") + 1)
    labels = read_labels(file)
    seeds = sorted({row["seed"] for row in rows} | {row["seed"] for row in labels})
    if rows and len(seeds) > 1:
        text = f"has labels of a sample with another seed ({', '.join(map(str, seeds))})"
        raise InputError(f"{file}: {text}; take another file")
    return {pair_of(row) for row in labels}


def label_rows(
    console: "Console", rows: list[DrawnRow], file: Path, prompt: Callable[[str], str] | None = None
) -> int:
    """Prompt for the labels that `file` lacks; return how many of the rows have one at the end.

    Keys: y the same, n different, u unsure, b back to the row before, q quit. Every label is on
    the disk before the next prompt; an end of input or an interrupt quits. `prompt` takes the text
    of a prompt and returns what was typed.
    """
    prompt = prompt or console.input
    done = _labelled(file, rows)
    index = _next(rows, done, 0)
    while index < len(rows):
        _show(console, rows[index], f"{index + 1} of {len(rows)}")
        try:
            key = prompt("same meaning? y same, n different, u unsure, b back, q quit: ")
        except (EOFError, KeyboardInterrupt):
            break
        key = key.strip().lower()
        if key == "q":
            break
        if key == "b":
            index = max(index - 1, 0)
        elif key in LABELS:
            _append(file, {**rows[index], "label": LABELS[key]})
            done.add(pair_of(rows[index]))
            index = _next(rows, done, index + 1)
    n_labelled = sum(pair_of(row) in done for row in rows)
    report = f"report with: gapgrid audit report GRID --labels {file}"
    text = f"{n_labelled} of {len(rows)} labelled; {report}"
    console.print(text, markup=False, highlight=False, soft_wrap=True)
    return n_labelled


def _next(rows: list[DrawnRow], done: set[Pair], start: int) -> int:
    """Return the first row without a label, from `start` on and round; if none, `len(rows)`."""
    order = [*range(start, len(rows)), *range(start)]
    return next((index for index in order if pair_of(rows[index]) not in done), len(rows))


def _show(console: "Console", row: DrawnRow, title: str) -> None:
    """Print a pair without who decided on it; markup and hidden characters are shown as text."""
    from rich.panel import Panel
    from rich.text import Text

    console.rule(Text(title))
    texts = zip(("problem", "reference", "answer"), pair_of(row), strict=True)
    for name, text in texts:
        console.print(Panel(Text(capped(visible(text), MOST_TEXT)), title=name, title_align="left"))


def run(args: Namespace) -> int:
    """Draw a sample and prompt for the labels that its file lacks."""
    _, results = grid_of(args)
    label_rows(console(), draw(decision_rows(results), args.n, args.seed), labels_file(args))
    return 0


def labels_file(args: Namespace) -> Path:
    """Return the file of a grid's labels."""
    return args.labels or Path("labels") / f"{args.grid}.jsonl"

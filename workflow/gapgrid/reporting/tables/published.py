"""Numbers that others have published, compared with ours, in per cent and percentage points."""

from collections.abc import Sequence

from gapgrid.core.cells import AVERAGE
from gapgrid.core.records import Row
from gapgrid.core.spec_types import TableSpec

KEYS = ("model", "mix", "minus", "benchmark")
OURS = ("ours", "low", "high", "difference", "inside")
COLUMNS = (*KEYS, "published", *OURS, "source", "note")


def compare(spec: TableSpec, estimates: Sequence[Row]) -> list[Row]:
    """Return a row per published number about the experiment's cells.

    `inside` says whether it lies in our interval; our columns are None where ours is missing.
    """
    known = {
        (row["model"], row["mix"], row["minus"] or "", row["benchmark"]): row
        for row in estimates
        if row["quantity"] in ("accuracy", "gap")
    }
    compared = []
    for entry in in_reading_order(spec):
        score, about = entry["score"], {key: entry[key] for key in (*KEYS, "source", "note")}
        row: Row = {**about, "published": score, **dict.fromkeys(OURS)}
        ours = known.get((row["model"], row["mix"], row["minus"], row["benchmark"]), {})
        if ours.get("estimate") is not None:
            value, low, high = (100 * ours[key] for key in ("estimate", "low", "high"))
            numbers = (value, low, high, value - score, low <= score <= high)
            row |= dict(zip(OURS, numbers, strict=True))
        compared.append(row)
    return compared


def in_reading_order(spec: TableSpec) -> list[Row]:
    """Return the published rows by student, accuracies before gaps, mix and benchmark."""
    order = {kind: [name for name, _ in entries] for kind, entries in spec["shown"].items()}
    benchmarks = [*order["benchmarks"], AVERAGE]

    def key(entry: Row) -> tuple[int, bool, int, int]:
        model, mix = order["models"].index(entry["model"]), order["mixes"].index(entry["mix"])
        return model, bool(entry["minus"]), mix, benchmarks.index(entry["benchmark"])

    return sorted(spec["reference"], key=key)

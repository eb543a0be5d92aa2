"""Numbers that others have published, beside ours: difference, and whether theirs lies inside our interval. In per cent and points."""

from collections.abc import Sequence

from gapgrid.records import Row

COLUMNS = ("model", "mix", "minus", "benchmark", "published", "ours", "low", "high", "difference", "inside", "source", "note")


def beside(spec: Row, estimates: Sequence[Row]) -> list[Row]:
    """A row for each published number about the experiment's cells; ours is empty where it is missing."""
    known = {}
    for row in estimates:
        if row["quantity"] in ("accuracy", "gap"):
            known[row["model"], row["mix"], row["minus"] or "", row["benchmark"]] = row
    found = []
    for entry in in_reading_order(spec):
        ours = known.get((entry["model"], entry["mix"], entry["minus"], entry["benchmark"]), {})
        values: Row = dict.fromkeys(("ours", "low", "high", "difference", "inside"))
        if ours.get("estimate") is not None:
            values = {"ours": 100 * ours["estimate"], "low": 100 * ours["low"], "high": 100 * ours["high"]}
            values["difference"] = values["ours"] - entry["score"]
            values["inside"] = values["low"] <= entry["score"] <= values["high"]
        about = {key: entry[key] for key in ("model", "mix", "minus", "benchmark")}
        found.append({**about, "published": entry["score"], **values, "source": entry["source"], "note": entry["note"]})
    return found


def in_reading_order(spec: Row) -> list[Row]:
    """Published rows as the table is read: students, then training sets, then benchmarks, the average last."""
    order = {kind: [name for name, _ in entries] for kind, entries in spec["shown"].items()}

    def place(entry: Row) -> tuple[int, bool, int, int]:
        benchmarks = [*order["benchmarks"], "average"]
        return (
            order["models"].index(entry["model"]),
            bool(entry["minus"]),
            order["mixes"].index(entry["mix"]),
            benchmarks.index(entry["benchmark"]),
        )

    return sorted(spec["reference"], key=place)

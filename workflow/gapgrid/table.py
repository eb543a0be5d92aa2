"""Stage `table`: an experiment's score rows, and its accuracies and gaps with intervals."""

from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gapgrid import gaps, manifest, statistics
from gapgrid.command import run_stage, stage_parser
from gapgrid.records import InputError, fail_if, read_json, read_jsonl, sha256_file, write_text

CELL = ["model", "mix", "seed", "benchmark"]
Verdicts = dict[tuple[str, str, int, str], pd.Series]


def read_scores(files: list[Path]) -> pd.DataFrame:
    """Score rows, one a cell, sorted by coordinates."""
    return pd.DataFrame([read_json(file) for file in files]).sort_values(CELL, ignore_index=True)


def read_outcomes(files: list[Path]) -> Verdicts:
    """Cell -> outcome per question: the share of its repeats that are right, NaN if none has a verdict."""
    outcomes: Verdicts = {}
    for file in files:
        score = read_json(file)
        verdicts = pd.DataFrame(read_jsonl(file.with_name("verdicts.jsonl")))
        right = verdicts["verdict"].map(lambda verdict: np.nan if verdict == "unparsed" else float(verdict == "correct"))
        outcomes[tuple(score[key] for key in CELL)] = right.groupby(verdicts["doc_id"]).mean()
    return outcomes


def stacked(outcomes: Verdicts, model: str, mix: str, seeds: list[int], benchmark: str) -> statistics.Outcomes:
    """Seeds x questions of one student, mix and benchmark. A student with one untouched state has it for each seed."""
    rows = []
    for seed in seeds:
        cell = (model, mix, seed, benchmark)
        if cell not in outcomes and mix == "none":
            cell = (model, mix, 0, benchmark)
        if cell not in outcomes:
            raise InputError(f"table: no score of {'/'.join(map(str, cell))}")
        rows.append(outcomes[cell].to_numpy(dtype=float))
    return np.vstack(rows)


def layout(cells: list[list[Any]]) -> tuple[list[str], list[str], list[int], list[str]]:
    """Models, mixes, seeds and benchmarks of a list of cells, each sorted."""
    models, mixes, seeds, benchmarks = ({cell[i] for cell in cells} for i in range(4))
    trained = {cell[2] for cell in cells if cell[1] != "none"} or seeds
    return sorted(models), sorted(mixes), sorted(trained), sorted(benchmarks)


def estimate_rows(spec: dict[str, Any], outcomes: Verdicts) -> Iterator[dict[str, Any]]:
    """Tidy rows: every accuracy, then the contrast's gaps, per benchmark and as their average; a gap with what its sign is worth.

    `p` is of no gap; `p_holm` is corrected for the gaps of all students on that benchmark; `settled` says whether the sign is.
    """
    fail_if([f"table: no score of {'/'.join(map(str, cell))}" for cell in spec["cells"] if tuple(cell) not in outcomes])
    models, mixes, seeds, benchmarks = layout(spec["cells"])
    options, contrast = spec["statistics"], spec.get("contrast")
    shown: list[tuple[str, list[str], list[float]]] = [("accuracy", [mix], [1.0]) for mix in mixes]
    if contrast:
        shown.append(("gap", contrast, [1.0, -1.0]))
    asked = [(model, *one) for model in models for one in shown]
    contrasts = [
        statistics.Contrast({name: [stacked(outcomes, model, mix, seeds, name) for mix in sides] for name in benchmarks}, weights, model)
        for model, _, sides, weights in asked
    ]
    found = statistics.resample(contrasts, options["resamples"], options["seed"])
    signs = _signs([one for one in found if one.gap], options["confidence"])
    for (model, quantity, sides, _), one in zip(asked, found, strict=True):
        for benchmark, value in one.values.items():
            low, high = statistics.interval(one, benchmark, options["confidence"])
            sign = next(signs[benchmark])._asdict() if one.gap else {}
            yield {
                "quantity": quantity,
                "model": model,
                **spec["models"][model],
                "mix": sides[0],
                "minus": sides[1] if len(sides) > 1 else None,
                "benchmark": benchmark,
                "estimate": value,
                "low": low,
                "high": high,
                "p": sign.get("p"),
                "p_holm": sign.get("p_holm"),
                "settled": sign.get("is_settled"),
                "n_questions": one.n[benchmark],
                "n_seeds": len(seeds),
            }


def _signs(found: list[statistics.Resampled], confidence: float) -> dict[str, Iterator[gaps.Settled]]:
    """By benchmark, each gap's p-values in the students' order."""
    names = found[0].values if found else ()
    return {name: iter(gaps.settle(found, name, confidence)) for name in names}


def guess_rows(scores: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Accuracy of the best constant guess per benchmark and on average."""
    known = scores.groupby("benchmark").agg(guess=("acc_best_guess", "first"), n=("n_problems", "first"))
    for benchmark, row in known.iterrows():
        yield {"quantity": "best_guess", "benchmark": benchmark, "estimate": row["guess"], "n_questions": int(row["n"])}
    total = {"estimate": known["guess"].mean(), "n_questions": int(known["n"].sum())}
    yield {"quantity": "best_guess", "benchmark": "average", **total}


def work(args: Namespace) -> None:
    """Read the cells' scores, write both tables and the manifest."""
    scores = read_scores(args.scores)
    rows = [*estimate_rows(args.spec, read_outcomes(args.scores)), *guess_rows(scores)]
    write_text(args.table, scores.to_csv(index=False, lineterminator="\n"))
    estimates = pd.DataFrame(rows).astype({"n_questions": "Int64", "n_seeds": "Int64"})
    write_text(args.estimates, estimates.to_csv(index=False, lineterminator="\n", float_format="%.9g"))
    inputs = {"/".join(file.parts[-5:-1]): sha256_file(file) for file in args.scores}
    manifest.write(args.manifest, "table", args.spec, inputs, [args.table.name, args.estimates.name])


def main(argv: list[str] | None = None) -> int:
    """`python -m gapgrid.table --spec … TABLE ESTIMATES MANIFEST SCORES…`."""
    parser = stage_parser("table", __doc__)
    for name in ("table", "estimates", "manifest"):
        parser.add_argument(name, type=Path)
    parser.add_argument("scores", type=Path, nargs="+")
    return run_stage(parser, work, argv)


if __name__ == "__main__":
    raise SystemExit(main())

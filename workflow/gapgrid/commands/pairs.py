"""`gapgrid pairs`: grade a file of pairs by rules, without a grid."""

import json
from argparse import Namespace

from gapgrid.core.records import read_jsonl
from gapgrid.grading.pairs import counts, grade_pairs


def run(args: Namespace) -> int:
    """Print a JSON line for each pair, then one with the counts."""
    rows = read_jsonl(args.pairs)
    graded = grade_pairs(rows)
    for row, (decision, seconds) in zip(rows, graded, strict=True):
        line = {
            "id": row.get("id"),
            "correct": decision.is_correct,
            "rule": decision.rule,
            "rejected_by": decision.rejected_by,
            "seconds": round(seconds, 6),
        }
        print(json.dumps(line))
    print(json.dumps({"counts": counts(rows, [decision for decision, _ in graded])}))
    return 0

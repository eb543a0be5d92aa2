"""Stage `selftest`: the grader on a benchmark's own reference answers, before anything is trained.

Each of them, boxed as a model would box it, must be accepted, and none may be accepted for another problem's.
"""

import re
from argparse import Namespace
from fractions import Fraction
from pathlib import Path
from typing import Any

from gapgrid import manifest
from gapgrid.command import run_stage, stage_parser
from gapgrid.grading import grade, reference
from gapgrid.maths.symbolic import Verifier
from gapgrid.records import Row, fail_if, read_jsonl, sha256_file

# What may be left out of an answer without changing it: spaces, degrees, percent signs, units, the variable's name.
_TRIMMINGS = re.compile(r"\s|\$|\\[!,;%$]|%|\^\{?\\circ\}?|\\degree|\\(?:text|mbox|mathrm)\{[^{}]*\}|^[a-zA-Z]=")
_THOUSANDS = re.compile(r"(?<=\d)(?:,|\{,\})(?=\d{3}(?!\d))")
_FRACTION = re.compile(r"(?<!\d)\\[dt]?frac(?:\{(\d+)\}|(\d))(?:\{(\d+)\}|(\d))")


def boxed(problems: list[Row], shift: int) -> list[Row]:
    """One answer a problem as `grade` takes them: the reference answer of the problem `shift` places on, in a box."""
    golds = [reference(row["gold"]) for row in problems]
    moved = golds[shift:] + golds[:shift]
    return [
        {"doc_id": row["doc_id"], "repeat": 0, "problem": row["problem"], "gold": row["gold"], "response": f"\\boxed{{{answer}}}"}
        for row, answer in zip(problems, moved, strict=True)
    ]


def check(problems: list[Row], grader: str, verifier: Verifier) -> tuple[dict[str, int], list[str]]:
    """Counts, and one line per reference answer that is not accepted or that is accepted for another problem's."""
    items = {row["doc_id"]: row for row in problems}
    own = grade(boxed(problems, 0), grader, verifier, items)
    other = grade(boxed(problems, 1), grader, verifier, items) if len(problems) > 1 else []
    refused = [row for row in own if not row["rule_correct"]]
    same = [row for row in other if row["rule_correct"] and _same_value(row["answer"], row["gold"])]
    taken = [row for row in other if row["rule_correct"] and row not in same]
    wrong = [f"{row['doc_id']}: its own reference {row['gold']!r:.100} is not accepted ({row['rule']})" for row in refused]
    wrong += [f"{row['doc_id']}: {row['answer']!r:.100} is accepted for {row['gold']!r:.100} ({row['rule']})" for row in taken]
    counts = {"n": len(own), "n_accepted": len(own) - len(refused), "n_shuffled": len(other), "n_same_value": len(same)}
    return {**counts, "n_shuffled_accepted": len(taken)}, wrong


def _same_value(one: str, other: str) -> bool:
    """Whether two references may well be the same, so that taking one for the other is no mistake: 120 and 120 degrees, 0.5 and 1/2.

    Known without the grader, which is what is tested.
    """
    return not _readings(one).isdisjoint(_readings(other))


def _readings(text: str) -> set[Any]:
    """What a reference may mean: its spelling, its parts in any order, its number, the same as a share if it has a percent sign."""
    trimmed = _FRACTION.sub(_as_ratio, _TRIMMINGS.sub("", text) or text)
    found: set[Any] = {trimmed, tuple(sorted(trimmed.split(",")))}
    try:
        number = Fraction(_THOUSANDS.sub("", trimmed))
    except (ValueError, ZeroDivisionError):
        return found
    return found | {number} | ({number / 100} if "%" in text else set())


def _as_ratio(found: re.Match[str]) -> str:
    return f"{found[1] or found[2]}/{found[3] or found[4]}"


def work(args: Namespace) -> None:
    """Test, and write the manifest if the grader passes."""
    problems = read_jsonl(args.problems)
    with Verifier() as verifier:
        counts, wrong = check(problems, args.spec["grader"], verifier)
    name = args.problems.parent.name
    if wrong:
        ids = ", ".join(line.split(":", 1)[0] for line in wrong)
        fail_if([f"{args.problems}: the grader fails on {name}, doc_id {ids}", *wrong])
    manifest.write(args.manifest, "selftest", args.spec, {"problems": sha256_file(args.problems)}, [], facts=counts)


def main(argv: list[str] | None = None) -> int:
    """`python -m gapgrid.selftest --spec … PROBLEMS MANIFEST`."""
    parser = stage_parser("selftest", __doc__)
    parser.add_argument("problems", type=Path)
    parser.add_argument("manifest", type=Path)
    return run_stage(parser, work, argv)


if __name__ == "__main__":
    raise SystemExit(main())

"""Stage `selftest`: the grader on a benchmark's own reference answers, before anything is trained.

Each reference answer, boxed as a model would box it, must be accepted for its own problem, and none
may be accepted for another problem.
"""

import re
from argparse import Namespace
from fractions import Fraction
from pathlib import Path
from typing import Any

from gapgrid.core import manifest
from gapgrid.core.records import fail_if, read_jsonl, sha256_file
from gapgrid.core.rows import ProblemRow, ResponseRow
from gapgrid.core.spec_types import SelftestSpec
from gapgrid.core.stage_cli import run_stage, stage_parser
from gapgrid.grading.equality.math_verify_pool import Verifier
from gapgrid.grading.rule_step import grade, reference

# What may be left out of an answer without changing it: spaces, degrees, percent signs, units, the
# variable's name.
_OPTIONAL = re.compile(
    r"\s|\$|\\[!,;%$]|%|\^\{?\\circ\}?|\\degree|\\(?:text|mbox|mathrm)\{[^{}]*\}|^[a-zA-Z]="
)
_THOUSANDS = re.compile(r"(?<=\d)(?:,|\{,\})(?=\d{3}(?!\d))")
_FRACTION = re.compile(r"(?<!\d)\\[dt]?frac(?:\{(\d+)\}|(\d))(?:\{(\d+)\}|(\d))")


def boxed(problems: list[ProblemRow], shift: int) -> list[ResponseRow]:
    """Return one sample per problem, answered with the reference of the problem `shift` rows on."""
    references = [reference(row["gold"]) for row in problems]
    return [
        {
            "doc_id": row["doc_id"],
            "repeat": 0,
            "problem": row["problem"],
            "gold": row["gold"],
            "response": f"\\boxed{{{answer}}}",
        }
        for row, answer in zip(problems, references[shift:] + references[:shift], strict=True)
    ]


def check(
    problems: list[ProblemRow], grader: str, verifier: Verifier
) -> tuple[dict[str, int], list[str]]:
    """Return counts, and one line per mistake of the grader.

    A mistake is a reference answer that is refused for its own problem, or accepted for another
    one whose reference has another value.
    """
    items = {row["doc_id"]: row for row in problems}
    own = grade(boxed(problems, 0), grader, verifier, items)
    other = grade(boxed(problems, 1), grader, verifier, items) if len(problems) > 1 else []
    refused = [row for row in own if not row["rule_correct"]]
    accepted = [row for row in other if row["rule_correct"]]
    wrong = [row for row in accepted if not _same_value(str(row["answer"]), row["gold"])]
    counts = {
        "n": len(own),
        "n_accepted": len(own) - len(refused),
        "n_shuffled": len(other),
        "n_same_value": len(accepted) - len(wrong),
        "n_shuffled_accepted": len(wrong),
    }
    mistakes = [
        f"{row['doc_id']}: its own reference {row['gold']!r:.100} is not accepted ({row['rule']})"
        for row in refused
    ]
    mistakes += [
        f"{row['doc_id']}: {row['answer']!r:.100} is accepted for {row['gold']!r:.100}"
        f" ({row['rule']})"
        for row in wrong
    ]
    return counts, mistakes


def _same_value(first: str, second: str) -> bool:
    """Return whether two references may have the same value: 120 and 120 degrees, 0.5 and 1/2.

    It does without the grader, which is what is tested.
    """
    return not _readings(first).isdisjoint(_readings(second))


def _readings(text: str) -> set[Any]:
    """Return what a reference may mean.

    That is its spelling, its parts in any order, its number, and with a percent sign a hundredth
    of that.
    """
    trimmed = _FRACTION.sub(_as_ratio, _OPTIONAL.sub("", text) or text)
    readings: set[Any] = {trimmed, tuple(sorted(trimmed.split(",")))}
    try:
        number = Fraction(_THOUSANDS.sub("", trimmed))
    except (ValueError, ZeroDivisionError):
        return readings
    return readings | {number} | ({number / 100} if "%" in text else set())


def _as_ratio(match: re.Match[str]) -> str:
    return f"{match[1] or match[2]}/{match[3] or match[4]}"


def work(args: Namespace) -> None:
    """Test the grader; write the manifest if it makes no mistake."""
    spec: SelftestSpec = args.spec
    with Verifier() as verifier:
        counts, mistakes = check(read_jsonl(args.problems), spec["grader"], verifier)
    if mistakes:
        benchmark = args.problems.parent.name
        ids = ", ".join(line.split(":", 1)[0] for line in mistakes)
        fail_if([f"{args.problems}: the grader fails on {benchmark}, doc_id {ids}", *mistakes])
    inputs = {"problems": sha256_file(args.problems)}
    manifest.write(args.manifest, "selftest", spec, inputs, [], facts=counts)


def main(argv: list[str] | None = None) -> int:
    """Run `python -m gapgrid.stages.selftest --spec … PROBLEMS MANIFEST`."""
    parser = stage_parser("selftest", __doc__)
    for name in ("problems", "manifest"):
        parser.add_argument(name, type=Path)
    return run_stage(parser, work, argv)


if __name__ == "__main__":
    raise SystemExit(main())

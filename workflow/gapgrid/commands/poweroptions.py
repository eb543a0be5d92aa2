"""The options of `gapgrid power`; apart from `planner`, which loads what it reckons with."""

from argparse import ArgumentParser


def add(parser: ArgumentParser) -> None:
    """Add them; their names are the fields of `planner.Wanted`."""
    asked = parser.add_argument_group("what is to be seen")
    asked.add_argument("--gap", type=float, default=3.0, metavar="POINTS", help="the gap to be seen, in percentage points (default 3)")
    asked.add_argument("--contrast", nargs=2, metavar="MIX", help="two mixes, first minus second (default: the first experiment's)")
    asked.add_argument("--benchmark", default="average", help="one benchmark (default: the mean of the experiment's)")
    asked.add_argument("--models", nargs="+", metavar="MODEL", help="students to learn from (default: all that are scored)")
    asked.add_argument("--power", type=float, default=0.8, help="the chance of seeing it that is wanted (default 0.8)")
    asked.add_argument("--alpha", type=float, default=0.05, help="level of the two-sided test (default 0.05)")
    plan = parser.add_argument_group("the plan, where it is not the grid's")
    plan.add_argument("--repeats", type=int, metavar="K", help="answers to each question")
    plan.add_argument("--n-seeds", type=int, metavar="S", help="training seeds, how many")
    plan.add_argument("--n-questions", type=int, metavar="N", help="questions, of all benchmarks together")
    rates = parser.add_argument_group("declared instead of measured")
    rates.add_argument("--flip-rate", type=float, metavar="SHARE", help="questions on which single answers differ in being right")
    rates.add_argument("--seed-sd", type=float, default=0.0, metavar="POINTS", help="the gap's spread between seeds (default 0)")
    rates.add_argument("--within", type=float, default=0.0, metavar="SHARE", help="what repeats wear down of the rest (default 0)")

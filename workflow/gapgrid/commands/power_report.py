"""The output of `gapgrid power`: a plan, what each doubling changes, what remains unknown."""

import math
from collections.abc import Mapping

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from gapgrid.stats import power
from gapgrid.stats.power import Components, Design

MOST = {"repeats": power.MOST_REPEATS, "seeds": power.MOST_SEEDS, "questions": power.MOST_QUESTIONS}


def benchmark_table(
    labels: Mapping[str, str],
    rows: Mapping[str, int],
    repeats: Mapping[str, int],
    flips: Mapping[str, float],
    parts: Mapping[str, Components],
) -> Table:
    """Return a row per benchmark: its size, how often the two sides differ, its part of the noise.

    The last column is its share of the variance that questions add to the gap.
    """
    noise = {
        name: (part.questions + part.interaction + part.answers) / rows[name]
        for name, part in parts.items()
    }
    total = sum(noise.values()) or 1.0
    result = Table("benchmark")
    for column in ("questions", "repeats", "flip rate", "share of the questions' variance"):
        result.add_column(column, justify="right")
    for name, text in labels.items():
        counts = f"{rows[name]:,}", str(repeats[name])
        result.add_row(escape(text), *counts, f"{flips[name]:.0%}", f"{noise[name] / total:.0%}")
    return result


def report(
    console: Console,
    title: str,
    parts: Components,
    design: Design,
    gap: float,
    wanted: float,
    alpha: float,
) -> power.Plan:
    """Print and return the plan for a gap (a share), with doublings and the variance's parts."""
    plan = power.plan(parts, design, gap, wanted, alpha)
    points = f"{100 * abs(gap):.1f} points"
    lines = [
        title,
        f"Plan: {_counted(design)}: {2 * math.prod(design):,} answers of the two students.",
        f"A gap of {points} is detected with {plan.power:.0%} power, "
        f"a gap of {100 * plan.detectable:.1f} points with {wanted:.0%}.",
        f"To detect {points} with {wanted:.0%} power, changing one thing alone:",
    ]
    for kind in power.KINDS:
        least = _least(kind, getattr(plan, kind), parts, design)
        lines.append(f"  {kind + ':':<11}{least}")
    console.print("\n".join(lines), markup=False, highlight=False)
    console.print(_doublings(parts, design, gap, wanted, alpha))
    console.print("\n".join(_remarks(parts, design)), markup=False, highlight=False)
    return plan


def _counted(design: Design) -> str:
    counts = [
        (design.questions, "question", "questions"),
        (design.repeats, "answer to each", "answers to each"),
        (design.seeds, "training seed", "training seeds"),
    ]
    return ", ".join(f"{n:,} {singular if n == 1 else plural}" for n, singular, plural in counts)


def _least(kind: str, least: int | None, parts: Components, design: Design) -> str:
    if least is not None:
        return f"{least:,}" + (" (as planned or fewer)" if least <= getattr(design, kind) else "")
    if kind == "repeats" and not parts.is_split:
        return "not known, as one answer to each question does not show what another would be"
    return f"even {MOST[kind]:,} are not enough"


def _doublings(parts: Components, design: Design, gap: float, wanted: float, alpha: float) -> Table:
    title = f"The effect of each doubling (two-sided test at {alpha:g})"
    result = Table("", title=title, title_justify="left")
    detected = f"gap detected\nat {wanted:.0%} (points)"
    power_now = f"power for\n{100 * abs(gap):.1f} points"
    for column in ("questions", "repeats", "seeds", "answers", detected, power_now):
        result.add_column(column, justify="right")
    for step in power.doublings(parts, design, gap, wanted, alpha):
        counts = [f"{count:,}" for count in (*step.design, step.answers)]
        result.add_row(step.what, *counts, f"{100 * step.detectable:.1f}", f"{step.power:.0%}")
    return result


def _remarks(parts: Components, design: Design) -> list[str]:
    """Return what the variance consists of, and what the data cannot show."""
    n_answers = design.seeds * design.questions
    variances = {
        "training seeds": parts.seeds / design.seeds,
        "questions": parts.questions / design.questions,
        "seeds by question": parts.interaction / n_answers,
        "single answers": parts.answers / (design.repeats * n_answers),
    }
    total = sum(variances.values()) or 1.0
    shares = ", ".join(f"{name} {value / total:.0%}" for name, value in variances.items())
    lines = [f"The gap's variance: {shares}."]
    if not parts.is_split:
        lines.append(
            "One answer to each question: its noise is counted in the other parts, so the effect "
            "of more repeats is not known."
        )
    if design.seeds == 1:
        lines.append(
            "One training seed: a gap that is detected is one of these two trained students. With "
            "more seeds the question is whether other seeds show it too, which is harder: power "
            "may fall at first."
        )
    if parts.seeds == 0:
        lines.append(
            "No variance between training seeds was measured or given: the effect of more seeds "
            "is known only if it was measured."
        )
    return lines

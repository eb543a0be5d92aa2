"""bars: heights, arrows and partners are those of the estimates, and show which are significant."""

from typing import Any

import pandas as pd
import pytest
from matplotlib.axes import Axes

from gapgrid.reporting.plots import bars, style
from gapgrid.reporting.plots.style import Drawn
from tests.unit import pictures
from tests.unit.pictures import DEMO, PAPER, Missing, spec_of

drawing_style = pictures.drawing_style


def teaser(missing: frozenset[Missing] = frozenset()) -> tuple[Drawn, pd.DataFrame]:
    """The miniature's bars, and the estimates behind them."""
    table = pictures.estimates(DEMO, "teaser", missing)
    return bars.bars(table, spec_of(DEMO, "teaser")), table


def partners(experiment: str, **changes: Any) -> tuple[Drawn, pd.DataFrame]:
    """An experiment of the paper's partners, and the estimates behind it."""
    table = pictures.estimates(PAPER, experiment).assign(**changes)
    return bars.pairs(table, spec_of(PAPER, experiment)), table


def averages(table: pd.DataFrame, quantity: str, *keys: str) -> pd.DataFrame:
    """The averages of a quantity by these columns."""
    rows = table[(table["quantity"] == quantity) & (table["benchmark"] == "average")]
    return rows.set_index(list(keys) if len(keys) > 1 else keys[0])


def bar_heights(axes: Axes) -> list[float]:
    """Heights from left to right."""
    patches: list[Any] = list(axes.patches)
    return [bar.get_height() for bar in sorted(patches, key=lambda bar: bar.get_x())]


def texts(axes: Axes) -> list[str]:
    """Texts in a panel."""
    return [text.get_text() for text in axes.texts if text.get_text()]


def tick_labels(drawn: Drawn) -> list[str]:
    """The names below the bars."""
    return [label.get_text() for label in drawn.figure.axes[0].get_xticklabels()]


def test_a_bar_for_each_training_set_of_each_student() -> None:
    drawn, table = teaser()
    assert [axes.get_title() for axes in drawn.figure.axes] == ["7k", "451k"]
    rows = averages(table, "accuracy", "model", "mix")["estimate"]
    for model, axes in zip(("xs", "l"), drawn.figure.axes, strict=True):
        expected = [100 * rows[model, mix] for mix in ("short", "mix-long", "long")]
        assert bar_heights(axes) == pytest.approx(expected)
        assert texts(axes)[:3] == [f"{value:.1f}" for value in expected]
        assert axes.get_ylim()[0] == 0


def test_the_gap_is_an_arrow_with_its_number_grey_where_not_significant() -> None:
    drawn, table = teaser()
    gaps = averages(table, "gap", "model")
    looks = [("xs", "", "black"), ("l", "\nsign not significant", style.GREY)]
    for (model, suffix, colour), axes in zip(looks, drawn.figure.axes, strict=True):
        value, low, high = (100 * gaps.loc[model, key] for key in ("estimate", "low", "high"))
        number = f"{value:+.1f} [{low:+.1f}, {high:+.1f}]".replace("-", "−")
        assert axes.texts[-1].get_text() == number + suffix
        assert axes.texts[-1].get_color() == colour
        (arrow,) = [text for text in axes.texts if getattr(text, "arrow_patch", None)]
        # From short, the contrast's second side, to long; above all bars and intervals.
        assert (arrow.xyann[0], arrow.xy[0]) == (0, 2)
        assert arrow.xy[1] > 100 * table[table["benchmark"] == "average"]["high"].max()
    assert list(drawn.points["unit"]) == ["%"] * 6 + ["points"] * 2
    assert list(drawn.points["series"])[-1] == "long CoT − short CoT"


def test_a_bar_that_is_not_built_says_so() -> None:
    drawn, _ = teaser(frozenset({("xs", "long")}))
    axes = drawn.figure.axes[0]
    assert len(bar_heights(axes)) == 2 and "no score" in texts(axes)
    assert drawn.missing == ["7k long CoT"]
    # There is no gap without both sides.
    assert not any("[" in text for text in texts(axes)) and len(drawn.points) == 6


def test_students_of_several_families_are_told_apart_and_a_single_one_is_named() -> None:
    drawn = bars.bars(pictures.estimates(PAPER, "table3"), spec_of(PAPER, "table3"))
    assert [axes.get_title() for axes in drawn.figure.axes] == ["Qwen2.5, 3B", "Llama-3, 3B"]
    entry = {**DEMO["experiments"]["teaser"], "models": ["s"]}
    grid = {**DEMO, "experiments": {"single": entry}}
    drawn = bars.bars(pictures.estimates(grid, "single"), spec_of(grid, "single"))
    assert drawn.figure.axes[0].get_title() == "26k"


def test_the_untouched_student_moves_no_colour() -> None:
    looks = style.look_of_mixes([["none", "untouched"], ["a", "A"], ["b", "B"]])
    assert looks["a"] == style.look_of_mixes([["a", "A"], ["b", "B"]])["a"] == 0
    assert len(set(looks.values())) == 3


# ---- partners ----


def test_partners_stand_side_by_side() -> None:
    drawn, table = partners("figure5-long")
    rows = averages(table, "gap", "model")["estimate"]
    sizes = ["0.5B", "1.5B", "3B", "7B", "14B", "32B"]
    models = [f"qwen2.5-{size.lower()}{base}" for size in sizes for base in ("", "-base")]
    expected = [100 * rows[model] for model in models]
    assert bar_heights(drawn.figure.axes[0]) == pytest.approx(expected)
    assert tick_labels(drawn) == sizes
    assert [handle.get_label() for handle in drawn.handles][:2] == ["instruct", "base"]
    assert set(drawn.points["series"]) == {"instruct", "base"}


def test_partners_of_one_size_are_told_apart_by_family() -> None:
    drawn, _ = partners("figure4-long")
    assert tick_labels(drawn) == ["1.5B\nQwen2.5", "1.5B\nQwen2.5 base"]
    assert list(drawn.points["x"]) == ["1.5B Qwen2.5", "1.5B Qwen2.5 base"] * 2


def test_partners_whose_sign_is_not_significant_are_pale_and_dashed() -> None:
    drawn, _ = partners("figure5-long")
    dashed = [bar.get_linestyle() == "--" for bar in drawn.figure.axes[0].patches]
    assert dashed == [not style.is_significant(flag) for flag in drawn.points["settled"]]
    assert drawn.handles[-1].get_label() == "pale, dashed: sign not significant"
    significant, _ = partners("figure5-long", settled=True)
    assert [handle.get_label() for handle in significant.handles] == ["instruct", "base"]


def test_a_partner_that_is_not_built_says_so() -> None:
    table = pictures.estimates(PAPER, "figure5-long", {("qwen2.5-3b-base", "long")})
    drawn = bars.pairs(table, spec_of(PAPER, "figure5-long"))
    assert texts(drawn.figure.axes[0]) == ["no score"]
    assert drawn.missing == ["base 3B"]

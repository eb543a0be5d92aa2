"""bars: heights, arrows and partners are those of the estimates; what is not settled is grey, what is not built says so."""

import json

import pytest
from matplotlib.axes import Axes

from gapgrid import grid
from gapgrid.plots import bars, drawing
from tests.unit import pictures
from tests.unit.pictures import GRIDS, spec_of

closed = pictures.closed


def bar_heights(axes: Axes) -> list[float]:
    """Heights from left to right."""
    return [bar.get_height() for bar in sorted(axes.patches, key=lambda bar: bar.get_x())]  # type: ignore[attr-defined]


def words(axes: Axes) -> list[str]:
    """Texts in a panel."""
    return [text.get_text() for text in axes.texts if text.get_text()]


def test_a_bar_for_each_training_set_of_each_student() -> None:
    table = pictures.estimates(GRIDS["demo"], "teaser")
    drawn = bars.bars(table, spec_of("demo", "teaser"))
    assert [axes.get_title() for axes in drawn.figure.axes] == ["7k", "451k"]
    rows = table[(table["quantity"] == "accuracy") & (table["benchmark"] == "average")].set_index(["model", "mix"])["estimate"]
    for model, axes in zip(("xs", "l"), drawn.figure.axes, strict=True):
        wanted = [100 * rows[model, mix] for mix in ("short", "mix-long", "long")]
        assert bar_heights(axes) == pytest.approx(wanted)
        assert words(axes)[:3] == [f"{value:.1f}" for value in wanted]
        assert axes.get_ylim()[0] == 0


def test_the_gap_is_an_arrow_with_its_number_grey_where_open() -> None:
    table = pictures.estimates(GRIDS["demo"], "teaser")
    drawn = bars.bars(table, spec_of("demo", "teaser"))
    gaps = table[(table["quantity"] == "gap") & (table["benchmark"] == "average")].set_index("model")
    for model, axes, is_settled in zip(("xs", "l"), drawn.figure.axes, (True, False), strict=True):
        number = axes.texts[-1]
        value, low, high = (100 * gaps.loc[model, key] for key in ("estimate", "low", "high"))
        said = f"{value:+.1f} [{low:+.1f}, {high:+.1f}]".replace("-", "−")
        assert number.get_text() == said + ("" if is_settled else "\nsign not settled")
        assert number.get_color() == ("black" if is_settled else drawing.GREY)
        (arrow,) = [text for text in axes.texts if getattr(text, "arrow_patch", None)]
        assert (arrow.xyann[0], arrow.xy[0]) == (0, 2)  # from short, the contrast's second side, to long
        # Above all bars and intervals.
        assert arrow.xy[1] > 100 * table[table["benchmark"] == "average"]["high"].max()  # type: ignore[attr-defined]
    assert list(drawn.points["unit"]) == ["%"] * 6 + ["points"] * 2
    assert list(drawn.points["series"])[-1] == "long CoT − short CoT"


def test_a_bar_that_is_not_built_says_so() -> None:
    table = pictures.estimates(GRIDS["demo"], "teaser", {("xs", "long")})
    drawn = bars.bars(table, spec_of("demo", "teaser"))
    assert len(bar_heights(drawn.figure.axes[0])) == 2 and "not built" in words(drawn.figure.axes[0])
    assert drawn.missing == ["7k long CoT"]
    assert not [text for text in words(drawn.figure.axes[0]) if "[" in text]  # no gap without both sides
    assert len(drawn.points) == 6


def test_students_of_several_families_are_told_apart() -> None:
    drawn = bars.bars(pictures.estimates(GRIDS["paper"], "table3"), spec_of("paper", "table3"))
    assert [axes.get_title() for axes in drawn.figure.axes] == ["Qwen2.5, 3B", "Llama-3, 3B"]


def test_a_single_student_has_its_name_too() -> None:
    of = {**GRIDS["demo"], "experiments": {"one": {**GRIDS["demo"]["experiments"]["teaser"], "models": ["s"]}}}
    drawn = bars.bars(pictures.estimates(of, "one"), json.loads(grid.figure_spec(of, "one")))
    assert drawn.figure.axes[0].get_title() == "26k"


def test_the_untouched_student_moves_no_colour() -> None:
    looks = drawing.looks([["none", "untouched"], ["a", "A"], ["b", "B"]])
    assert looks["a"] == drawing.looks([["a", "A"], ["b", "B"]])["a"] == 0
    assert len(set(looks.values())) == 3


# ---- partners ----


def test_partners_stand_side_by_side() -> None:
    table = pictures.estimates(GRIDS["paper"], "figure5-long")
    drawn = bars.pairs(table, spec_of("paper", "figure5-long"))
    (axes,) = drawn.figure.axes
    rows = table[(table["quantity"] == "gap") & (table["benchmark"] == "average")].set_index("model")["estimate"]
    sizes = ("0.5b", "1.5b", "3b", "7b", "14b", "32b")
    assert bar_heights(axes) == pytest.approx([100 * rows[f"qwen2.5-{size}{base}"] for size in sizes for base in ("", "-base")])
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0.5B", "1.5B", "3B", "7B", "14B", "32B"]
    assert [handle.get_label() for handle in bars.legend_of_pairs(spec_of("paper", "figure5-long"), drawn.points)][:2] == [
        "instruct",
        "base",
    ]
    assert set(drawn.points["series"]) == {"instruct", "base"}


def test_partners_of_one_size_are_told_apart_by_family() -> None:
    drawn = bars.pairs(pictures.estimates(GRIDS["paper"], "figure4-long"), spec_of("paper", "figure4-long"))
    labels = [label.get_text() for label in drawn.figure.axes[0].get_xticklabels()]
    assert labels == ["1.5B\nQwen2.5", "1.5B\nQwen2.5 base"]
    assert list(drawn.points["x"]) == ["1.5B Qwen2.5", "1.5B Qwen2.5 base"] * 2


def test_partners_whose_sign_is_open_are_pale_and_dashed() -> None:
    spec = spec_of("paper", "figure5-long")
    table = pictures.estimates(GRIDS["paper"], "figure5-long")
    drawn = bars.pairs(table, spec)
    dashed = [bar.get_linestyle() for bar in drawn.figure.axes[0].patches]
    flags = [drawing.is_settled(flag) for flag in drawn.points["settled"]]
    assert [dash == "--" for dash in dashed] == [not flag for flag in flags]
    assert bars.legend_of_pairs(spec, drawn.points)[-1].get_label() == bars.PALE
    settled = bars.pairs(table.assign(settled=True), spec)
    assert bars.PALE not in [handle.get_label() for handle in bars.legend_of_pairs(spec, settled.points)]


def test_a_partner_that_is_not_built_says_so() -> None:
    table = pictures.estimates(GRIDS["paper"], "figure5-long", {("qwen2.5-3b-base", "long")})
    drawn = bars.pairs(table, spec_of("paper", "figure5-long"))
    assert words(drawn.figure.axes[0]) == ["not built"]
    assert drawn.missing == ["base 3B"]

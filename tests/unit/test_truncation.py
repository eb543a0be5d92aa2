"""truncation: bounds that hold the accuracy, lengths that agree with NumPy, nothing where there is nothing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gapgrid import truncation


def test_truncated_answers_are_bounded_from_both_sides() -> None:
    verdicts = ["correct", "correct", "incorrect", "no_answer", "incorrect", "unparsed", "unparsed", "correct"]
    finish = ["stop", "length", "length", "length", "stop", "stop", "length", "stop"]
    found = truncation.truncation(verdicts, finish, [10, 100, 100, 100, 30, 20, 100, 20])
    assert found.accuracy == 3 / 6
    assert found.cap_hits == 4 / 8
    assert found.finished == 2 / 3
    assert found.no_answer == 1 / 8
    assert (found.low, found.high) == (2 / 6, 5 / 6)
    assert found.right == pytest.approx([130 / 3, *np.quantile([10, 20, 100], truncation.QUARTILES)])
    assert found.wrong == pytest.approx([230 / 3, *np.quantile([30, 100, 100], truncation.QUARTILES)])


def test_a_cell_without_truncation_has_no_slack_and_one_without_answers_no_accuracy() -> None:
    found = truncation.truncation(["correct", "incorrect"], ["stop", "stop"], [1, 2])
    assert found[:6] == (0.5, 0.0, 0.5, 0.0, 0.5, 0.5)
    none = truncation.truncation(["unparsed"], ["stop"], [1])
    assert (none.accuracy, none.finished, none.low) == (None, None, None)
    assert none.right == none.wrong == (None, None, None, None)
    with pytest.raises(ValueError, match="2 verdicts"):
        truncation.truncation(["correct", "correct"], ["stop"], [1])


@given(st.lists(st.tuples(st.sampled_from(["correct", "incorrect", "no_answer", "unparsed"]), st.sampled_from(["stop", "length"]))))
def test_the_bounds_hold_the_accuracy_in_any_order(rows: list[tuple[str, str]]) -> None:
    found = truncation.truncation([row[0] for row in rows], [row[1] for row in rows], range(len(rows)))
    if found.accuracy is not None and found.low is not None and found.high is not None:
        assert found.low <= found.accuracy <= found.high
    turned = truncation.truncation([row[0] for row in rows[::-1]], [row[1] for row in rows[::-1]], range(len(rows))[::-1])
    assert turned == found


@given(st.lists(st.integers(0, 20_000), min_size=1))
def test_quartiles_are_numpys(tokens: list[int]) -> None:
    assert truncation.summarise(tokens) == pytest.approx([np.mean(tokens), *np.quantile(tokens, truncation.QUARTILES)])

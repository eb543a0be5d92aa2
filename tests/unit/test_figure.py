"""figure: every experiment's kind can be drawn, to the same bytes, and shows the numbers that it is given."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from matplotlib import pyplot as plt

from gapgrid import figure, manifest
from gapgrid.records import sha256_file

Runner = Callable[..., int]

MODELS = {"small": 0.5, "big": 7.0, "middle": 1.5}
SHOWN = {
    "models": [[name, name.upper()] for name in MODELS],
    "mixes": [["none", "untouched"], ["short", "short CoT"], ["long", "long CoT"]],
    "benchmarks": [["easy", "two events"], ["hard", "hard"]],
}


def estimates(seeds: int = 1, shift: float = 0.0) -> pd.DataFrame:
    """A table of estimates as the stage `table` writes it."""
    rows: list[dict[str, Any]] = []
    for rank, (model, params) in enumerate(sorted(MODELS.items(), key=lambda item: item[1])):
        common = {"model": model, "family": "f", "params_b": params, "n_seeds": seeds}
        for benchmark, n in (("easy", 100), ("hard", 200), ("average", 300)):
            for place, mix in enumerate(("none", "short", "long")):
                value = 0.1 + 0.2 * place + 0.1 * rank + shift
                row = {"quantity": "accuracy", "mix": mix, "estimate": value, "low": value - 0.05, "high": value + 0.1}
                rows.append({**common, **row, "benchmark": benchmark, "n_questions": n})
            gap = {"quantity": "gap", "mix": "long", "minus": "short", "estimate": -0.1 + 0.2 * rank, "low": -0.2, "high": 0.5}
            gap["settled"] = rank > 0  # the smallest student's sign is open
            rows.append({**common, **gap, "benchmark": benchmark, "n_questions": n})
    for benchmark in ("easy", "hard", "average"):
        rows.append({"quantity": "best_guess", "benchmark": benchmark, "estimate": 0.09, "n_questions": 100})
    return pd.DataFrame(rows)


def spec(plot: str) -> dict[str, Any]:
    """A figure's spec."""
    contrast = ["long", "short"] if plot == "gap_by_size" else None
    return {"stage": "figure", "version": 1, "plot": plot, "shown": SHOWN, "contrast": contrast}


def draw(run: Runner, folder: Path, plot: str, table: pd.DataFrame) -> list[bytes]:
    """Run the stage; the bytes of PDF, SVG and manifest."""
    source = folder.parent / "estimates.csv"
    table.to_csv(source, index=False)
    files = [folder / name for name in ("e.pdf", "e.svg", "e.manifest.json")]
    assert run(figure, spec(plot), source, *files) == 0
    assert manifest.mismatches(files[2]) == []
    assert manifest.read(files[2])["inputs"] == {"estimates": sha256_file(source)}
    assert [entry.name for entry in sorted(folder.iterdir())] == ["e.manifest.json", "e.pdf", "e.svg"]
    return [file.read_bytes() for file in files]


@pytest.mark.parametrize("plot", figure.PLOTS)
def test_a_figure_is_drawn_to_the_same_bytes(run: Runner, tmp_path: Path, plot: str) -> None:
    first = draw(run, tmp_path / "a", plot, estimates())
    assert first[0].startswith(b"%PDF-")
    assert b"<svg" in first[1] and b"</svg>" in first[1]
    assert draw(run, tmp_path / "b", plot, estimates()) == first
    # Neither when nor where it was drawn.
    assert b"CreationDate" not in first[0]
    assert b"<dc:date>" not in first[1]
    assert str(tmp_path).encode() not in b"".join(first)


def test_other_numbers_give_another_figure(run: Runner, tmp_path: Path) -> None:
    first = draw(run, tmp_path / "a", "accuracy_by_mix", estimates())
    other = draw(run, tmp_path / "b", "accuracy_by_mix", estimates(shift=0.01))
    assert first[0] != other[0]
    assert first[1] != other[1]


@pytest.fixture
def axes(request: pytest.FixtureRequest) -> plt.Axes:
    """The axes of one kind of figure."""
    drawn = figure.PLOTS[request.param](estimates(), SHOWN, ["long", "short"])
    request.addfinalizer(lambda: plt.close(drawn))
    return drawn.axes[0]


def lines(drawn: plt.Axes) -> dict[str, list[float]]:
    """Label of each line with markers -> its heights."""
    handles, labels = drawn.get_legend_handles_labels()
    return {
        label: [float(y) for y in handle.lines[0].get_ydata()]
        for label, handle in zip(labels, handles, strict=True)
        if hasattr(handle, "lines")
    }


@pytest.mark.parametrize("axes", ["gap_by_size"], indirect=True)
def test_a_gap_is_drawn_in_points_by_size(axes: plt.Axes) -> None:
    assert set(lines(axes)) == {"two events", "hard", "average"}
    for heights in lines(axes).values():
        assert heights == pytest.approx([-10, 10, 30])
    assert axes.get_ylabel() == "long CoT − short CoT (percentage points)"
    assert axes.get_xscale() == "log"
    assert [label.get_text() for label in axes.get_xticklabels()] == ["SMALL", "MIDDLE", "BIG"]
    assert list(axes.get_xticks()) == pytest.approx([0.5e9, 1.5e9, 7e9])


@pytest.mark.parametrize("axes", ["accuracy_by_mix"], indirect=True)
def test_accuracies_are_drawn_with_the_best_guess(axes: plt.Axes) -> None:
    assert lines(axes) == {
        "untouched": pytest.approx([10, 20, 30]),
        "short CoT": pytest.approx([30, 40, 50]),
        "long CoT": pytest.approx([50, 60, 70]),
    }
    handles, labels = axes.get_legend_handles_labels()
    guess = handles[labels.index("best constant guess")]
    assert list(guess.get_ydata()) == pytest.approx([9, 9])


def test_a_gap_whose_sign_is_open_is_greyed() -> None:
    with plt.rc_context():
        drawn = figure.gap_by_size(estimates(), SHOWN, ["long", "short"])
    (axes,) = drawn.axes
    spans = [patch for patch in axes.patches if patch.get_label() == figure.OPEN]
    smallest = 1e9 * min(MODELS.values())
    assert len(axes.patches) == len(spans) == 1
    assert spans[0].get_x() < smallest < spans[0].get_x() + spans[0].get_width()
    plt.close(drawn)


@pytest.mark.parametrize("axes", list(figure.PLOTS), indirect=True)
def test_lines_can_be_told_apart_without_colour(axes: plt.Axes) -> None:
    handles, _ = axes.get_legend_handles_labels()
    drawn = [handle.lines[0] for handle in handles if hasattr(handle, "lines")]
    assert len({line.get_marker() for line in drawn}) == len({line.get_color() for line in drawn}) == len(drawn) == 3


@pytest.mark.parametrize(("seeds", "expected"), [(1, "1 training seed,"), (3, "3 training seeds,")])
def test_a_figure_says_how_many_questions_and_seeds(seeds: int, expected: str) -> None:
    drawn = figure.gap_by_size(estimates(seeds), SHOWN, ["long", "short"])
    title = drawn.get_suptitle()
    plt.close(drawn)
    assert title.startswith(f"n = 300 questions, {expected}")


def test_a_mix_called_null_is_no_missing_value(run: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[pd.DataFrame] = []

    def spy(table: pd.DataFrame, *rest: Any) -> Any:
        seen.append(table)
        return figure.accuracy_by_mix(table, *rest)

    monkeypatch.setitem(figure.PLOTS, "accuracy_by_mix", spy)
    monkeypatch.setitem(SHOWN, "mixes", [["null", "null"]])
    draw(run, tmp_path / "a", "accuracy_by_mix", estimates().replace({"mix": {"none": "null"}}))
    assert (seen[0]["mix"] == "null").sum() == 9


def test_a_missing_table_is_one_message(run: Runner, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [tmp_path / name for name in ("absent.csv", "e.pdf", "e.svg", "e.manifest.json")]
    assert run(figure, spec("gap_by_size"), *files) == 1
    assert "absent.csv: No such file or directory" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_panel_for_each_family() -> None:
    table = estimates()
    table.loc[table["model"] == table["model"].dropna().iloc[0], "family"] = "other"
    drawn = figure.gap_by_size(table, SHOWN, ["long", "short"])
    titles = [axes.get_title() for axes in drawn.axes]
    plt.close(drawn)
    assert len(titles) == 2 and "other" in titles

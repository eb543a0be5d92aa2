"""figure: all experiments can be drawn, to the same bytes, without overlaps; gaps are named."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from gapgrid.core import manifest
from gapgrid.core.records import sha256_file, write_json
from gapgrid.grid.qualitative import drawn_by
from gapgrid.reporting.plots import style
from gapgrid.stages import figure
from tests.unit import pictures
from tests.unit.pictures import DEMO, GRIDS, NOTES, PAPER, spec_of

drawing_style = pictures.drawing_style
ENTRIES = {
    (name, experiment): GRIDS[name]["experiments"][experiment]
    for name in GRIDS
    for experiment in drawn_by(GRIDS[name], "figure")
}
OF_EACH_KIND = {entry["plot"]: key for key, entry in ENTRIES.items()}
# One for each look: the same kind, students and number of mixes.
LOOKS = {
    (entry["plot"], tuple(entry["models"]), len(entry["mixes"])): key
    for key, entry in ENTRIES.items()
}
DIFFERS = [
    f"recipe.{key}: {key} is {value} against {2 * value}"
    for value, key in enumerate(("epochs", "global_batch", "length"), 1)
] * 4
OUTPUTS = ("pdf", "svg", "csv", "caption.txt", "manifest.json")


def draw(
    run: Callable[..., int], folder: Path, plot: str, notes: dict[str, Any] = NOTES
) -> dict[str, bytes]:
    """Run the stage on an experiment of this kind; the bytes of its files by suffix."""
    name, experiment = OF_EACH_KIND[plot]
    inputs = {"estimates": folder / "e.estimates.csv", "notes": folder / "e.notes.json"}
    write_json(inputs["notes"], notes)
    table = pictures.estimates(GRIDS[name], experiment)
    table.to_csv(inputs["estimates"], index=False)
    outputs = [folder / f"e.{suffix}" for suffix in OUTPUTS]
    assert run(figure, spec_of(GRIDS[name], experiment), *inputs.values(), *outputs) == 0
    assert manifest.mismatches(outputs[-1]) == []
    content = manifest.read(outputs[-1])
    assert content["inputs"] == {key: sha256_file(file) for key, file in inputs.items()}
    assert set(content["outputs"]) == {f"e.{suffix}" for suffix in OUTPUTS[:-1]}
    assert set(folder.iterdir()) == {*inputs.values(), *outputs}
    return {file.name.removeprefix("e."): file.read_bytes() for file in outputs}


def test_there_is_an_experiment_of_each_kind() -> None:
    assert OF_EACH_KIND.keys() == figure.PLOTS.keys()


@pytest.mark.parametrize("plot", figure.PLOTS)
def test_a_figure_is_drawn_to_the_same_bytes(
    run: Callable[..., int], tmp_path: Path, plot: str
) -> None:
    notes = {**NOTES, "differs": DIFFERS}
    first = draw(run, tmp_path / "a", plot, notes)
    assert first["pdf"].startswith(b"%PDF-")
    assert b"<svg" in first["svg"] and b"</svg>" in first["svg"]
    assert draw(run, tmp_path / "b", plot, notes) == first
    # Neither when nor where it was drawn.
    assert b"CreationDate" not in first["pdf"] and b"<dc:date>" not in first["svg"]
    assert str(tmp_path).encode() not in b"".join(first.values())


# ---- texts do not overlap ----


@pytest.mark.parametrize(("name", "experiment"), LOOKS.values())
def test_no_text_overlaps_another(name: str, experiment: str) -> None:
    grid = GRIDS[name]
    picture, whole, lines = pictures.drawn(grid, experiment)
    assert pictures.collisions(picture) == []
    assert len(whole) > 0 and len(lines) == 1
    assert pictures.texts(picture).keys() >= {f"figure text {lines[0]}"}
    # A student without one mix, another one without any, and confounders.
    shown = spec_of(grid, experiment)["shown"]
    models, mixes = ([key for key, _ in shown[kind]] for kind in ("models", "mixes"))
    missing = {(models[0], mixes[-1])}
    missing |= {(models[-1], mix) for mix in mixes} if len(models) > 1 else set()
    notes = {**NOTES, "differs": DIFFERS}
    picture, points, lines = pictures.drawn(grid, experiment, notes, missing=missing, seeds=3)
    assert pictures.collisions(picture) == []
    assert points["value"].notna().all() and len(points) < len(whole)
    # Of bars the gap is a number beside two bars, which is not counted as missing.
    if ENTRIES[name, experiment]["plot"] != "bars":
        n_missing = len(whole) - len(points)
        expected = f"{n_missing} of {len(whole)} points missing, their cells have no score: "
        assert lines[-1].startswith(expected)


def test_long_names_are_turned_or_wrapped() -> None:
    labels = {"models": "a rather long name of", "mixes": "trained on rows of"}
    longer = {
        kind: {name: {**entry, "label": f"{label} {name}"} for name, entry in DEMO[kind].items()}
        for kind, label in labels.items()
    }
    grid = {**DEMO, **longer}
    for experiment in drawn_by(grid, "figure"):
        picture, _, _ = pictures.drawn(grid, experiment)
        assert pictures.collisions(picture) == [], experiment
    picture, _, _ = pictures.drawn(grid, "long-gap")
    assert not pictures.is_level(picture.axes[0].get_xticklabels())


@pytest.mark.parametrize("plot", figure.PLOTS)
def test_no_estimate_at_all_is_a_figure_that_says_so(plot: str) -> None:
    name, experiment = OF_EACH_KIND[plot]
    table = pictures.estimates(GRIDS[name], experiment)
    table[["estimate", "low", "high", "settled", "n_questions", "n_seeds"]] = None
    picture, points, lines = figure.draw(table, spec_of(GRIDS[name], experiment), NOTES)
    assert len(points) == 0 and "points missing" in lines[0]
    assert pictures.collisions(picture) == []


# ---- readable in grey ----


@pytest.mark.parametrize("name", ["long-gap", "accuracy", "weights"])
def test_lines_can_be_told_apart_without_colour(name: str) -> None:
    picture, _, _ = pictures.drawn(DEMO, name)
    lines = picture.legends[0].get_lines()
    markers = [line.get_marker() for line in lines if line.get_linestyle() not in ("None", "")]
    markers = [marker for marker in markers if marker not in ("None", "")]
    # The average has the first one's marker, in bold.
    assert len(markers) >= 4 and len(set(markers)) >= len(markers) - 1


@pytest.mark.parametrize(
    ("grid", "experiment"), [(DEMO, "teaser"), (PAPER, "table3"), (PAPER, "figure5-long")]
)
def test_bars_can_be_told_apart_without_colour(grid: Any, experiment: str) -> None:
    picture, _, _ = pictures.drawn(grid, experiment)
    spec = spec_of(grid, experiment)
    series = spec.get("groups", spec["shown"]["mixes"])
    assert len({patch.get_hatch() or "" for patch in picture.axes[0].patches}) == len(series)


def test_colours_differ_in_lightness() -> None:
    """The first five, as grey: luminance by ITU-R BT.709."""
    channels = [[int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)] for colour in style.COLOURS]
    grey = [0.2126 * red + 0.7152 * green + 0.0722 * blue for red, green, blue in channels]
    assert abs(grey[0] - grey[1]) > 0.05 and abs(grey[3] - grey[4]) > 0.05
    unique = [len(set(looks)) for looks in (style.COLOURS, style.MARKERS, style.HATCHES)]
    assert unique == [len(style.COLOURS)] * 3


# ---- texts ----


@pytest.mark.parametrize(
    ("seeds", "expected"),
    [
        (1, "1 training seed; 95 % intervals over questions"),
        (3, "3 training seeds; 95 % intervals over questions and seeds"),
    ],
)
def test_a_figure_says_how_many_questions_and_seeds(seeds: int, expected: str) -> None:
    _, _, lines = pictures.drawn(DEMO, "long-gap", seeds=seeds)
    assert lines == [f"n = 100 questions, {expected}"]


def test_confounders_are_a_warning_banner() -> None:
    def banners(picture: Any) -> list[str]:
        return [text.get_text() for text in picture.texts if text.get_bbox_patch()]

    notes = {**NOTES, "differs": ["recipe.epochs: 2 against 3"]}
    (banner,) = banners(pictures.drawn(DEMO, "teaser", notes)[0])
    assert " ".join(banner.split()) == "not only the mix differs: recipe.epochs: 2 against 3"
    declared = {**NOTES, "differs": ["packing: 1"], "varies": "the mix and the steps differ"}
    assert style.warning(declared) == "not only the mix and the steps differ: packing: 1"
    picture, _, _ = pictures.drawn(DEMO, "teaser", {**NOTES, "differs": DIFFERS})
    (banner,) = banners(picture)
    assert banner.count("\n") == 1 and banner.endswith("…")
    plain, _, _ = pictures.drawn(DEMO, "teaser")
    assert banners(plain) == []
    # The banner takes nothing off the panels.
    inches = [drawing.get_size_inches()[1] for drawing in (picture, plain)]
    shares = [drawing.axes[0].get_position().height for drawing in (picture, plain)]
    assert inches[0] > inches[1]
    assert inches[0] * shares[0] == pytest.approx(inches[1] * shares[1], abs=0.02)


def test_a_caption_holds_the_protocol_and_all_that_differs(
    run: Callable[..., int], tmp_path: Path
) -> None:
    differs = [*DIFFERS, r"$\frac{1}{$ {{ 7 * 7 }}"]  # a dollar is no formula
    between, protocol = ["recipe: LoRA from 14B"], ["k = 1", "x" * 200]
    notes = {**NOTES, "differs": differs, "between_students": between, "protocol": protocol}
    text = draw(run, tmp_path / "a", "gap_by_size", notes)["caption.txt"].decode()
    assert text.startswith("What it shows.\n\nn = 100 questions")
    assert all(f"\n- {line}\n" in text for line in [*differs, *between, "k = 1"])
    headings = ("Not only the mix differs:", "Between students:", "Protocol:")
    places = [text.index(heading) for heading in headings]
    assert places == sorted(places)
    assert text.endswith("Drawn points: e.csv\n")
    plain = draw(run, tmp_path / "b", "gap_by_size")["caption.txt"].decode()
    assert not any(heading in plain for heading in headings)


def test_points_are_those_drawn(run: Callable[..., int], tmp_path: Path) -> None:
    draw(run, tmp_path, "gap_by_size")
    points = pd.read_csv(tmp_path / "e.csv", keep_default_na=False, na_values=[""])
    gaps = pd.read_csv(tmp_path / "e.estimates.csv").query("quantity == 'gap'")
    assert list(points.columns) == style.COLUMNS
    assert len(points) == len(gaps) and set(points["unit"]) == {"points"}
    merged = points.merge(gaps, on=["model", "benchmark"])
    expected = 100 * merged["estimate"].to_numpy()
    assert merged["value"].to_numpy() == pytest.approx(expected, rel=1e-5)


# ---- errors ----


def test_a_missing_table_and_broken_notes_are_one_message(
    run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    estimates, notes = tmp_path / "e.estimates.csv", tmp_path / "e.notes.json"
    outputs = [tmp_path / f"e.{suffix}" for suffix in OUTPUTS]
    spec = spec_of(DEMO, "accuracy")
    assert run(figure, spec, estimates, notes, *outputs) == 1
    assert "e.estimates.csv: No such file or directory" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    pictures.estimates(DEMO, "accuracy").to_csv(estimates, index=False)
    notes.write_text(json.dumps({"caption": "c", "differs": []}))
    assert run(figure, spec, estimates, notes, *outputs) == 1
    expected = "e.notes.json: no key protocol, varies, between_students, n_missing"
    assert expected in capsys.readouterr().err
    assert not outputs[-1].exists()


def test_a_mix_called_null_is_no_missing_value() -> None:
    mixes = {**DEMO["mixes"], "null": DEMO["mixes"]["short"]}
    entry = {**DEMO["experiments"]["accuracy"], "mixes": ["null"]}
    grid = {**DEMO, "mixes": mixes, "experiments": {"accuracy": entry}}
    _, points, lines = pictures.drawn(grid, "accuracy")
    assert list(points["mix"]) == ["null"] * 4 and len(lines) == 1

"""figure: every experiment can be drawn, to the same bytes, without overlaps, and says what is missing and what spoils it."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from gapgrid import closeups, figure, grid, manifest
from gapgrid.plots import drawing
from gapgrid.records import sha256_file
from tests.unit import pictures
from tests.unit.pictures import GRIDS, NOTES

Runner = Callable[..., int]
EXPERIMENTS = [(name, experiment) for name in GRIDS for experiment in closeups.drawn_by(GRIDS[name], "figure")]
# One for each look: the same kind, students and number of mixes.
LOOKS = {
    (entry["plot"], tuple(entry["models"]), len(entry["mixes"])): (name, experiment)
    for name, experiment in EXPERIMENTS
    for entry in [GRIDS[name]["experiments"][experiment]]
}
OF_EACH_KIND = {GRIDS[name]["experiments"][experiment]["plot"]: (name, experiment) for name, experiment in EXPERIMENTS}
DIFFERS = [f"recipe.{key}: {key} is {value} against {2 * value}" for value, key in enumerate(("epochs", "global_batch", "length"), 1)] * 4


@pytest.fixture(autouse=True)
def style() -> Iterator[None]:
    """As the stage draws; every figure is closed."""
    with mpl.rc_context(drawing.STYLE):
        yield
    plt.close("all")


def draw(run: Runner, folder: Path, plot: str, notes: dict[str, Any] = NOTES, **options: Any) -> dict[str, bytes]:
    """Run the stage on an experiment of this kind; the bytes of its files by suffix."""
    name, experiment = OF_EACH_KIND[plot]
    folder.mkdir()
    pictures.estimates(GRIDS[name], experiment, **options).to_csv(folder / "e.estimates.csv", index=False)
    (folder / "e.notes.json").write_text(json.dumps(notes))
    sources = [folder / f"e.{suffix}" for suffix in ("estimates.csv", "notes.json")]
    outputs = [folder / f"e.{suffix}" for suffix in ("pdf", "svg", "csv", "caption.txt", "manifest.json")]
    spec = json.loads(grid.figure_spec(GRIDS[name], experiment))
    assert run(figure, spec, *sources, *outputs) == 0
    assert manifest.mismatches(outputs[-1]) == []
    inputs = {"estimates": sha256_file(sources[0]), "notes": sha256_file(sources[1])}
    assert manifest.read(outputs[-1])["inputs"] == inputs
    assert set(manifest.read(outputs[-1])["outputs"]) == {"e.pdf", "e.svg", "e.csv", "e.caption.txt"}
    assert {file.name for file in folder.iterdir()} == {file.name for file in (*sources, *outputs)}
    return {file.name.removeprefix("e."): file.read_bytes() for file in outputs}


def test_there_is_an_experiment_of_each_kind() -> None:
    assert OF_EACH_KIND.keys() == figure.PLOTS.keys()


@pytest.mark.parametrize("plot", figure.PLOTS)
def test_a_figure_is_drawn_to_the_same_bytes(run: Runner, tmp_path: Path, plot: str) -> None:
    notes = {**NOTES, "differs": DIFFERS}
    first = draw(run, tmp_path / "a", plot, notes)
    assert first["pdf"].startswith(b"%PDF-")
    assert b"<svg" in first["svg"] and b"</svg>" in first["svg"]
    assert draw(run, tmp_path / "b", plot, notes) == first
    # Neither when nor where it was drawn.
    assert b"CreationDate" not in first["pdf"]
    assert b"<dc:date>" not in first["svg"]
    assert str(tmp_path).encode() not in b"".join(first.values())


@pytest.mark.parametrize("plot", figure.PLOTS)
def test_other_numbers_give_another_figure(run: Runner, tmp_path: Path, plot: str) -> None:
    name, experiment = OF_EACH_KIND[plot]
    first, other = draw(run, tmp_path / "a", plot), draw(run, tmp_path / "b", plot, missing=some_missing(name, experiment))
    assert all(first[suffix] != other[suffix] for suffix in ("pdf", "svg", "csv", "caption.txt"))


# ---- texts do not overlap ----


def some_missing(name: str, experiment: str) -> set[pictures.Missing]:
    """A student without one mix, and another student without any."""
    shown = json.loads(grid.figure_spec(GRIDS[name], experiment))["shown"]
    models, mixes = ([key for key, _ in shown[kind]] for kind in ("models", "mixes"))
    return {(models[0], mixes[-1])} | ({(models[-1], mix) for mix in mixes} if len(models) > 1 else set())


@pytest.mark.parametrize(("name", "experiment"), LOOKS.values())
def test_no_text_lies_on_another(name: str, experiment: str) -> None:
    picture, points, lines = pictures.drawn(GRIDS[name], experiment)
    assert pictures.collisions(picture) == []
    assert len(points) > 0 and len(lines) == 1
    assert pictures.texts(picture).keys() >= {f"figure text {lines[0]}"}


@pytest.mark.parametrize(("name", "experiment"), LOOKS.values())
def test_no_text_lies_on_another_where_cells_are_missing_and_settings_differ(name: str, experiment: str) -> None:
    notes = {**NOTES, "differs": DIFFERS}
    whole = pictures.drawn(GRIDS[name], experiment)[1]
    picture, points, lines = pictures.drawn(GRIDS[name], experiment, notes, missing=some_missing(name, experiment), seeds=3)
    assert pictures.collisions(picture) == []
    assert points["value"].notna().all() and len(points) < len(whole)
    if GRIDS[name]["experiments"][experiment]["plot"] != "bars":  # whose gap is a number beside two bars
        assert lines[-1].startswith(f"{len(whole) - len(points)} of {len(whole)} points missing, their cells are not built: ")


def test_long_names_are_turned_or_wrapped() -> None:
    models = {name: {**entry, "label": f"a rather long name of {name}"} for name, entry in GRIDS["demo"]["models"].items()}
    mixes = {name: {**entry, "label": f"trained on rows of {name}"} for name, entry in GRIDS["demo"]["mixes"].items()}
    of = {**GRIDS["demo"], "models": models, "mixes": mixes}
    for experiment in closeups.drawn_by(of, "figure"):
        picture, _, _ = pictures.drawn(of, experiment)
        assert pictures.collisions(picture) == [], experiment
    labels = pictures.drawn(of, "long-gap")[0].axes[0].get_xticklabels()
    assert not pictures.is_level(labels)


def test_no_estimate_at_all_is_a_figure_that_says_so() -> None:
    for plot, (name, experiment) in OF_EACH_KIND.items():
        of = GRIDS[name]
        table = pictures.estimates(of, experiment)
        table[["estimate", "low", "high", "settled", "n_questions", "n_seeds"]] = None
        picture, points, lines = figure.draw(table, json.loads(grid.figure_spec(of, experiment)), NOTES)
        assert len(points) == 0 and "points missing" in lines[0], plot
        assert pictures.collisions(picture) == [], plot


# ---- readable in grey ----


@pytest.mark.parametrize("name", ["long-gap", "accuracy", "weights"])
def test_lines_can_be_told_apart_without_colour(name: str) -> None:
    picture, _, _ = pictures.drawn(GRIDS["demo"], name)
    (legend,) = picture.legends
    styles = {text.get_text(): (line.get_marker(), line.get_linestyle()) for text, line in zip(legend.get_texts(), legend.get_lines())}  # noqa: B905
    solid = {label: marker for label, (marker, dash) in styles.items() if dash not in ("None", "") and marker not in ("None", "")}
    assert len(solid) >= 4 and len(set(solid.values())) >= len(solid) - 1  # the average has the first one's marker, in bold


@pytest.mark.parametrize(("name", "experiment"), [("demo", "teaser"), ("paper", "table3"), ("paper", "figure5-long")])
def test_bars_can_be_told_apart_without_colour(name: str, experiment: str) -> None:
    picture, _, _ = pictures.drawn(GRIDS[name], experiment)
    shown = json.loads(grid.figure_spec(GRIDS[name], experiment))
    kinds = len(shown["groups"]) if "groups" in shown else len(shown["shown"]["mixes"])
    assert len({patch.get_hatch() or "" for patch in picture.axes[0].patches}) == kinds


def test_colours_differ_in_lightness() -> None:
    """The first five, as grey: luminance by ITU-R BT.709."""
    channels = [[int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)] for colour in drawing.COLOURS]
    grey = [0.2126 * red + 0.7152 * green + 0.0722 * blue for red, green, blue in channels]
    assert abs(grey[0] - grey[1]) > 0.05 and abs(grey[3] - grey[4]) > 0.05
    assert len(set(drawing.COLOURS)) == len(set(drawing.MARKERS)) == len(set(drawing.HATCHES)) == len(drawing.COLOURS)


# ---- what is said ----


@pytest.mark.parametrize(
    ("seeds", "expected"),
    [(1, "1 training seed; 95 % intervals over questions"), (3, "3 training seeds; 95 % intervals over questions and seeds")],
)
def test_a_figure_says_how_many_questions_and_seeds(seeds: int, expected: str) -> None:
    _, _, lines = pictures.drawn(GRIDS["demo"], "long-gap", seeds=seeds)
    assert lines == [f"n = 100 questions, {expected}"]


def test_a_figure_is_stamped_where_not_only_the_mix_differs() -> None:
    picture, _, _ = pictures.drawn(GRIDS["demo"], "teaser", {**NOTES, "differs": ["recipe.epochs: 2 against 3"]})
    (stamp,) = [text.get_text() for text in picture.texts if text.get_bbox_patch()]
    assert " ".join(stamp.split()) == "not only the mix differs: recipe.epochs: 2 against 3"
    declared = {**NOTES, "differs": ["packing: 1"], "varies": "the mix and the steps differ"}
    assert drawing.stamp(declared) == "not only the mix and the steps differ: packing: 1"
    picture, _, _ = pictures.drawn(GRIDS["demo"], "teaser", {**NOTES, "differs": DIFFERS})
    (stamp,) = [text.get_text() for text in picture.texts if text.get_bbox_patch()]
    assert stamp.count("\n") == 1 and stamp.endswith("…")
    plain, _, _ = pictures.drawn(GRIDS["demo"], "teaser")
    assert not [text for text in plain.texts if text.get_bbox_patch()]
    # The stamp takes nothing off the panels.
    assert picture.get_size_inches()[1] > plain.get_size_inches()[1]
    heights = [drawn.axes[0].get_position().height * drawn.get_size_inches()[1] for drawn in (picture, plain)]
    assert heights[0] == pytest.approx(heights[1], abs=0.02)


def test_a_caption_holds_the_protocol_and_all_that_differs(run: Runner, tmp_path: Path) -> None:
    notes = {**NOTES, "differs": DIFFERS, "between_students": ["recipe: LoRA from 14B"], "protocol": ["k = 1", "x" * 200]}
    text = draw(run, tmp_path / "a", "gap_by_size", notes)["caption.txt"].decode()
    assert text.startswith("What it shows.\n\nn = 100 questions")
    assert all(f"\n- {line}\n" in text for line in [*DIFFERS, "recipe: LoRA from 14B", "k = 1"])
    assert text.index("Not only the mix differs:") < text.index("Between students:") < text.index("Protocol:")
    assert text.endswith("Drawn points: e.csv\n")
    plain = draw(run, tmp_path / "b", "gap_by_size")["caption.txt"].decode()
    assert not any(word in plain for word in ("Not only", "Between", "Protocol"))


def test_a_dollar_is_no_formula(run: Runner, tmp_path: Path) -> None:
    draw(run, tmp_path / "a", "bars", {**NOTES, "differs": [r"$\frac{1}{$ {{ 7 * 7 }}"]})
    picture, _, _ = pictures.drawn(GRIDS["demo"], "teaser", {**NOTES, "differs": [r"$\frac$"]})
    assert pictures.collisions(picture) == []


def test_points_are_those_drawn(run: Runner, tmp_path: Path) -> None:
    draw(run, tmp_path / "a", "gap_by_size")
    found = pd.read_csv(tmp_path / "a" / "e.csv", keep_default_na=False, na_values=[""])
    given = pd.read_csv(tmp_path / "a" / "e.estimates.csv")
    assert list(found.columns) == drawing.COLUMNS
    gaps = given[given["quantity"] == "gap"]
    assert len(found) == len(gaps) and set(found["unit"]) == {"points"}
    merged = found.merge(gaps, on=["model", "benchmark"])
    assert merged["value"].to_numpy() == pytest.approx(100 * merged["estimate"].to_numpy(), rel=1e-5)


# ---- what is wrong ----


def test_a_missing_table_is_one_message(run: Runner, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [tmp_path / name for name in ("absent.csv", "n.json", "e.pdf", "e.svg", "e.csv", "e.txt", "e.manifest.json")]
    assert run(figure, json.loads(grid.figure_spec(GRIDS["demo"], "accuracy")), *files) == 1
    assert "absent.csv: No such file or directory" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_notes_that_are_none_are_one_message(run: Runner, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [tmp_path / name for name in ("t.csv", "n.json", "e.pdf", "e.svg", "e.csv", "e.txt", "e.manifest.json")]
    pictures.estimates(GRIDS["demo"], "accuracy").to_csv(files[0], index=False)
    files[1].write_text('{"caption": "c", "differs": []}')
    assert run(figure, json.loads(grid.figure_spec(GRIDS["demo"], "accuracy")), *files) == 1
    assert "n.json: no key protocol, varies, between_students, n_missing" in capsys.readouterr().err
    assert not files[-1].exists()


def test_a_mix_called_null_is_no_missing_value() -> None:
    of = {**GRIDS["demo"], "mixes": {**GRIDS["demo"]["mixes"], "null": GRIDS["demo"]["mixes"]["short"]}}
    of["experiments"] = {"accuracy": {**of["experiments"]["accuracy"], "mixes": ["null"]}}
    _, points, lines = pictures.drawn(of, "accuracy")
    assert list(points["mix"]) == ["null"] * 4 and len(lines) == 1

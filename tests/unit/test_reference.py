"""reference: published numbers are read with every mistake at once, and shown only where they are about an experiment's cells."""

from pathlib import Path
from typing import Any

import pytest

from gapgrid import reference
from gapgrid.records import InputError

HEADER = "model,mix,minus,benchmark,score,source,note\n"
GRID: dict[str, Any] = {
    "models": {"3b": {}, "7b": {}},
    "mixes": {"long": {}, "short": {}},
    "benchmarks": {"math": {}, "amc": {}, "aime": {}},
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "reference.csv"


def complaints(file: Path, *lines: str) -> list[str]:
    """What is said of a file of these rows."""
    file.write_text(HEADER + "".join(f"{line}\n" for line in lines))
    try:
        rows = reference.read(file)
    except InputError as error:
        return str(error).replace(f"{file}:", "").splitlines()
    return [text.replace(f"{file}:", "") for text in reference.problems(GRID, rows, file)]


def test_no_file_is_no_numbers(file: Path) -> None:
    assert reference.read(file) == []


def test_rows_have_numbers_and_lines(file: Path) -> None:
    file.write_text("# A comment, with commas.\n\n" + HEADER + '3b,long,,math+amc,40.3,Table 1,"a note, with a comma"\n')
    assert reference.read(file) == [
        {
            "model": "3b",
            "mix": "long",
            "minus": "",
            "benchmark": "math+amc",
            "score": 40.3,
            "source": "Table 1",
            "note": "a note, with a comma",
            "line": 4,
        }
    ]


def test_columns_that_may_be_empty_may_be_left_out(file: Path) -> None:
    file.write_text("source,model,mix,benchmark,score\nT,3b,long,math,1\n")
    (row,) = reference.read(file)
    assert (row["minus"], row["note"], row["score"]) == ("", "", 1.0)


def test_every_mistake_of_a_row_is_said_at_once(file: Path) -> None:
    found = complaints(
        file, "3b,long,,math,101,T,", "3b,long,,math,-1,T,", "3b,long,short,math,-101,T,", "3b,long,,math,nan,T,", "3b,,,math,1,,", "3b"
    )
    assert found == [
        "2: score 101, expected a number from 0 to 100 (per cent)",
        "3: score -1, expected a number from 0 to 100 (per cent)",
        "4: score -101, expected a number from -100 to 100 (points)",
        "5: score nan, expected a number from 0 to 100 (per cent)",
        "6: no mix",
        "6: no source",
        "7: 1 values, expected 7, as many as columns",
    ]


def test_names_are_the_grids(file: Path) -> None:
    found = complaints(file, "3bb,long,,math,1,T,", "3b,longer,shorter,math+maths,1,T,", "3b,long,long,math,1,T,", "3b,none,,amc,1,T,")
    assert found == [
        "2: model '3bb' is none of the grid's (did you mean '3b'?)",
        "3: mix 'longer' is none of the grid's (did you mean 'long'?)",
        "3: minus 'shorter' is none of the grid's (did you mean 'short'?)",
        "3: benchmark 'maths' is none of the grid's (did you mean 'math'?)",
        "4: 'long' minus itself",
    ]


def test_a_number_given_twice_by_one_source_is_a_mistake(file: Path) -> None:
    found = complaints(file, "3b,long,,math+amc,1,T,", "3b,long,,math+amc,1,U,", "3b,long,,amc+math,2,T,")
    assert found == ["4: the same number from the same source as in line 2"]


def test_a_wrong_header_is_said(file: Path) -> None:
    file.write_text("modell,mix,benchmark,score,source\n")
    with pytest.raises(InputError, match=r"unknown column 'modell' \(did you mean 'model'\?\)(.|\n)*no column 'model'"):
        reference.read(file)
    file.write_text("# nothing\n")
    with pytest.raises(InputError, match="no header"):
        reference.read(file)
    file.write_bytes(b"\xff")
    with pytest.raises(InputError, match="invalid UTF-8"):
        reference.read(file)


def test_only_what_is_about_the_experiments_cells_is_shown(file: Path) -> None:
    lines = [
        "3b,long,,math,1,T,",
        "3b,long,,amc+math,2,T,",
        "3b,long,,math+aime,3,T,",
        "7b,long,,math,4,T,",
        "3b,long,short,math,5,T,",
        "3b,none,,math,6,T,",
    ]
    file.write_text(HEADER + "".join(f"{line}\n" for line in lines))
    rows = reference.read(file)
    shown = reference.shown(rows, ["3b"], ["long", "short"], ["math", "amc"], ["long", "short"])
    assert [(row["benchmark"], row["score"]) for row in shown] == [("math", 1.0), ("average", 2.0), ("math", 5.0)]
    assert all("line" not in row for row in shown)  # a comment above moves no spec
    assert [row["score"] for row in reference.shown(rows, ["3b"], ["long", "short"], ["math", "amc"], None)] == [1.0, 2.0]
    # The average of one benchmark is that benchmark.
    assert [row["benchmark"] for row in reference.shown(rows, ["3b"], ["long"], ["math"], None)] == ["math"]

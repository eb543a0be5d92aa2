"""Published numbers are read with every mistake at once; a table shows those of its own cells."""

from pathlib import Path
from typing import Any

import pytest

from gapgrid.config.reference import read_reference, reference_problems
from gapgrid.core.records import InputError
from gapgrid.grid.table_spec import published_for

HEADER = "model,mix,minus,benchmark,score,source,note\n"
GRID: dict[str, Any] = {
    "models": {"3b": {}, "7b": {}},
    "mixes": {"long": {}, "short": {}},
    "benchmarks": {"math": {}, "amc": {}, "aime": {}},
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "reference.csv"


def test_rows_have_numbers_and_lines(file: Path) -> None:
    assert read_reference(file) == []
    row = '3b,long,,math+amc,40.3,Table 1,"a note, with a comma"\n'
    file.write_text("# A comment, with commas.\n\n" + HEADER + row)
    assert read_reference(file) == [
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
    (row,) = read_reference(file)
    assert (row["minus"], row["note"], row["score"]) == ("", "", 1.0)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (
            """\
3b,long,,math,101,T,
3b,long,,math,-1,T,
3b,long,short,math,-101,T,
3b,long,,math,nan,T,
3b,,,math,1,,
3b,long,,math,,T,
3b""",
            """\
2: score 101, expected a number from 0 to 100 (per cent)
3: score -1, expected a number from 0 to 100 (per cent)
4: score -101, expected a number from -100 to 100 (points)
5: score nan, expected a number from 0 to 100 (per cent)
6: no mix
6: no source
7: no score
8: 1 values, expected 7, as many as columns""",
        ),
        (
            """\
3bb,long,,math,1,T,
3b,longer,shorter,math+maths,1,T,
3b,long,long,math,1,T,
3b,none,,amc,1,T,""",
            """\
2: model '3bb' is none of the grid's (did you mean '3b'?)
3: mix 'longer' is none of the grid's (did you mean 'long'?)
3: minus 'shorter' is none of the grid's (did you mean 'short'?)
3: benchmark 'maths' is none of the grid's (did you mean 'math'?)
4: 'long' minus itself""",
        ),
        (
            "3b,long,,math+amc,1,T,\n3b,long,,math+amc,1,U,\n3b,long,,amc+math,2,T,",
            "4: the same number from the same source as in line 2",
        ),
    ],
)
def test_every_mistake_is_named_at_once(file: Path, rows: str, expected: str) -> None:
    file.write_text(HEADER + rows)
    try:
        messages = "\n".join(reference_problems(GRID, read_reference(file), file))
    except InputError as error:
        messages = str(error)
    assert messages.replace(f"{file}:", "") == expected


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (
            b"modell,mix,benchmark,score,source\n",
            r"unknown column 'modell' \(did you mean 'model'\?\)(.|\n)*no column 'model'",
        ),
        (b"# nothing\n", "no header"),
        (b"\xff", "invalid UTF-8"),
    ],
)
def test_a_wrong_header_is_named(file: Path, content: bytes, expected: str) -> None:
    file.write_bytes(content)
    with pytest.raises(InputError, match=expected):
        read_reference(file)


def test_a_table_shows_numbers_of_its_cells_alone(file: Path) -> None:
    rows = """\
3b,long,,math,1,T,
3b,long,,amc+math,2,T,
3b,long,,math+aime,3,T,
7b,long,,math,4,T,
3b,long,short,math,5,T,
3b,none,,math,6,T,
"""
    file.write_text(HEADER + rows)

    def shown(benchmarks: list[str], contrast: list[str] | None) -> list[tuple[str, float]]:
        numbers = published_for(
            read_reference(file), ["3b"], ["long", "short"], benchmarks, contrast
        )
        assert all("line" not in row for row in numbers)  # a comment above changes no spec
        return [(row["benchmark"], row["score"]) for row in numbers]

    single, average = ("math", 1.0), ("average", 2.0)
    assert shown(["math", "amc"], ["long", "short"]) == [single, average, ("math", 5.0)]
    assert shown(["math", "amc"], None) == [single, average]
    assert shown(["math"], None) == [single]  # the average of one benchmark is that benchmark

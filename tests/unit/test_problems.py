"""problems: as many rows as declared, each with a problem and a reference answer."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from gapgrid import manifest, problems
from gapgrid.demo import arithmetic
from gapgrid.records import read_jsonl

Runner = Callable[..., int]


def spec(data: dict[str, Any], rows: int, columns: dict[str, str] | None = None) -> dict[str, Any]:
    """A benchmark's spec."""
    return {"stage": "problems", "version": 1, "data": data, "rows": rows, "columns": columns or {}}


@pytest.fixture
def made(run: Runner, tmp_path: Path) -> Callable[..., list[dict[str, Any]] | None]:
    """Run the stage: its rows, or None if it refused."""

    def make(*arguments: Any) -> list[dict[str, Any]] | None:
        file, written = tmp_path / "out" / "problems.jsonl", tmp_path / "out" / "manifest.json"
        if run(problems, spec(*arguments), file, written):
            assert not written.exists()
            return None
        assert manifest.mismatches(written) == []
        assert manifest.read(written)["outputs"]["problems.jsonl"]["rows"] == len(read_jsonl(file))
        return read_jsonl(file)

    return make


def local(folder: Path, *rows: Any) -> dict[str, str]:
    """A local file of rows, as a benchmark's data."""
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {"path": str(file)}


def test_a_generator_gives_its_problems(made: Any) -> None:
    rows = made({"builtin": {"events": 4, "seed": 5}}, 20)
    expected = list(arithmetic.benchmark(20, 4, 5))
    assert [(row["problem"], row["gold"]) for row in rows] == [(row["problem"], row["answer"]) for row in expected]
    assert [row["doc_id"] for row in rows] == list(range(20))


def test_more_problems_than_there_are_is_one_message(made: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert made({"builtin": {"events": 1, "seed": 5}}, 100) is None
    assert capsys.readouterr().err.startswith("error: builtin: found only ")


def test_the_rows_keep_their_own_columns(made: Any, tmp_path: Path) -> None:
    row = {"problem": "one ?", "answer": "1", "level": 3}
    assert made(local(tmp_path, row), 1) == [{**row, "gold": "1", "doc_id": 0}]


def test_columns_are_found_by_their_names(made: Any, tmp_path: Path) -> None:
    rows = made(local(tmp_path, {"question": "one ?", "final": "1", "problem": "no"}), 1, {"problem": "question", "gold": "final"})
    assert (rows[0]["problem"], rows[0]["gold"], rows[0]["question"]) == ("one ?", "1", "one ?")


@pytest.mark.parametrize("gold", [["1", "2"], ["1"], 0, 1.5, False, "0"])
def test_a_reference_answer_is_kept_as_it_is(made: Any, tmp_path: Path, gold: Any) -> None:
    (row,) = made(local(tmp_path, {"problem": "one ?", "answer": gold}), 1)
    assert row["gold"] == gold
    assert type(row["gold"]) is type(gold)


def test_a_list_in_a_parquet_file_is_kept(made: Any, tmp_path: Path) -> None:
    file = tmp_path / "rows.parquet"
    rows = [{"problem": "one ?", "answer": ["1", "2"], "unit": None}, {"problem": "two ?", "answer": ["3"], "unit": "m"}]
    parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    assert [(row["gold"], row["unit"]) for row in made({"path": str(file)}, 2)] == [(["1", "2"], None), (["3"], "m")]


def test_a_template_makes_a_reference_answer(made: Any, tmp_path: Path) -> None:
    data = local(tmp_path, {"question": "one ?", "answer": "so\n#### 1"})
    rows = made(data, 1, {"problem": "{{ question }} Think.", "gold": "{{ answer.split('####')[-1] }}"})
    assert (rows[0]["problem"], rows[0]["gold"]) == ("one ? Think.", "1")


def test_a_template_cannot_reach_beyond_the_row(made: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert made(local(tmp_path, {"problem": "p", "answer": "1"}), 1, {"gold": "{{ ''.__class__.__mro__ }}"}) is None
    assert "'{{ ''.__class__.__mro__ }}'" in capsys.readouterr().err


@pytest.mark.parametrize("template", ["{{ answer", "{{ answer | no_such_filter }}"])
def test_a_broken_template_is_named(made: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], template: str) -> None:
    assert made(local(tmp_path, {"problem": "p", "answer": "1"}), 1, {"gold": template}) is None
    assert capsys.readouterr().err.startswith(f"error: columns in benchmarks.yaml: '{template}': ")


@pytest.mark.parametrize("n_rows", [1, 3])
def test_another_number_of_rows_is_refused(made: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], n_rows: int) -> None:
    data = local(tmp_path, *[{"problem": f"{index} ?", "answer": "1"} for index in range(2)])
    assert made(data, n_rows) is None
    assert capsys.readouterr().err == f"error: {data['path']}: 2 rows, expected {n_rows} (rows in benchmarks.yaml)\n"


@pytest.mark.parametrize(
    ("row", "columns", "expected"),
    [
        ({"problem": "p"}, {}, "row 2: no gold in column 'answer', found problem"),
        ({"problem": "p", "answer": ""}, {}, "row 2: no gold in column 'answer', found answer, problem"),
        ({"problem": "p", "answer": None}, {}, "row 2: no gold in column 'answer', found answer, problem"),
        ({"problem": "p", "answer": []}, {}, "row 2: no gold in column 'answer', found answer, problem"),
        ({"answer": "1"}, {}, "row 2: no problem in column 'problem', found answer"),
        ({"problem": "", "answer": "1"}, {}, "row 2: no problem in column 'problem', found answer, problem"),
    ],
)
def test_a_row_without_problem_or_answer_is_named(
    made: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], row: dict[str, Any], columns: dict[str, str], expected: str
) -> None:
    data = local(tmp_path, {"problem": "good ?", "answer": "1"}, row)
    assert made(data, 2, columns) is None
    assert capsys.readouterr().err == f"error: {data['path']}: {expected}\n"


def test_a_misspelt_column_is_named_for_each_row(made: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = local(tmp_path, {"problem": "a", "answer": "1"}, {"problem": "b", "answer": "1"})
    assert made(data, 2, {"gold": "{{ anwser }}"}) is None
    assert capsys.readouterr().err.count("no gold in column '{{ anwser }}', found answer, problem") == 2


def test_a_broken_line_is_named(made: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "rows.jsonl").write_text("{\n")
    assert made({"path": str(tmp_path / "rows.jsonl")}, 1) is None
    assert capsys.readouterr().err.startswith(f"error: {tmp_path}/rows.jsonl:1: not valid JSON")

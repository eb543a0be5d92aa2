"""lm-eval's sample files: what is broken or ambiguous in them is named, and never counted."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gapgrid.core.records import InputError, Row, read_json, read_jsonl
from gapgrid.grading.extract import gold_text
from gapgrid.grading.rule_step import ITEM_COLUMNS
from gapgrid.interop import lm_eval_samples
from gapgrid.interop.columns import GOLD_COLUMNS, PROBLEM_COLUMNS
from tests.unit.interop.conftest import LATER, OK, RUN, Grade, row, write_samples

# --------------------------------------------------------------------------- files


def test_a_task_never_reads_the_files_of_a_task_whose_name_it_begins(
    tmp_path: Path, grade: Grade
) -> None:
    write_samples(tmp_path, row(0), row(1), task="hendrycks_math_500")
    write_samples(tmp_path, *OK, task="hendrycks_math")
    write_samples(tmp_path, row(0), task="hendrycks_math_500_x", run="2025-01-01T00-00-00")
    assert {task: counts[1] for (_, task), counts in grade(tmp_path).table.items()} == {
        "hendrycks_math": "3",
        "hendrycks_math_500": "2",
        "hendrycks_math_500_x": "1",
        "": "6",
    }
    assert grade(tmp_path, "--task", "hendrycks_math").total[1] == "3"
    message = "--task hendrycks: no samples of it, found hendrycks_math, "
    assert message in grade(tmp_path, "--task", "hendrycks").err


def test_of_several_runs_one_has_to_be_chosen(tmp_path: Path, grade: Grade) -> None:
    write_samples(tmp_path, row(0, response=r"\boxed{1}"))
    write_samples(tmp_path, row(0), run=LATER)
    write_samples(tmp_path, *OK, task="AMC")
    refused = grade(tmp_path, "--out", tmp_path / "out").err
    runs = f"2 runs of AIME: {RUN}, {LATER}; choose with --run latest or --run TIMESTAMP"
    assert f"{tmp_path}: {runs}" in refused and "AMC" not in refused
    assert not (tmp_path / "out").exists()
    assert grade(tmp_path, "--task", "AIME", "--run", "latest").total[2] == "1"
    assert grade(tmp_path, "--task", "AIME", "--run", RUN).total[2] == "0"
    later = grade(tmp_path, "--run", LATER)
    assert "AMC" not in later.out and later.err.count("of another run, left out") == 2
    message = f"--run 2024: no samples of it, found {RUN}, {LATER}"
    assert message in grade(tmp_path, "--run", "2024").err
    write_samples(tmp_path / "other", *OK)
    write_samples(tmp_path / "another", *OK, run=LATER)
    assert grade(tmp_path / "other", tmp_path / "another").status == 0


def test_folders_of_models_are_told_apart(tmp_path: Path, grade: Grade) -> None:
    long, short = tmp_path / "long", tmp_path / "short"
    for folder in (long, short):
        write_samples(folder / "org__student", *OK)
    expected = [("long/org__student", "AIME"), ("short/org__student", "AIME"), ("total", "")]
    assert list(grade(long, short, long).table) == expected == list(grade(tmp_path).table)
    assert ("org__student", "AIME") in grade(long, "--out", tmp_path / "out").table
    assert (tmp_path / "out/org__student/AIME/graded.jsonl").is_file()


def test_folders_without_samples_are_all_named(tmp_path: Path, grade: Grade) -> None:
    good, odd, missing = (tmp_path / name for name in ("good", "odd", "none"))
    write_samples(good, *OK)
    for name in (f"samples_.._{RUN}.jsonl", f"samples__{RUN}.jsonl", "samples_A_2025-01-01.jsonl"):
        write_samples(odd, *OK).rename(odd / name)
    (odd / f"results_{RUN}.json").write_text("{}")
    refused = grade(good, odd, missing).err
    assert f"{odd}: no files samples_{{task}}_{{timestamp}}.jsonl" in refused
    assert f"{missing}: not a folder" in refused and "good" not in refused
    assert refused.count("left out, its name is not") == 3


def test_a_file_that_cannot_be_read_is_one_message(tmp_path: Path, grade: Grade) -> None:
    (tmp_path / f"samples_AIME_{RUN}.jsonl").mkdir()
    assert f"samples_AIME_{RUN}.jsonl: Is a directory" in grade(tmp_path).err


# --------------------------------------------------------------------------- lines


def test_windows_lines_a_byte_order_mark_and_blank_lines_change_nothing(
    tmp_path: Path, grade: Grade
) -> None:
    path = write_samples(tmp_path, *OK)
    plain = grade(tmp_path).out
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n\r\n  \r\n"))
    assert grade(tmp_path).out == plain


def test_a_doc_written_twice_counts_once_and_is_reported(tmp_path: Path, grade: Grade) -> None:
    path = write_samples(tmp_path, *OK, OK[1])
    output = grade(tmp_path, "--out", tmp_path / "out")
    assert f"note: {path}:4: doc_id 1 again, as on line 2; counted once" in output.err
    assert output.total[1] == "3"
    (task,) = read_json(tmp_path / "out/grading.json")["tasks"]
    assert task["notes"] == [f"{path.name}:4: doc_id 1 again, as on line 2; counted once"]
    path = write_samples(tmp_path, *OK, row(1, "7", r"\boxed{7}"))
    message = f"{path}:4: doc_id 1 is on line 2 with another responses\n"
    assert message in grade(tmp_path).err


def test_several_filters_are_one_answer(tmp_path: Path, grade: Grade) -> None:
    filters = ("strict-match", "flexible-extract")
    rows = [{**line, "filter": name, "filtered_resps": [name]} for name in filters for line in OK]
    path = write_samples(tmp_path, *rows)
    assert grade(tmp_path).total[:3] == ["3", "3", "1"]
    assert grade(tmp_path, "--filter", "strict-match").total[:3] == ["3", "3", "1"]
    message = f"{path}: no rows of filter 'none', found ['flexible-extract', 'strict-match']"
    assert message in grade(tmp_path, "--filter", "none").err
    path = write_samples(tmp_path, *rows[:-1], row(2, "3", r"\boxed{3}", filter="flexible-extract"))
    message = f"{path}:6: doc_id 2 is on line 3 with another responses (choose with --filter)"
    assert message in grade(tmp_path).err
    assert grade(tmp_path, "--filter", "flexible-extract").total[2] == "2"


def test_every_repeat_is_graded(tmp_path: Path, grade: Grade) -> None:
    path = write_samples(
        tmp_path,
        row(1, resps=[[r"\boxed{25}", "none", r"\boxed{25.0}"]]),
        row(0, resps=[[r"\boxed{2}", r"\boxed{3}"]]),
    )
    output = grade(tmp_path, "--out", tmp_path / "out")
    assert output.total == ["2", "5", "2", "40.0", "2", "0", "1", "-"]
    message = f"{path}: not all problems have equally many answers: 1 have 2, 1 have 3"
    assert message in output.err
    (file,) = (tmp_path / "out").glob("*/AIME/graded.jsonl")
    indexes = [(line["doc_id"], line["repeat"]) for line in read_jsonl(file)]
    assert indexes == [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2)]


DOC = {"problem": "p", "answer": "1"}
# A line, and what is wrong with it.
BAD_LINES: list[tuple[Row, str]] = [
    ({**row(), "doc": None}, "doc is missing or null, expected an object"),
    (row(1, None), "doc.answer, the reference answer, is missing or null"),
    (
        {**row(2), "doc": {"problem": "p"}},
        "no reference answer: doc has none of final_answer, answer, solution, found ['problem']",
    ),
    (
        {**row(3), "resps": []},
        "resps, the answer, is a list, expected a list with one list of responses",
    ),
    (row(4, response=None), "resps[0][0], the answer, is missing or null, expected text"),
    ({**row(5), "resps": [[]]}, "resps[0][0], the answer, is missing or null, expected text"),
    ({**row(6), "resps": [["1", 2]]}, "resps[0][1], the answer, is 2, expected text"),
    (
        {**row("7"), "doc": {"answer": ""}},
        "doc_id is a str, expected a whole number; doc.problem, the problem, is missing or null,"
        " expected text; doc.answer, the reference answer, is empty",
    ),
    (
        {**row(8), "doc": {**DOC, "final_answer": []}},
        "doc.final_answer, the reference answer, is missing or null",
    ),
    (
        {**row(9), "doc": {"question": 1, "solution": "no box"}},
        "doc.question, the problem, is 1, expected text; doc.solution, the reference answer,"
        " holds no answer in a closed box",
    ),
    (row(10, float("nan")), "doc.answer, the reference answer, is nan"),
    (row(11, {"value": 1}), "doc.answer, the reference answer, is a dict"),
    (
        row(True, True),
        "doc_id is True, expected a whole number; doc.answer, the reference answer, is True",
    ),
    (row(12, filter=[]), "filter is a list, expected text"),
]


def test_all_bad_lines_of_all_files_are_named_at_once(tmp_path: Path, grade: Grade) -> None:
    path = write_samples(tmp_path, row(99), *(line for line, _ in BAD_LINES))
    other = write_samples(tmp_path, task="AMC")
    refused = grade(tmp_path, "--out", tmp_path / "out").err.removeprefix("error: ").splitlines()
    assert not (tmp_path / "out").exists()
    assert len(refused) == len(BAD_LINES) + 1
    for number, (line, (_, message)) in enumerate(zip(refused, BAD_LINES, strict=False), 2):
        assert line.startswith(f"{path}:{number}: {message}")
    assert refused[-1] == f"{other}: no rows"


# --------------------------------------------------------------------------- hostile lines


LINE = json.dumps(row())


def edited(old: str, new: str) -> str:
    """Return a good line, changed."""
    assert old in LINE
    return LINE.replace(old, new)


def with_gold(text: str) -> str:
    return edited('"answer": "25"', f'"answer": {text}')


HOSTILE: dict[str, tuple[str, str | None]] = {
    "deep": (edited('"25"', "[" * 100_000 + "]" * 100_000), "not valid JSON"),
    "giant number": (edited('"doc_id": 0', '"doc_id": ' + "9" * 5000), "not valid JSON"),
    "big gold": (with_gold("9" * 4000), None),
    "infinite gold": (with_gold("1e999"), "is inf"),
    "nan gold": (with_gold("NaN"), "is nan"),
    "endless tolerance": (with_gold('"25", "error": "1e999999999"'), None),
    "nan item": (with_gold('"25", "error": NaN, "unit": NaN'), None),
    "open boxes": (json.dumps(row(response="\\boxed{" * 200_000)), None),
    "many boxes": (json.dumps(row(response="\\boxed{1}, " * 100_000)), None),
    "many final answers": (json.dumps(row(response="final answer is " * 100_000)), None),
    "giant response": (json.dumps(row(response="1,234 " * 300_000)), None),
    "control characters": (json.dumps(row(response="\x00\u202e\x1b[2J")), None),
    "lone surrogate": (edited("p0", "\\ud800").replace("boxed{25}", "boxed{\\ud800}"), None),
    "null": ("null", "found a NoneType"),
    "text": ('"text"', "found a str"),
    "empty": ("{}", "doc_id is missing or null"),
}
for depth in (200, 400, 900):
    nested = "[" * depth + "]" * depth
    HOSTILE[f"nested gold {depth}"] = with_gold(nested), ""
    HOSTILE[f"nested filter {depth}"] = edited('"filter": "none"', f'"filter": {nested}'), ""
    HOSTILE[f"nested unit {depth}"] = with_gold(f'"25", "unit": {nested}'), None


@pytest.mark.parametrize(("line", "message"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_line_is_graded_or_refused(
    line: str, message: str | None, tmp_path: Path, grade: Grade
) -> None:
    path = tmp_path / f"samples_gsm8k_{RUN}.jsonl"
    path.write_text(line + "\n", encoding="utf-8")
    output = grade(tmp_path, "--out", tmp_path / "out")
    assert (tmp_path / "out/grading.json").is_file() == (message is None)
    if message is None:
        assert output.total[1] == "1"
    else:
        assert f"{path}:1: " in output.err and message in output.err and len(output.err) < 2000


def test_of_an_item_only_what_the_rules_can_use_is_kept() -> None:
    used = {"tolerance": "1e-2", "is_multiple_answer": False}
    doc = {**DOC, "unit": float("nan"), "error": "1e999999999", **used}
    assert lm_eval_samples.parse({**row(), "doc": doc}).item == used


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)
keys = st.sampled_from(["doc_id", "doc", "resps", "filter", "finish_reason"])
doc_keys = st.sampled_from([*PROBLEM_COLUMNS, *GOLD_COLUMNS, *ITEM_COLUMNS])


@given(st.dictionaries(keys, json_values), st.dictionaries(doc_keys, json_values))
def test_any_row_is_an_entry_or_a_message(broken: Row, doc: Row) -> None:
    for candidate in (broken, {**row(), "doc": doc}, {**row(), **broken}):
        try:
            entry = lm_eval_samples.parse(json.loads(json.dumps(candidate)))
        except ValueError as error:
            assert str(error) and len(str(error)) < 1500
        else:
            assert entry == entry._replace()  # no NaN in it
            assert all(isinstance(response, str) for response in entry.responses)
            assert gold_text(entry.gold)


good_lines = st.integers(0, 3).map(lambda doc_id: json.dumps(row(doc_id)).encode())


@given(st.lists(st.binary(max_size=40) | good_lines, max_size=6))
def test_any_bytes_are_rows_or_a_message_with_their_line(
    tmp_path_factory: pytest.TempPathFactory, parts: list[bytes]
) -> None:
    path = tmp_path_factory.mktemp("lines") / f"samples_AIME_{RUN}.jsonl"
    path.write_bytes(b"\n".join(parts))
    try:
        entries, _ = lm_eval_samples.read(path)
    except InputError as error:
        lines = [line for line in str(error).splitlines() if line]
        assert all(line.startswith((f"{path}:", "… and ")) for line in lines)
    else:
        doc_ids = [entry.doc_id for entry in entries]
        assert doc_ids == sorted(set(doc_ids)) and doc_ids

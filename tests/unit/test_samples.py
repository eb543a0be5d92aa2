"""samples: lm-eval's sample files are graded by the workflow's rules, and what is broken or ambiguous is never counted."""

import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gapgrid import answers, lmeval, samples
from gapgrid.maths.symbolic import Verifier
from gapgrid.records import InputError, Row, read_json, read_jsonl

SHARED = Path(__file__).parents[3] / "shared" / "data" / "grading"
needs_shared_data = pytest.mark.skipif(not SHARED.is_dir(), reason=f"no {SHARED}")
RUN, LATER = "2025-01-01T00-00-00.000000", "2025-02-01T00-00-00.000001"
GRADED = {"doc_id", "repeat", "gold", "answer", "found_by", "rule_correct", "rule", "rejected_by"}
PENDING = {"doc_id", "repeat", "problem", "gold", "answer", "rejected_by"}


def row(doc_id: Any = 0, answer: Any = "25", response: Any = r"\boxed{25}", **more: Any) -> Row:
    """One line as lm-eval writes it."""
    doc = {"problem": f"p{doc_id}", "answer": answer}
    return {"doc_id": doc_id, "doc": doc, "target": "25", "resps": [[response]], "filtered_resps": [response], "filter": "none", **more}


OK = (row(0), row(1, "7", r"\boxed{8}"), row(2, "3", "no box"))


def put(folder: Path, *rows: Row, task: str = "AIME", run: str = RUN) -> Path:
    """A sample file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"samples_{task}_{run}.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in rows), encoding="ascii")
    return path


def grade(*arguments: object) -> int:
    """The command's exit status."""
    return samples.main([str(argument) for argument in arguments])


def lines(text: str) -> dict[tuple[str, str], list[str]]:
    """(model, task) -> the counts in its line of the table; the total under ("total", "")."""
    table = text.split("\n\n")[0].splitlines()
    n_counts = 8
    cells = [line.split() for line in table[1:]]
    return {(" ".join(line[:-n_counts][:1]), " ".join(line[:-n_counts][1:])): line[-n_counts:] for line in cells}


def counts(folder: Path, capsys: pytest.CaptureFixture[str], *arguments: object) -> list[str]:
    """The counts of the only task in a folder: problems, n, correct, %, rejected, undecided, no answer, truncated."""
    assert grade("--samples", folder, *arguments) == 0
    found = lines(capsys.readouterr().out)
    (only,) = [value for (model, _), value in found.items() if model != "total"]
    assert found["total", ""] == only
    return only


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """What stands on stderr when the command refuses; nothing may stand on stdout."""
    assert grade(*arguments) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: ")
    return said.err


# --------------------------------------------------------------------------- hostile and real files

HOSTILE = {
    "ok": (3, 1, 1),
    "blank_lines": (3, 1, 1),
    "duplicate_doc": (3, 1, 1),
    "float_gold": (2, 2, 0),
    "list_gold": (1, 1, 0),
    "missing_fields": ("1: doc is missing", "2: doc.answer, the reference answer, is missing or null", "3: no reference answer"),
    "no_files": ("no files samples_",),
    "truncated": (".jsonl:4: not valid JSON",),
    "two_runs": ("2 runs of AIME: 2025-01-01T00-00-00.000000, 2025-01-02T00-00-00.000000", "--run"),
}


@needs_shared_data
def test_every_hostile_folder_has_its_test() -> None:
    assert HOSTILE.keys() == read_json(SHARED / "hostile_files/EXPECTED.json").keys()


@needs_shared_data
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_folder_is_graded_or_refused(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, expected = SHARED / "hostile_files" / name, HOSTILE[name]
    if isinstance(expected[0], str):
        said = refused(capsys, "--samples", folder, "--out", tmp_path / "out")
        assert all(part in said for part in map(str, expected)), said
        assert not (tmp_path / "out").exists()
        return
    assert grade("--samples", folder) == 0
    said = capsys.readouterr()
    (found,) = (value for (model, _), value in lines(said.out).items() if model == name)
    assert (int(found[1]), int(found[2]), int(found[6])) == expected
    assert ("doc_id 0 again, as on line 1" in said.err) == (name == "duplicate_doc")


@needs_shared_data
def test_real_answers_are_graded_as_their_audited_labels_say(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = SHARED / "lm_eval_samples"
    expected = read_json(folder / "EXPECTED.json")
    assert grade("--samples", folder, "--out", tmp_path) == 0
    table = lines(capsys.readouterr().out)
    assert len(expected) == 8 and table["total", ""][1] == "2490"
    verdicts: Counter[tuple[str, bool]] = Counter()
    for name, entry in expected.items():
        model, file = name.split("/")
        task = file.removeprefix("samples_").rpartition("_")[0]
        assert int(table[model, task][1]) == entry["n"]
        rows = read_jsonl(tmp_path / model / task / "graded.jsonl")
        assert {one["doc_id"] for one in rows} == set(range(entry["n"])) and all(one.keys() == GRADED for one in rows)
        for one, label in zip(rows, entry["labels"], strict=True):
            state = "accepted" if one["rule_correct"] else "rejected" if one["rejected_by"] else "left"
            verdicts[state, label] += 1
    assert verdicts["rejected", True] == 0
    assert verdicts["accepted", False] <= 3  # the labels take the last of several boxes alone
    assert verdicts["left", True] <= 0.005 * 2490
    cost = read_json(tmp_path / "grading.json")["judge"]
    assert cost["n_calls"] < 0.2 * cost["n_script_calls"] and (cost["n_loads"], cost["n_script_loads"]) == (1, 8)


# --------------------------------------------------------------------------- files


def test_a_task_never_reads_the_files_of_a_task_whose_name_it_begins(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(tmp_path, row(0), row(1), task="hendrycks_math_500")
    put(tmp_path, *OK, task="hendrycks_math")
    put(tmp_path, row(0), task="hendrycks_math_500_x", run="2025-01-01T00-00-00")
    assert grade("--samples", tmp_path) == 0
    found = lines(capsys.readouterr().out)
    assert {task: value[1] for (_, task), value in found.items()} == {
        "hendrycks_math": "3",
        "hendrycks_math_500": "2",
        "hendrycks_math_500_x": "1",
        "": "6",
    }
    assert counts(tmp_path, capsys, "--task", "hendrycks_math")[1] == "3"
    assert "--task hendrycks: no samples of it, found hendrycks_math, " in refused(capsys, "--samples", tmp_path, "--task", "hendrycks")


def test_of_several_runs_one_has_to_be_chosen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(tmp_path, row(0, response=r"\boxed{1}"))
    put(tmp_path, row(0), run=LATER)
    put(tmp_path, *OK, task="AMC")
    said = refused(capsys, "--samples", tmp_path, "--out", tmp_path / "out")
    assert f"{tmp_path}: 2 runs of AIME: {RUN}, {LATER}; choose with --run latest or --run TIMESTAMP" in said and "AMC" not in said
    assert not (tmp_path / "out").exists()
    assert counts(tmp_path, capsys, "--task", "AIME", "--run", "latest")[2] == "1"
    assert counts(tmp_path, capsys, "--task", "AIME", "--run", RUN)[2] == "0"
    assert grade("--samples", tmp_path, "--run", LATER) == 0
    captured = capsys.readouterr()
    assert ("AMC" not in captured.out) and captured.err.count("of another run, left out") == 2
    assert f"--run 2024: no samples of it, found {RUN}, {LATER}" in refused(capsys, "--samples", tmp_path, "--run", "2024")
    put(tmp_path / "other", *OK)
    put(tmp_path / "another", *OK, run=LATER)
    assert grade("--samples", tmp_path / "other", "--samples", tmp_path / "another") == 0


def test_folders_of_models_are_told_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for mix in ("long", "short"):
        put(tmp_path / mix / "org__student", *OK)
    assert grade("--samples", tmp_path / "long", "--samples", tmp_path / "short", "--samples", tmp_path / "long") == 0
    assert list(lines(capsys.readouterr().out)) == [("long/org__student", "AIME"), ("short/org__student", "AIME"), ("total", "")]
    assert grade("--samples", tmp_path / "long", "--out", tmp_path / "out") == 0
    assert ("org__student", "AIME") in lines(capsys.readouterr().out)
    assert (tmp_path / "out/org__student/AIME/graded.jsonl").is_file()
    assert grade("--samples", tmp_path) == 0
    assert len(lines(capsys.readouterr().out)) == 3


def test_folders_without_samples_are_all_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(tmp_path / "good", *OK)
    put(tmp_path / "odd", *OK, run="2025-01-01")
    (tmp_path / "odd" / "results_2025-01-01T00-00-00.000000.json").write_text("{}")
    folders = [argument for name in ("good", "odd", "none") for argument in ("--samples", tmp_path / name)]
    assert grade(*folders) == 1
    said = capsys.readouterr().err
    assert f"{tmp_path / 'odd'}: no files samples_{{task}}_{{timestamp}}.jsonl" in said
    assert f"{tmp_path / 'none'}: not a folder" in said and "good" not in said
    assert "samples_AIME_2025-01-01.jsonl: left out, its name is not" in said


@pytest.mark.parametrize("name", ["samples_.._2025-01-01T00-00-00.000000.jsonl", "samples__2025-01-01T00-00-00.000000.jsonl"])
def test_a_name_that_is_no_task_is_left_out(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(json.dumps(row()))
    with pytest.raises(InputError, match="no files"):
        lmeval.find([tmp_path])


def test_a_file_that_cannot_be_read_is_one_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / f"samples_AIME_{RUN}.jsonl").mkdir()
    assert f"samples_AIME_{RUN}.jsonl" in refused(capsys, "--samples", tmp_path)


# --------------------------------------------------------------------------- lines


def test_windows_lines_a_byte_order_mark_and_blank_lines_change_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = put(tmp_path, *OK)
    plain = counts(tmp_path, capsys)
    assert plain == ["3", "3", "1", "33.3", "1", "0", "1", "-"]
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n\r\n  \r\n"))
    assert counts(tmp_path, capsys) == plain


def test_a_doc_written_twice_counts_once_and_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = put(tmp_path, *OK, OK[1])
    assert grade("--samples", tmp_path, "--out", tmp_path / "out") == 0
    said = capsys.readouterr()
    assert f"note: {path}:4: doc_id 1 again, as on line 2; counted once" in said.err
    assert lines(said.out)["total", ""][1] == "3"
    (task,) = read_json(tmp_path / "out/grading.json")["tasks"]
    assert task["notes"] == [f"{path.name}:4: doc_id 1 again, as on line 2; counted once"]
    path = put(tmp_path, *OK, row(1, "7", r"\boxed{7}"))
    assert f"{path}:4: doc_id 1 is on line 2 with another responses\n" in refused(capsys, "--samples", tmp_path)


def test_several_filters_are_one_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    filtered = [{**one, "filter": name, "filtered_resps": [name]} for name in ("strict-match", "flexible-extract") for one in OK]
    path = put(tmp_path, *filtered)
    assert counts(tmp_path, capsys)[:3] == ["3", "3", "1"]
    assert counts(tmp_path, capsys, "--filter", "strict-match")[:3] == ["3", "3", "1"]
    assert f"{path}: no rows of filter 'none', found ['flexible-extract', 'strict-match']" in refused(
        capsys, "--samples", tmp_path, "--filter", "none"
    )
    path = put(tmp_path, *filtered[:-1], row(2, "3", r"\boxed{3}", filter="flexible-extract"))
    assert f"{path}:6: doc_id 2 is on line 3 with another responses (choose with --filter)" in refused(capsys, "--samples", tmp_path)
    assert counts(tmp_path, capsys, "--filter", "flexible-extract")[2] == "2"


def test_every_repeat_is_graded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = put(tmp_path, row(1, resps=[[r"\boxed{25}", "none", r"\boxed{25.0}"]]), row(0, resps=[[r"\boxed{2}", r"\boxed{3}"]]))
    assert grade("--samples", tmp_path, "--out", tmp_path / "out") == 0
    said = capsys.readouterr()
    assert lines(said.out)["total", ""] == ["2", "5", "2", "40.0", "2", "0", "1", "-"]
    assert f"{path}: not all problems have equally many answers: 1 have 2, 1 have 3" in said.err
    (folder,) = (tmp_path / "out").glob("*/AIME")
    places = [(one["doc_id"], one["repeat"]) for one in read_jsonl(folder / "graded.jsonl")]
    assert places == [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2)]


def test_cut_off_answers_are_counted_where_the_file_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(tmp_path, row(0, finish_reason=["stop"]), row(1, finish_reason="length"))
    assert counts(tmp_path, capsys)[-1] == "1"
    put(tmp_path, row(0, finish_reason="length"), row(1))
    assert counts(tmp_path, capsys)[-1] == "-"


def test_all_bad_lines_of_all_files_are_named_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    doc = {"problem": "p", "answer": "1"}
    one = put(
        tmp_path,
        {**row(), "doc": None},
        row(1),
        row(2, None),
        {**row(3), "doc": {"problem": "p"}},
        {**row(4), "resps": []},
        row(5, response=None),
        {**row(6), "resps": [[]]},
        {**row(7), "resps": [["1", 2]]},
        {**row("8"), "doc": {"answer": ""}},
        {**row(9), "doc": {**doc, "final_answer": []}},
        {**row(10), "doc": {"question": 1, "solution": "no box"}},
        row(11, float("nan")),
        row(12, {"value": 1}),
        row(True, True),
        row(15, filter=[]),
    )
    other = put(tmp_path, task="AMC")
    said = refused(capsys, "--samples", tmp_path, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    expected = [
        "1: doc is missing or null, expected an object",
        "3: doc.answer, the reference answer, is missing or null",
        "4: no reference answer: doc has none of final_answer, answer, solution, found ['problem']",
        "5: resps, the answer, is a list, expected a list with one list of responses",
        "6: resps[0][0], the answer, is missing or null, expected text",
        "7: resps[0][0], the answer, is missing or null, expected text",
        "8: resps[0][1], the answer, is 2, expected text",
        "9: doc_id is a str, expected a whole number; doc.problem, the problem, is missing or null, expected text; doc.answer, the",
        "10: doc.final_answer, the reference answer, is missing or null",
        "11: doc.question, the problem, is 1, expected text; doc.solution, the reference answer, holds no answer in a closed box",
        "12: doc.answer, the reference answer, is nan",
        "13: doc.answer, the reference answer, is a dict",
        "14: doc_id is True, expected a whole number; doc.answer, the reference answer, is True",
        "15: filter is a list, expected text",
    ]
    assert [line.partition(f"{one}:")[2][: len(wanted)] for line, wanted in zip(said.splitlines(), expected, strict=False)] == expected
    assert said.splitlines()[-1] == f"{other}: no rows"


def test_a_broken_line_leaves_what_was_written_before(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = put(tmp_path / "in", *OK)
    put(tmp_path / "in", *OK, task="AMC")
    arguments = ("--samples", tmp_path / "in", "--out", tmp_path / "out")
    assert grade(*arguments) == 0
    before = {file: file.read_bytes() for file in (tmp_path / "out").rglob("*") if file.is_file()}
    capsys.readouterr()
    with open(path, "a") as file:
        file.write(json.dumps(row(3))[:60])
    assert f"{path}:4: not valid JSON" in refused(capsys, *arguments)
    assert {file: file.read_bytes() for file in (tmp_path / "out").rglob("*") if file.is_file()} == before


def test_an_interrupted_write_leaves_no_sign_of_completion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "in", *OK)
    arguments = ("--samples", tmp_path / "in", "--out", tmp_path / "out")
    assert grade(*arguments) == 0
    assert (tmp_path / "out/grading.json").is_file()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(samples.exports, "write_exports", full)
    assert grade(*arguments) == 1
    assert not (tmp_path / "out/grading.json").exists()


# --------------------------------------------------------------------------- answers


@pytest.mark.parametrize(
    ("doc", "response", "gold"),
    [
        ({"problem": "p", "answer": 27.0}, r"\boxed{27}", "27.0"),
        ({"problem": "p", "answer": 0.5}, r"\boxed{\frac12}", "0.5"),
        ({"problem": "p", "answer": 7}, r"\boxed{7}", "7"),
        ({"question": "q", "final_answer": ["$2n-2$"], "answer": "no"}, r"\boxed{2n-2}", "$2n-2$"),
        ({"question": "q", "final_answer": ["1", 3.0], "is_multiple_answer": True}, r"\boxed{3, 1}", "1, 3.0"),
        ({"question": "q", "final_answer": ["10"], "unit": "km"}, r"\boxed{10 \text{ km}}", "10"),
        ({"question": "q", "final_answer": ["10"], "error": "1e-1"}, r"\boxed{10.05}", "10"),
        ({"problem": "p", "solution": r"It is $1+1$, so $\boxed{2}$."}, r"\boxed{2}", "2"),
        ({"problem": "p", "answer": "2+3 = 5\n#### 5"}, r"\boxed{5}", "5"),
    ],
)
def test_a_reference_comes_in_many_forms(doc: Row, response: str, gold: str, tmp_path: Path) -> None:
    path = put(tmp_path, {**row(response=response), "doc": doc})
    entries, _ = lmeval.read(path)
    with Verifier() as verifier:
        done = samples.grade_entries("m", lmeval.find([tmp_path])[0], entries, [], "boxed", verifier)
    assert (done.graded[0]["gold"], done.graded[0]["rule_correct"]) == (gold, True)


def test_a_column_may_be_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(tmp_path, {**row(), "doc": {"Problem": "p", "Answer": "25"}})
    assert "doc.problem" in refused(capsys, "--samples", tmp_path)
    assert counts(tmp_path, capsys, "--gold-column", "Answer", "--problem-column", "Problem")[2] == "1"


def test_the_last_number_counts_for_gsm8k_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(tmp_path, row(response="so 25 in all"), task="gsm8k_cot_zeroshot")
    assert counts(tmp_path, capsys)[2] == "1"
    assert counts(tmp_path, capsys, "--grader", "boxed")[6] == "1"
    assert samples.grader_of("hendrycks_math") == "boxed"


def test_rows_and_the_judges_cost_are_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    odd = row(3, r"\text{the left half}", r"\boxed{a half plane}")
    stated = row(4, "5", "The answer is 6.")
    for model in ("one", "two"):
        put(tmp_path / "in" / model, *OK, odd, stated)
    assert grade("--samples", tmp_path / "in", "--out", tmp_path / "out") == 0
    said = capsys.readouterr().out
    assert lines(said)["two", "AIME"] == ["5", "5", "1", "20.0", "2", "1", "1", "-"]
    assert "judge: 2 of 10 answers undecided, 1 unique (problem, reference, answer): 1 calls, 1 load(s)" in said
    assert "once per model and task: 4 calls, 2 load(s)" in said
    for model in ("one", "two"):
        folder = tmp_path / "out" / model
        assert all(one.keys() == GRADED for one in read_jsonl(folder / "AIME/graded.jsonl"))
        pending = read_jsonl(folder / "AIME/pending.jsonl")
        assert all(one.keys() == PENDING for one in pending)
        assert [(one["doc_id"], one["problem"], one["rejected_by"]) for one in pending] == [
            (1, "p1", "number"),
            (3, "p3", None),
            (4, "p4", "number"),
        ]
        assert len(read_json(folder / "problematic_instances_AIME.json")) == 3
        assert read_json(folder / "summary_results_AIME.json")["exact_match_accuracy"] == 0.2


# --------------------------------------------------------------------------- what nobody should send


def hostile_lines() -> Iterator[Any]:
    """Lines that have broken readers."""
    deep = "[" * 100_000 + "]" * 100_000
    line = json.dumps(row())
    yield pytest.param(line.replace('"25"', deep), "not valid JSON", id="deep")
    for depth in (200, 400, 900):
        nested = "[" * depth + "]" * depth
        yield pytest.param(line.replace('"answer": "25"', f'"answer": {nested}'), "", id=f"nested gold {depth}")
        yield pytest.param(line.replace('"filter": "none"', f'"filter": {nested}'), "", id=f"nested filter {depth}")
        yield pytest.param(line.replace('"answer": "25"', f'"answer": "25", "unit": {nested}'), None, id=f"nested unit {depth}")
    yield pytest.param(line.replace('"doc_id": 0', '"doc_id": ' + "9" * 5000), "not valid JSON", id="giant number")
    yield pytest.param(line.replace('"answer": "25"', '"answer": ' + "9" * 4000), None, id="big gold")
    yield pytest.param(line.replace('"answer": "25"', '"answer": 1e999'), "is inf", id="infinite gold")
    yield pytest.param(line.replace('"answer": "25"', '"answer": NaN'), "is nan", id="nan gold")
    yield pytest.param(line.replace('"answer": "25"', '"answer": "25", "error": "1e999999999"'), None, id="endless tolerance")
    yield pytest.param(line.replace('"answer": "25"', '"answer": "25", "error": NaN, "unit": NaN'), None, id="nan item")
    yield pytest.param(line.replace("p0", "\\ud800").replace("boxed{25}", "boxed{\\ud800}"), None, id="lone surrogate")
    yield pytest.param(json.dumps(row(response="\\boxed{" * 200_000)), None, id="open boxes")
    yield pytest.param(json.dumps(row(response="\\boxed{1}, " * 100_000)), None, id="many boxes")
    yield pytest.param(json.dumps(row(response="final answer is " * 100_000)), None, id="many final answers")
    yield pytest.param(json.dumps(row(response="1,234 " * 300_000)), None, id="giant response")
    yield pytest.param(json.dumps(row(response="\x00\u202e\x1b[2J")), None, id="control characters")
    yield pytest.param("null", "found a NoneType", id="null")
    yield pytest.param('"text"', "found a str", id="text")
    yield pytest.param("{}", "doc_id is missing or null", id="empty")


@pytest.mark.parametrize(("line", "message"), list(hostile_lines()))
def test_a_hostile_line_is_graded_or_refused(line: str, message: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / f"samples_gsm8k_{RUN}.jsonl"
    path.write_text(line + "\n", encoding="utf-8")
    if message is None:
        assert counts(tmp_path, capsys, "--out", tmp_path / "out")[1] == "1"
        assert (tmp_path / "out/grading.json").is_file()
    else:
        said = refused(capsys, "--samples", tmp_path)
        assert f"{path}:1: " in said and message in said and len(said) < 2000


def test_of_an_item_only_what_the_rules_can_use_is_kept() -> None:
    doc = {"problem": "p", "answer": "1", "unit": float("nan"), "error": "1e999999999", "tolerance": "1e-2", "is_multiple_answer": False}
    assert lmeval.parse({**row(), "doc": doc}).item == {"tolerance": "1e-2", "is_multiple_answer": False}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
keys = st.sampled_from(["doc_id", "doc", "resps", "filter", "finish_reason"])
doc_keys = st.sampled_from(["problem", "question", "answer", "final_answer", "solution", "unit", "error", "is_multiple_answer"])


@given(st.dictionaries(keys, json_values), st.dictionaries(doc_keys, json_values))
def test_any_row_is_an_entry_or_a_message(broken: Row, doc: Row) -> None:
    for candidate in (broken, {**row(), "doc": doc}, {**row(), **broken}):
        try:
            entry = lmeval.parse(json.loads(json.dumps(candidate)))
        except ValueError as error:
            assert str(error) and len(str(error)) < 1500
        else:
            assert entry == entry._replace() and all(isinstance(response, str) for response in entry.responses)
            assert answers.gold_text(entry.gold)


@given(st.lists(st.binary(max_size=40) | st.builds(lambda doc_id: json.dumps(row(doc_id)).encode(), st.integers(0, 3)), max_size=6))
def test_any_bytes_are_rows_or_a_message_with_their_line(tmp_path_factory: pytest.TempPathFactory, parts: list[bytes]) -> None:
    path = tmp_path_factory.mktemp("lines") / f"samples_AIME_{RUN}.jsonl"
    path.write_bytes(b"\n".join(parts))
    try:
        entries, _ = lmeval.read(path)
    except InputError as error:
        assert all(line.startswith((f"{path}:", "… and ")) for line in str(error).splitlines() if line)
    else:
        doc_ids = [entry.doc_id for entry in entries]
        assert doc_ids == sorted(set(doc_ids)) and doc_ids


def test_a_folder_whose_name_is_no_utf8_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    try:
        put(folder, *OK)
    except OSError:
        pytest.skip("the file system wants UTF-8")
    assert grade("--samples", folder, "--out", tmp_path / "out") == 0
    assert "caf\\udce9" in capsys.readouterr().out

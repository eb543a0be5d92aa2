"""`gapgrid samples`: lm-eval's sample files are graded by the workflow's rules."""

import contextlib
import json
import os
from collections import Counter
from pathlib import Path

import pytest

from gapgrid.core.records import Row, read_json, read_jsonl
from gapgrid.core.rows import GradedRow, PendingRow
from gapgrid.interop import paper_exports
from tests.unit.interop.conftest import OK, Grade, row, write_samples


@pytest.fixture(scope="session")
def shared_data(repository: Path) -> Path:
    """Hostile and real sample files beside the repository; without them a test is skipped."""
    folder = repository.parent / "shared" / "data" / "grading"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    return folder


# n, correct, no answer; or what the refusal says.
HOSTILE: dict[str, tuple[str, ...]] = {
    "ok": ("3", "1", "1"),
    "blank_lines": ("3", "1", "1"),
    "duplicate_doc": ("3", "1", "1"),
    "float_gold": ("2", "2", "0"),
    "list_gold": ("1", "1", "0"),
    "missing_fields": (
        "error: ",
        "1: doc is missing",
        "2: doc.answer, the reference answer, is missing or null",
        "3: no reference answer",
    ),
    "no_files": ("error: ", "no files samples_"),
    "truncated": ("error: ", ".jsonl:4: not valid JSON"),
    "two_runs": (
        "error: ",
        "2 runs of AIME: 2025-01-01T00-00-00.000000, 2025-01-02T00-00-00.000000",
        "--run",
    ),
}


def test_every_hostile_folder_has_its_test(shared_data: Path) -> None:
    assert HOSTILE.keys() == read_json(shared_data / "hostile_files/EXPECTED.json").keys()


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_folder_is_graded_or_refused(
    name: str, shared_data: Path, tmp_path: Path, grade: Grade
) -> None:
    output = grade(shared_data / "hostile_files" / name, "--out", tmp_path / "out")
    is_refused = HOSTILE[name][0] == "error: "
    assert (output.status, (tmp_path / "out").exists()) == (int(is_refused), not is_refused)
    if is_refused:
        assert all(part in output.err for part in HOSTILE[name]), output.err
    else:
        (counts,) = (counts for (model, _), counts in output.table.items() if model == name)
        assert (counts[1], counts[2], counts[6]) == HOSTILE[name]
        assert ("doc_id 0 again, as on line 1" in output.err) == (name == "duplicate_doc")


def test_real_answers_are_graded_as_their_audited_labels_say(
    shared_data: Path, tmp_path: Path, grade: Grade
) -> None:
    folder = shared_data / "lm_eval_samples"
    expected = read_json(folder / "EXPECTED.json")
    output = grade(folder, "--out", tmp_path)
    assert len(expected) == 8 and output.total[1] == "2490"
    outcomes: Counter[tuple[str, bool]] = Counter()
    for name, entry in expected.items():
        model, file = name.split("/")
        task = file.removeprefix("samples_").rpartition("_")[0]
        assert output.table[model, task][1] == str(entry["n"])
        rows = read_jsonl(tmp_path / model / task / "graded.jsonl")
        assert {graded["doc_id"] for graded in rows} == set(range(entry["n"]))
        for graded, label in zip(rows, entry["labels"], strict=True):
            rejected = "rejected" if graded["rejected_by"] else "left"
            outcomes["accepted" if graded["rule_correct"] else rejected, label] += 1
    assert outcomes["rejected", True] == 0
    assert outcomes["accepted", False] <= 3  # the labels take the last of several boxes alone
    assert outcomes["left", True] <= 0.005 * 2490
    cost = read_json(tmp_path / "grading.json")["judge"]
    assert cost["n_calls"] < 0.2 * cost["n_script_calls"]
    assert (cost["n_loads"], cost["n_script_loads"]) == (1, 8)


# --------------------------------------------------------------------------- answers


@pytest.mark.parametrize(
    ("doc", "response", "gold"),
    [
        ({"answer": 27.0}, "27", "27.0"),
        ({"answer": 0.5}, r"\frac12", "0.5"),
        ({"answer": 7}, "7", "7"),
        ({"final_answer": ["$2n-2$"], "answer": "no"}, "2n-2", "$2n-2$"),
        ({"final_answer": ["1", 3.0], "is_multiple_answer": True}, "3, 1", "1, 3.0"),
        ({"final_answer": ["10"], "unit": "km"}, r"10 \text{ km}", "10"),
        ({"final_answer": ["10"], "error": "1e-1"}, "10.05", "10"),
        ({"solution": r"It is $1+1$, so $\boxed{2}$."}, "2", "2"),
        ({"answer": "2+3 = 5\n#### 5"}, "5", "5"),
    ],
)
def test_a_reference_comes_in_many_forms(
    doc: Row, response: str, gold: str, tmp_path: Path, grade: Grade
) -> None:
    line = row(response=rf"\boxed{{{response}}}", doc={"question": "q", **doc})
    write_samples(tmp_path / "in", line)
    assert grade(tmp_path / "in", "--out", tmp_path / "out").total[2] == "1"
    (graded,) = read_jsonl(tmp_path / "out/in/AIME/graded.jsonl")
    assert graded["gold"] == gold


def test_a_column_may_be_named(tmp_path: Path, grade: Grade) -> None:
    write_samples(tmp_path, row(doc={"Problem": "p", "Answer": "25"}))
    assert "doc.problem" in grade(tmp_path).err
    columns = ("--gold-column", "Answer", "--problem-column", "Problem")
    assert grade(tmp_path, *columns).total[2] == "1"


def test_the_last_number_counts_for_gsm8k_alone(tmp_path: Path, grade: Grade) -> None:
    for task, n_correct in (("gsm8k_cot_zeroshot", "1"), ("hendrycks_math", "0")):
        write_samples(tmp_path, row(response="so 25 in all"), task=task)
        assert grade(tmp_path, "--task", task).total[2] == n_correct
    assert grade(tmp_path, "--grader", "boxed").total[6] == "2"


def test_cut_off_answers_are_counted_where_the_file_tells(tmp_path: Path, grade: Grade) -> None:
    cut_off = row(0, finish_reason="length")
    write_samples(tmp_path, cut_off, row(1, finish_reason=["stop"]))
    assert grade(tmp_path).total[-1] == "1"
    write_samples(tmp_path, cut_off, row(1))
    assert grade(tmp_path).total[-1] == "-"


# --------------------------------------------------------------------------- output


def test_rows_and_the_judges_cost_are_written(tmp_path: Path, grade: Grade) -> None:
    undecided = row(3, r"\text{the left half}", r"\boxed{a half plane}")
    stated = row(4, "5", "The answer is 6.")
    for model in ("one", "two"):
        write_samples(tmp_path / "in" / model, *OK, undecided, stated)
    output = grade(tmp_path / "in", "--out", tmp_path / "out")
    assert output.table["two", "AIME"] == ["5", "5", "1", "20.0", "2", "1", "1", "-"]
    unique = "1 unique (problem, reference, answer): 1 calls, 1 load(s)"
    assert f"judge: 2 of 10 answers undecided, {unique}" in output.out
    assert "once per model and task: 4 calls, 2 load(s)" in output.out
    for model in ("one", "two"):
        folder = tmp_path / "out" / model
        graded, pending = (
            read_jsonl(folder / f"AIME/{name}.jsonl") for name in ("graded", "pending")
        )
        assert all(line.keys() == GradedRow.__annotations__.keys() for line in graded)
        assert all(line.keys() == PendingRow.__annotations__.keys() for line in pending)
        assert [(line["doc_id"], line["problem"], line["rejected_by"]) for line in pending] == [
            (1, "p1", "number"),
            (3, "p3", None),
            (4, "p4", "number"),
        ]
        assert len(read_json(folder / "problematic_instances_AIME.json")) == 3
        assert read_json(folder / "summary_results_AIME.json")["exact_match_accuracy"] == 0.2


def test_a_broken_line_leaves_what_was_written_before(tmp_path: Path, grade: Grade) -> None:
    path = write_samples(tmp_path / "in", *OK)
    write_samples(tmp_path / "in", *OK, task="AMC")

    def written() -> dict[Path, bytes]:
        files = [file for file in (tmp_path / "out").rglob("*") if file.is_file()]
        return {file: file.read_bytes() for file in files}

    assert grade(tmp_path / "in", "--out", tmp_path / "out").status == 0
    before = written()
    with open(path, "a") as file:
        file.write(json.dumps(row(3))[:60])
    refused = grade(tmp_path / "in", "--out", tmp_path / "out").err
    assert f"{path}:4: not valid JSON" in refused
    assert before and written() == before


def test_an_interrupted_write_leaves_no_sign_of_completion(
    tmp_path: Path, grade: Grade, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_samples(tmp_path / "in", *OK)
    assert grade(tmp_path / "in", "--out", tmp_path / "out").status == 0
    assert (tmp_path / "out/grading.json").is_file()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(paper_exports, "write_exports", fail)
    with contextlib.suppress(OSError):
        assert grade(tmp_path / "in", "--out", tmp_path / "out").status == 1
    assert not (tmp_path / "out/grading.json").exists()


def test_a_folder_whose_name_is_no_utf8_is_printed(tmp_path: Path, grade: Grade) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    try:
        write_samples(folder, *OK)
    except OSError:
        pytest.skip("the file system wants UTF-8")
    assert "caf\\udce9" in grade(folder, "--out", tmp_path / "out").out

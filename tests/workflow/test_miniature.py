"""The reduced miniature: real training, full and LoRA, real lm-eval, from data to report."""

import csv
import shutil
from pathlib import Path

import pytest

from gapgrid.core.records import read_jsonl
from tests.workflow.conftest import Project

TRAINING_CELLS = ["full/none/0", "full/short/0", "full/mixed/0", "lora/short/0", "lora/mixed/0"]


@pytest.fixture(scope="module")
def mini(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = Project.create(
        tmp_path_factory.mktemp("mini") / "project", "mini", Path(__file__).parent / "mini"
    )
    done = project.snakemake()
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return project


def test_second_run_has_nothing_to_do(mini: Project) -> None:
    assert mini.is_done()


def test_every_cell_has_all_its_rows(mini: Project) -> None:
    for cell in TRAINING_CELLS:
        for benchmark, n_rows in (("easy", 12), ("sampled", 12)):
            folder = mini.result(f"grade/{cell}/{benchmark}")
            samples, graded = (
                read_jsonl(folder / "samples.jsonl"),
                read_jsonl(folder / "graded.jsonl"),
            )
            assert len(samples) == len(graded) == n_rows
            assert {
                "doc_id",
                "repeat",
                "problem",
                "gold",
                "prompt_sha",
                "response",
                "n_tokens",
                "finish",
            } == samples[0].keys()
            score = mini.json(f"score/{cell}/{benchmark}/score.json")
            verdicts = read_jsonl(mini.result(f"score/{cell}/{benchmark}/verdicts.jsonl"))
            assert score["n"] == n_rows == len(verdicts)
            assert score["n_truncated"] == sum(row["finish"] == "length" for row in samples)
            assert score["n_no_answer"] == sum(row["answer"] is None for row in graded)
            assert (
                score["acc"]
                == score["acc_rule"]
                == sum(row["rule_correct"] for row in graded) / n_rows
            )
            assert score["acc_judged"] is None and score["n_judged"] == 0


def test_training_is_recorded(mini: Project) -> None:
    for cell in TRAINING_CELLS:
        rows = read_jsonl(mini.result(f"train/{cell}/metrics.jsonl"))
        assert (
            rows
            and {"step", "epoch", "loss", "learning_rate", "tokens", "tokens_per_s"}
            <= rows[0].keys()
        )
        assert not mini.result(f"train/{cell}/scratch").exists()
        manifest = mini.json(f"train/{cell}/manifest.json")
        assert manifest["engines"]["transformers"] and manifest["facts"]["n_rows"] in (80, 640)
    log = mini.log("train/full/short/0")
    assert "tokens/s" in log and "loss" in log


def test_tables_and_figures(mini: Project) -> None:
    with mini.result("tables/gap.estimates.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    gaps = [row for row in rows if row["quantity"] == "gap"]
    assert {(row["model"], row["benchmark"]) for row in gaps} == {
        (model, benchmark)
        for model in ("full", "lora")
        for benchmark in ("easy", "sampled", "average")
    }
    assert {row["model"]: float(row["params_b"]) for row in gaps} == {
        "full": 7.232e-6,
        "lora": 26.24e-6,
    }
    assert all(float(row["low"]) <= float(row["estimate"]) <= float(row["high"]) for row in gaps)
    for name in ("gap.pdf", "gap.svg", "accuracy.pdf", "accuracy.svg"):
        assert mini.result(f"figures/{name}").stat().st_size > 1000


def test_tokens_and_cases(mini: Project) -> None:
    summary = mini.json("shift/full/mixed/0/easy/shift.json")
    types = read_jsonl(mini.result("shift/full/mixed/0/easy/shift.jsonl"))
    assert summary["n_answers"] == 6 and summary["n_tokens"] == sum(row["n"] for row in types) > 0
    assert 0 < summary["n_shifted"] <= summary["n_tokens"]
    samples = read_jsonl(mini.result("grade/full/mixed/0/easy/samples.jsonl"))[::2]
    kept = summary["n_answers"] - summary["n_mismatched"]
    assert summary["n_tokens"] <= sum(sample["n_tokens"] for sample in samples) and kept > 0
    assert mini.result("figures/tokens.svg").stat().st_size > 1000
    assert "of 12 problems of easy match" in mini.result("cases/cases.html").read_text()


def test_verify_and_summary(mini: Project) -> None:
    verified = mini.gapgrid("verify")
    assert verified.returncode == 0, verified.stdout
    shown = mini.gapgrid("summary")
    assert shown.returncode == 0
    assert "mixed − short (points)" in shown.stdout and "best constant guess" in shown.stdout


def test_report(mini: Project) -> None:
    done = mini.snakemake("--report", "results/mini/report.html")
    assert done.returncode == 0, done.stderr[-2000:]
    text = mini.result("report.html").read_text()
    assert "gap.svg" in text and "accuracy.svg" in text and "A gap." in text
    assert '"trained on": "mixed, short"' in text and '"benchmarks": "easy, sampled"' in text, (
        "labels"
    )
    assert "Training, answering, grading, intervals" in text and "12 problems" in text, (
        "the methods text"
    )
    assert "tokens.svg" in text and "cases.html" in text


def test_retrained_from_scratch_is_the_same(mini: Project, tmp_path: Path) -> None:
    """A folder of its own, nothing carried over: the same manifests to the byte."""
    again = Project.create(tmp_path / "project", "mini", Path(__file__).parent / "mini")
    target = "results/mini/grade/lora/mixed/0/sampled/manifest.json"
    assert again.snakemake("--", target).returncode == 0
    for name in (
        "train/lora/none/0/manifest.json",
        "train/lora/mixed/0/manifest.json",
        target.removeprefix("results/mini/"),
    ):
        assert again.result(name).read_bytes() == mini.result(name).read_bytes(), name


def test_student_from_a_local_folder(mini: Project, tmp_path: Path) -> None:
    """One entry makes a trained model a new student."""
    project = mini.copy(tmp_path / "project")
    shutil.copytree(project.result("train/full/short/0/model"), project.path("my-student"))
    entry = {"kind": "path", "path": "my-student", "family": "mine", "params_b": 7.2e-6}
    entry |= {"recipe": "full", "size": "tiny"}
    project.edit("models", lambda document: document.update(mine=entry))
    project.edit("experiments", lambda document: document["gap"].update(models=["full", "mine"]))
    done = project.snakemake()
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert project.json("score/mine/short/0/easy/score.json")["n"] == 12


def test_adopting_a_checkpoint_touches_its_cell_alone_and_so_does_training_it_again(
    mini: Project, tmp_path: Path
) -> None:
    project = mini.copy(tmp_path / "project")
    shutil.copytree(project.result("train/full/mixed/0/model"), project.path("published"))
    file = project.path("config/mini/adopted.yaml")
    file.write_text("full/short/0: {path: published}\n")
    expected = {"train/full/short/0", "evaluate/full/short/0"}
    expected |= {
        f"{stage}/full/short/0/{benchmark}"
        for stage in ("grade", "score")
        for benchmark in ("easy", "sampled")
    }

    def of_cells(jobs: set[str]) -> set[str]:
        return {job for job in jobs if job.count("/") >= 3 and not job.startswith("shift/")}

    assert of_cells(project.jobs()) == expected
    manifest = project.json("train/full/short/0/manifest.json")
    assert (
        manifest["spec"]["adopt"] == {"path": "published"}
        and manifest["facts"]["adopted"] == "full"
    )
    scores = {
        project.json(f"score/full/{mix}/0/easy/score.json")["verdicts_sha256"]
        for mix in ("short", "mixed")
    }
    assert len(scores) == 1, "the same weights answer the same"
    file.unlink()
    assert of_cells(project.jobs()) == expected
    again = project.result("train/full/short/0/manifest.json").read_bytes()
    assert again == mini.result("train/full/short/0/manifest.json").read_bytes()

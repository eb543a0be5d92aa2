"""layout: the paths of results and logs, as patterns for rules and as paths of one job."""

from pathlib import Path

import pytest

from gapgrid.core import layout

NAMES = ("xs", "long", 0, "k2")


@pytest.mark.parametrize(
    ("stage", "names", "file", "expected"),
    [
        ("tokenizer", (), "", "tokenizer/manifest.json"),
        ("fetch", ("models", "big"), "", "hub/models/big/manifest.json"),
        ("train", NAMES[:3], "", "train/xs/long/0/manifest.json"),
        ("base", ("xs", 0), "", "train/xs/none/0/manifest.json"),
        ("request", NAMES, "", "requests/xs/long/0/k2.spec"),
        ("grade", NAMES, "pending.jsonl", "grade/xs/long/0/k2/pending.jsonl"),
        ("judge", (), "", "judge/round.json"),
        ("table", ("gap",), "csv", "tables/gap.csv"),
    ],
)
def test_a_job_has_its_path(
    stage: str, names: tuple[object, ...], file: str, expected: str
) -> None:
    assert layout.path(stage, *names, file=file) == expected


@pytest.mark.parametrize("stage", layout.PREFIXES)
def test_a_wrong_number_of_names_is_an_error(stage: str) -> None:
    names = layout.wildcards(stage)
    layout.path(stage, *names)
    for wrong in ([*names, "more"], names[:-1] if names else ["one"]):
        with pytest.raises(ValueError, match="argument 2 is"):
            layout.path(stage, *wrong)


def test_patterns_hold_wildcards_and_logs_follow_them() -> None:
    assert layout.wildcards("score") == ["model", "mix", "seed", "benchmark"]
    assert layout.pattern("score") == "score/{model}/{mix}/{seed}/{benchmark}/manifest.json"
    assert layout.log("train") == "train/{model}/{mix}/{seed}.log"
    assert layout.log("judge", "tsv") == "judge.tsv"


def test_the_same_cell_in_another_stage() -> None:
    results = Path("/data/results/demo")
    score = results / layout.path("score", *NAMES)
    graded = layout.same_cell(score, "grade", "graded.jsonl")
    assert graded == results / "grade/xs/long/0/k2/graded.jsonl"

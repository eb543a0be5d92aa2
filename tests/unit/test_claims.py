"""claims: a table's spec says what is compared, under which protocol, and what spoils the comparison; the paper's confound is found."""

import copy
import json
from typing import Any

import pytest

from gapgrid import claims, config, grid
from gapgrid.grid import Grid
from tests.unit.conftest import REPOSITORY


@pytest.fixture(scope="module")
def loaded_paper() -> Grid:
    return config.load("paper", root=REPOSITORY / "config")


@pytest.fixture
def paper(loaded_paper: Grid) -> Grid:
    """The paper's grid, free to be changed."""
    return copy.deepcopy(loaded_paper)


def spec(of: Grid, experiment: str) -> dict[str, Any]:
    return json.loads(claims.table_spec(of, experiment))


def test_the_authors_own_mix_settings_trip_the_guard(paper: Grid) -> None:
    differs = spec(paper, "confound")["differs"]
    assert {(where, name) for where, _, name, _ in differs} == {
        (where, name)
        for where in ("qwen2.5-3b, qwen2.5-3b-published-mix", "llama-3.2-3b, llama-3.2-3b-published-mix")
        for name in ("batching", "global_batch", "max_length")
    }
    assert ["qwen2.5-3b, qwen2.5-3b-published-mix", "recipe", "global_batch", "8 (qwen2.5-3b); 80 (qwen2.5-3b-published-mix)"] in differs


def test_no_other_experiment_of_the_paper_trips_it(paper: Grid) -> None:
    assert [name for name in paper["experiments"] if spec(paper, name)["differs"]] == ["confound"]


def test_a_declared_difference_does_not_trip_it(paper: Grid) -> None:
    paper["experiments"]["confound"]["varies"] = ["mix", "recipe"]
    assert spec(paper, "confound")["differs"] == []


def test_lora_of_larger_students_is_noted_between_students(paper: Grid) -> None:
    found = {name: said for _, _, name, said in spec(paper, "table1")["between"]}
    assert found["method"] == (
        "full (qwen2.5-0.5b, qwen2.5-1.5b, qwen2.5-3b, qwen2.5-7b, llama-3.2-1b, llama-3.2-3b, llama-3.1-8b); "
        "lora (qwen2.5-14b, qwen2.5-32b, llama-3.3-70b)"
    )
    assert set(found) == {"global_batch", "learning_rate", "lora", "method", "warmup_ratio"}


def test_an_adopted_student_beside_a_trained_one_trips_it(paper: Grid) -> None:
    paper["adopted"] = {"qwen2.5-3b/long/0": {"hub": "org/tuned"}}
    (found,) = spec(paper, "table1")["differs"]
    assert found == ["qwen2.5-3b", "adopted", "training", "adopted, its settings unknown (long); here (short)"]
    assert "adopted, trained elsewhere: qwen2.5-3b/long/0 is org/tuned" in spec(paper, "table1")["protocol"]
    paper["experiments"]["table1"]["varies"] = ["mix", "adopted"]
    assert spec(paper, "table1")["differs"] == []


def test_a_tiny_student_is_its_shape_whatever_it_was_pretrained_on(demo: Grid) -> None:
    demo["models"]["xs-more"] = {**demo["models"]["xs"], "pretrain": "pretrain-s"}
    (found,) = spec(demo, "long-gap")["differs"]
    assert found[:3] == ["xs, xs-more", "base", "pretraining learning_rate"]
    demo["models"]["xs-more"]["architecture"] = {**demo["models"]["xs"]["architecture"], "layers": 3}
    assert spec(demo, "long-gap")["differs"] == []


def test_the_miniature_compares_training_sets_alone(demo: Grid) -> None:
    assert [spec(demo, name)["differs"] for name in demo["experiments"]] == [[] for _ in demo["experiments"]]


def test_a_mix_is_held_against_the_sources_that_the_experiment_shows(paper: Grid) -> None:
    assert spec(paper, "table3")["singles"] == {"mix-long": ["long", "short"], "mix-large": ["large", "small"]}
    paper["experiments"]["table3"]["mixes"].remove("small")
    assert spec(paper, "table3")["singles"] == {"mix-long": ["long", "short"]}
    assert claims.single_sources(paper, ["none", "long"]) == {}


def test_names_come_in_the_order_of_the_experiment(paper: Grid) -> None:
    shown = spec(paper, "table3")["shown"]
    assert [name for name, _ in shown["mixes"]] == ["none", "long", "short", "large", "small", "mix-long", "mix-large"]
    assert shown["mixes"][0] == ["none", "untouched"]
    assert [label for _, label in shown["benchmarks"]] == ["MATH", "GSM8K", "AIME 2024", "AMC 2023", "OlympiadBench"]


def test_the_protocol_says_how_cells_come_about(paper: Grid) -> None:
    lines = spec(paper, "table1")["protocol"]
    text = "\n".join(lines)
    assert "learning_rate 1e-05 (qwen2.5-0.5b" in text and "epochs 2;" in text
    assert "AIME 2024: task AIME, 30 problems, greedy, 1 answer each of at most 16,000 tokens, graded by boxed" in lines
    assert f"vllm {paper['versions']['vllm']}" in text and "10,000 bootstrap resamples" in text
    (judge,) = (line for line in lines if line.startswith("judge: "))
    assert "Qwen/Qwen2.5-32B-Instruct" in judge and "answers that rules leave undecided" in judge and "max_tokens 20" in judge
    paper["judge"]["policy"] = "all"
    assert "sees every answer that no rule accepts" in "\n".join(spec(paper, "table1")["protocol"])


def test_repeats_and_sampling_are_in_the_protocol(demo: Grid) -> None:
    demo["benchmarks"]["k2"] |= {"repeats": 4, "sampling": {"temperature": 0.7, "top_p": 0.9}}
    lines = spec(demo, "long-gap")["protocol"]
    said = "task story, 200 problems, temperature 0.7, top_p 0.9, 4 answers each of at most 260 tokens, graded by boxed"
    assert f"2 events: {said}" in lines
    assert any(line.startswith("4 events, 6 events: ") for line in lines)
    assert "judge: none; an answer that no rule accepts is not right" in lines


def test_published_numbers_are_those_of_the_experiments_cells(paper: Grid) -> None:
    shown = spec(paper, "table1")["reference"]
    averages = {(row["model"], row["mix"]): row["score"] for row in shown if row["benchmark"] == "average" and row["minus"] == ""}
    assert len(averages) == 20 and averages["qwen2.5-32b", "long"] == 73.0
    gaps = {row["model"]: row["score"] for row in shown if row["minus"]}
    assert len(gaps) == 10 and gaps["qwen2.5-1.5b"] == -7.1
    assert spec(paper, "figure4-long")["reference"] == []
    changed = copy.deepcopy(paper)
    next(row for row in changed["reference"] if (row["model"], row["mix"]) == ("qwen2.5-32b", "small"))["score"] = 1.0
    moved = {name for name in paper["experiments"] if claims.table_spec(paper, name) != claims.table_spec(changed, name)}
    assert moved == {"table2", "table8", "figure3", "figure1-large", "figure5-large"}


@pytest.mark.parametrize(("key", "value"), [("caption", "Another."), ("by_benchmark", True), ("varies", ["mix", "recipe"])])
def test_what_is_said_of_a_table_is_in_its_own_spec_alone(paper: Grid, key: str, value: Any) -> None:
    changed = copy.deepcopy(paper)
    changed["experiments"]["table1"][key] = value
    moved = {name for name in paper["experiments"] if claims.table_spec(paper, name) != claims.table_spec(changed, name)}
    assert moved == {"table1"}


def test_a_default_written_out_changes_nothing(paper: Grid) -> None:
    changed = copy.deepcopy(paper)
    changed["experiments"]["table7"] |= {"varies": ["mix"], "by_benchmark": True}
    changed["recipes"]["full"] |= {"over_length": "drop", "weight_decay": 0.0}
    changed["judge"]["policy"] = "undecided"
    assert claims.table_spec(paper, "table7") == claims.table_spec(changed, "table7")


def _settings(paper: Grid) -> Any:
    entry = paper["experiments"]["table1"]
    return claims.settings(paper, grid.experiment_cells(paper, "table1"), [*entry["models"], *entry["mixes"]])


def test_every_recipe_key_that_may_differ_is_compared(paper: Grid) -> None:
    schema = config.read_yaml(config.SCHEMAS / "recipes.schema.yaml")
    (entry,) = schema["patternProperties"].values()
    compared = {name for topic, name in _settings(paper)[0].values if topic == "recipe"}
    assert compared == set(entry["properties"]) - {"label"}

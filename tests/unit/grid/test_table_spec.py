"""table_spec: what is compared, under which protocol, and the confounders, the paper's too."""

import copy
import json
from typing import Any

import pytest

from gapgrid.config.load import SCHEMAS, read_yaml
from gapgrid.grid.cells import Grid, experiment_cells
from gapgrid.grid.table_spec import settings, single_sources, table_spec


def spec(of: Grid, experiment: str) -> dict[str, Any]:
    return json.loads(table_spec(of, experiment))


def changed_tables(before: Grid, after: Grid) -> set[str]:
    """Return the experiments whose table specs differ."""
    names = before["experiments"]
    return {name for name in names if table_spec(before, name) != table_spec(after, name)}


def test_the_papers_own_mix_settings_are_its_only_confounder(paper: Grid) -> None:
    differs = spec(paper, "confound")["differs"]
    models = [f"{model}, {model}-published-mix" for model in ("qwen2.5-3b", "llama-3.2-3b")]
    assert {(where, name) for where, _, name, _ in differs} == {
        (where, name) for where in models for name in ("batching", "global_batch", "max_length")
    }
    values = "8 (qwen2.5-3b); 80 (qwen2.5-3b-published-mix)"
    assert [models[0], "recipe", "global_batch", values] in differs
    assert [name for name in paper["experiments"] if spec(paper, name)["differs"]] == ["confound"]


def test_a_declared_difference_is_no_confounder(paper: Grid) -> None:
    paper["experiments"]["confound"]["varies"] = ["mix", "recipe"]
    assert spec(paper, "confound")["differs"] == []


def test_lora_of_larger_students_is_listed_between_students(paper: Grid) -> None:
    between = {name: values for _, _, name, values in spec(paper, "table1")["between"]}
    qwen = "qwen2.5-0.5b, qwen2.5-1.5b, qwen2.5-3b, qwen2.5-7b"
    full = f"full ({qwen}, llama-3.2-1b, llama-3.2-3b, llama-3.1-8b)"
    assert between["method"] == f"{full}; lora (qwen2.5-14b, qwen2.5-32b, llama-3.3-70b)"
    assert between.keys() == {"global_batch", "learning_rate", "lora", "method", "warmup_ratio"}


def test_an_adopted_student_beside_a_trained_one_is_a_confounder(paper: Grid) -> None:
    paper["adopted"] = {"qwen2.5-3b/long/0": {"hub": "org/tuned"}}
    table = spec(paper, "table1")
    values = "adopted, its settings unknown (long); here (short)"
    assert table["differs"] == [["qwen2.5-3b", "adopted", "training", values]]
    assert "adopted, trained elsewhere: qwen2.5-3b/long/0 is org/tuned" in table["protocol"]
    paper["experiments"]["table1"]["varies"] = ["mix", "adopted"]
    assert spec(paper, "table1")["differs"] == []


def test_a_tiny_student_is_its_shape_whatever_it_was_pretrained_on(demo: Grid) -> None:
    demo["models"]["xs-more"] = {**demo["models"]["xs"], "pretrain": "pretrain-s"}
    (difference,) = spec(demo, "long-gap")["differs"]
    assert difference[:3] == ["xs, xs-more", "base", "pretraining learning_rate"]
    shape = demo["models"]["xs"]["architecture"]
    demo["models"]["xs-more"]["architecture"] = {**shape, "layers": 3}
    assert spec(demo, "long-gap")["differs"] == []


def test_the_miniature_compares_training_sets_alone(demo: Grid) -> None:
    assert not any(spec(demo, name)["differs"] for name in demo["experiments"])


def test_a_mix_is_compared_with_its_sources_where_the_experiment_shows_all(paper: Grid) -> None:
    mixes = {"mix-long": ["long", "short"], "mix-large": ["large", "small"]}
    assert spec(paper, "table3")["singles"] == mixes
    paper["experiments"]["table3"]["mixes"].remove("small")
    assert spec(paper, "table3")["singles"] == {"mix-long": ["long", "short"]}
    assert single_sources(paper, ["none", "long"]) == {}


def test_names_come_in_the_order_of_the_experiment(paper: Grid) -> None:
    shown = spec(paper, "table3")["shown"]
    mixes = ["none", "long", "short", "large", "small", "mix-long", "mix-large"]
    assert [name for name, _ in shown["mixes"]] == mixes
    assert shown["mixes"][0] == ["none", "untouched"]
    labels = ["MATH", "GSM8K", "AIME 2024", "AMC 2023", "OlympiadBench"]
    assert [label for _, label in shown["benchmarks"]] == labels


def test_the_protocol_says_how_cells_come_about(paper: Grid) -> None:
    lines = spec(paper, "table1")["protocol"]
    answers = "30 problems, greedy, 1 answer each of at most 16,000 tokens"
    assert f"AIME 2024: task AIME, {answers}, graded by boxed" in lines
    (judge,) = (line for line in lines if line.startswith("judge: "))
    for part in (
        "Qwen/Qwen2.5-32B-Instruct",
        "answers that rules leave undecided",
        "max_tokens 20",
    ):
        assert part in judge
    vllm = f"vllm {paper['versions']['vllm']}"
    for part in (
        "learning_rate 1e-05 (qwen2.5-0.5b",
        "epochs 2;",
        vllm,
        "10,000 bootstrap resamples",
        "over all gaps of an experiment, of its students on each benchmark and on average together",
    ):
        assert part in "\n".join(lines)
    paper["judge"]["policy"] = "all"
    assert "sees every answer that no rule accepts" in "\n".join(spec(paper, "table1")["protocol"])


def test_repeats_and_sampling_are_in_the_protocol(demo: Grid) -> None:
    demo["benchmarks"]["k2"] |= {"repeats": 4, "sampling": {"temperature": 0.7, "top_p": 0.9}}
    lines = spec(demo, "long-gap")["protocol"]
    answers = "temperature 0.7, top_p 0.9, 4 answers each of at most 260 tokens"
    assert f"2 events: task story, 200 problems, {answers}, graded by boxed" in lines
    assert any(line.startswith("4 events, 6 events: ") for line in lines)
    assert "judge: none; an answer that no rule accepts is not right" in lines


def test_published_numbers_are_those_of_the_experiments_cells(paper: Grid) -> None:
    reference = spec(paper, "table1")["reference"]
    averages = {
        (row["model"], row["mix"]): row["score"]
        for row in reference
        if row["benchmark"] == "average" and row["minus"] == ""
    }
    assert len(averages) == 20 and averages["qwen2.5-32b", "long"] == 73.0
    gaps = {row["model"]: row["score"] for row in reference if row["minus"]}
    assert len(gaps) == 10 and gaps["qwen2.5-1.5b"] == -7.1
    assert spec(paper, "figure4-long")["reference"] == []
    changed = copy.deepcopy(paper)
    cell = ("qwen2.5-32b", "small")
    next(row for row in changed["reference"] if (row["model"], row["mix"]) == cell)["score"] = 1.0
    shown_in = {"table2", "table8", "figure3", "figure1-large", "figure5-large"}
    assert changed_tables(paper, changed) == shown_in


@pytest.mark.parametrize(
    ("key", "value"),
    [("caption", "Another."), ("by_benchmark", True), ("varies", ["mix", "recipe"])],
)
def test_a_key_of_an_experiment_is_in_its_own_table_alone(
    paper: Grid, key: str, value: Any
) -> None:
    changed = copy.deepcopy(paper)
    changed["experiments"]["table1"][key] = value
    assert changed_tables(paper, changed) == {"table1"}


def test_a_default_written_out_changes_nothing(paper: Grid) -> None:
    changed = copy.deepcopy(paper)
    changed["experiments"]["table7"] |= {"varies": ["mix"], "by_benchmark": True}
    changed["recipes"]["full"] |= {"over_length": "drop", "weight_decay": 0.0}
    changed["judge"]["policy"] = "undecided"
    assert changed_tables(paper, changed) == set()


def test_every_recipe_key_that_may_differ_is_compared(paper: Grid) -> None:
    (entry,) = read_yaml(SCHEMAS / "recipes.schema.yaml")["patternProperties"].values()
    experiment = paper["experiments"]["table1"]
    order = [*experiment["models"], *experiment["mixes"]]
    first = settings(paper, experiment_cells(paper, "table1"), order)[0]
    compared = {name for topic, name in first.values if topic == "recipe"}
    assert compared == set(entry["properties"]) - {"label"}

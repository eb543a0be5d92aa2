"""grid: which cells exist, and which change of the configuration changes which specs: all of those and no others."""

import copy
import json
import random
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from gapgrid import claims, config, grid
from gapgrid.grid import Cell, Grid, TrainingCell
from gapgrid.records import canonical

HUB_STUDENT = {
    "kind": "hub",
    "hub": "org/student",
    "revision": "abc",
    "family": "qwen",
    "params_b": 7.0,
    "recipe": "sft-l",
    "size": "tiny",
}


JUDGE = {
    "backend": "openai",
    "policy": "undecided",
    "model": "org/judge",
    "revision": "abc",
    "prompt": "config/demo/prompts/judge.txt",
    "sampling": {"temperature": 0, "top_k": 1},
    "max_tokens": 20,
    "dtype": "float16",
    "verdict": "first_word",
    "replies": {"correct": ["True"], "incorrect": ["False"]},
    "base_url": "http://a:1/v1",
}


@pytest.fixture
def rich(demo: Grid) -> Grid:
    """The demo grid with a student, a source and a benchmark of every origin and a judge, and two experiments that show them all."""
    demo["experiments"] = {name: demo["experiments"][name] for name in ("long-gap", "accuracy")}
    demo["models"]["big"] = dict(HUB_STUDENT)
    demo["models"]["local"] = {**{key: HUB_STUDENT[key] for key in ("family", "params_b", "recipe", "size")}, "kind": "path", "path": "a"}
    demo["sources"]["web"] = {"hub": "org/rows", "revision": "abc", "columns": {"id": "n"}, "split": "all"}
    demo["mixes"]["tokens"] = {"parts": {"web": 0.5, "long": 0.5}, "by": "tokens", "size": 100, "seed": 3}
    demo["benchmarks"]["math"] = {
        "task": "math",
        "data": {"hub": "org/math", "revision": "abc", "configs": ["algebra"], "split": "all"},
        "columns": {"gold": "solution"},
        "rows": 500,
        "max_tokens": 100,
        "repeats": 4,
        "sampling": {"temperature": 0.7, "top_p": 0.9, "seed": 1},
        "grader": "boxed_or_last_number",
    }
    demo["judge"] = copy.deepcopy(JUDGE)
    demo["adopted"] = {
        "big/short/0": {"hub": "org/tuned", "revision": "abc", "base": "mirror/student"},
        "local/short/0": {"path": "folder"},
    }
    return demo


def all_specs(of: Grid) -> dict[str, str]:
    """Every spec of a grid, by stage and what it is of."""
    cells = grid.all_cells(of)
    training_cells = sorted(grid.benchmarks_of(cells))
    specs = {"tokenizer": grid.tokenizer_spec(of), "evaluate": grid.evaluate_spec(of)}
    specs |= {"judge": grid.judge_spec(of), "score": grid.score_spec(of), "audit": grid.audit_spec(of)}
    specs |= {f"fetch {section} {name}": grid.fetch_spec(of, section, name) for section, name in grid.from_hub(of)}
    specs |= {f"source {name}": grid.source_spec(of, name) for name in of["sources"]}
    specs |= {f"mix {name}": grid.mix_spec(of, name) for name in of["mixes"]}
    for model, mix, seed in training_cells:
        specs[f"base {model} {grid.base_seed(of, model, seed)}"] = grid.base_spec(of, model, seed)
        if mix != grid.UNTOUCHED:
            specs[f"train {model} {mix} {seed}"] = grid.train_spec(of, model, mix, seed)
    for name in of["benchmarks"]:
        specs[f"problems {name}"] = grid.problems_spec(of, name)
        specs[f"request {name}"] = grid.request_spec(of, name)
        specs[f"grade {name}"] = grid.grade_spec(of, name)
        specs[f"selftest {name}"] = grid.selftest_spec(of, name)
    for name in of["experiments"]:
        specs[f"table {name}"] = claims.table_spec(of, name)
        specs[f"figure {name}"] = grid.figure_spec(of, name)
    return specs


def changes(before: Grid, after: Grid) -> set[str]:
    """Specs that are there before and after, and differ."""
    old, new = all_specs(before), all_specs(after)
    return {name for name in old.keys() & new.keys() if old[name] != new[name]}


TRAINED = "train xs *, train s *, train m *, train l *, train big long 0, train big mix-long 0, train local long 0, train local mix-long 0"


def matching(names: Iterable[str], patterns: str) -> set[str]:
    """The names that one of the comma-separated patterns fits; each pattern must fit one."""
    found: set[str] = set()
    for pattern in filter(None, patterns.replace("TRAINED", TRAINED).split(", ")):
        fitting = {name for name in names if fnmatchcase(name, pattern)}
        assert fitting, f"nothing is called {pattern}"
        found |= fitting
    return found


def put(of: Grid, place: str, value: Any) -> Grid:
    """A copy of the grid with `value` at `place`, a path of keys; None takes the key out."""
    changed = copy.deepcopy(of)
    *folders, key = place.split("/")
    entry = changed
    for folder in folders:
        entry = entry[folder]
    if value is None:
        del entry[key]
    else:
        assert entry.get(key) != value, f"{place} is {value} already"
        entry[key] = value
    return changed


# ---- which cells exist ----


def test_the_demo_has_16_training_cells_and_48_cells(demo: Grid) -> None:
    cells = grid.all_cells(demo)
    assert len(cells) == len(set(cells)) == 48
    assert cells == sorted(cells)
    answered = grid.benchmarks_of(cells)
    assert len(answered) == 16
    assert set(map(tuple, answered.values())) == {("k2", "k4", "k6")}
    assert {cell.mix for cell in answered} == {"none", "short", "long", "mix-long"}


def test_more_seeds_add_cells_and_keep_the_old(demo: Grid) -> None:
    more = put(demo, "seeds", [0, 1, 2])
    assert len(grid.all_cells(more)) == 3 * 48
    assert set(grid.all_cells(demo)) < set(grid.all_cells(more))


@pytest.mark.parametrize("kind", ["hub", "path"])
def test_a_student_from_elsewhere_has_one_untouched_seed(demo: Grid, kind: str) -> None:
    demo["models"]["big"] = {**HUB_STUDENT, "kind": kind}
    demo["seeds"] = [1, 2]
    cells = grid.experiment_cells(demo, "accuracy")
    assert {cell.seed for cell in cells if cell[:2] == ("big", "none")} == {0}
    assert {cell.seed for cell in cells if cell[:2] == ("big", "long")} == {1, 2}
    assert {cell.seed for cell in cells if cell[:2] == ("xs", "none")} == {1, 2}
    assert grid.base_seed(demo, "big", 2) == 0
    assert grid.base_seed(demo, "xs", 2) == 2


def test_an_experiment_lists_its_own_cells(demo: Grid) -> None:
    demo["experiments"] = {"e": {"models": ["xs"], "mixes": ["short"], "benchmarks": ["k6", "k2"]}}
    assert grid.all_cells(demo) == [Cell("xs", "short", 0, "k2"), Cell("xs", "short", 0, "k6")]
    assert grid.benchmarks_of(grid.all_cells(demo)) == {TrainingCell("xs", "short", 0): ["k2", "k6"]}


def test_all_mixes_leave_the_untouched_student_out(demo: Grid) -> None:
    demo["experiments"]["accuracy"]["mixes"] = "all"
    assert {cell.mix for cell in grid.experiment_cells(demo, "accuracy")} == {"short", "long", "mix-long"}


# ---- specs are texts that mean one thing ----


def test_specs_are_canonical_json_that_names_stage_and_version(rich: Grid) -> None:
    for name, text in all_specs(rich).items():
        content = json.loads(text)
        assert text == canonical(content), name
        assert content["stage"] == name.split()[0]
        assert content["version"] == grid.VERSIONS[content["stage"]]


def reordered(value: Any, rng: random.Random) -> Any:
    """The same value with the keys of every dict in another order."""
    if isinstance(value, dict):
        return {key: reordered(value[key], rng) for key in rng.sample(list(value), len(value))}
    return [reordered(entry, rng) for entry in value] if isinstance(value, list) else value


def test_specs_do_not_depend_on_the_order_of_keys(rich: Grid) -> None:
    @given(st.randoms(use_true_random=False))
    def check(rng: random.Random) -> None:
        other = reordered(rich, rng)
        assert grid.all_cells(other) == grid.all_cells(rich)
        # A table and a figure show names in the order in which they are written.
        assert {name for name in changes(rich, other) if not name.startswith(("figure ", "table "))} == set()

    check()


def test_tables_that_name_what_they_show_do_not_depend_on_the_order_of_files(rich: Grid) -> None:
    for entry in rich["experiments"].values():
        entry.update({kind: grid.named(entry[kind], rich[kind]) for kind in ("models", "mixes", "benchmarks")})

    @given(st.randoms(use_true_random=False))
    def check(rng: random.Random) -> None:
        assert changes(rich, reordered(rich, rng)) == set()

    check()


def test_a_figure_shows_names_in_the_order_written(demo: Grid) -> None:
    demo["experiments"]["accuracy"]["models"] = ["l", "xs"]
    shown = json.loads(grid.figure_spec(demo, "accuracy"))["shown"]
    assert shown["models"] == [["l", "451k"], ["xs", "7k"]]
    assert shown["mixes"] == [["none", "untouched"], ["short", "short CoT"], ["mix-long", "mix-long 1:4"], ["long", "long CoT"]]


def test_specs_come_from_their_arguments_alone(rich: Grid) -> None:
    before = copy.deepcopy(rich)
    assert all_specs(rich) == all_specs(rich)
    assert rich == before


# ---- a default means the same as no key ----

ENTRIES = {
    "recipe": ("recipes", "sft-xs"),
    "mix": ("mixes", "short"),
    "benchmark": ("benchmarks", "k2"),
    "source": ("sources", "short"),
}


# As the schemas' descriptions say; written out, since a default that changes re-runs finished grids.
DEFAULTS = [
    ("recipe", "format", "chat"),
    ("recipe", "over_length", "drop"),
    ("recipe", "batching", "padded"),
    ("recipe", "warmup_ratio", 0),
    ("recipe", "min_lr_ratio", 0.0),
    ("recipe", "weight_decay", 0.0),
    ("recipe", "adam_betas", [0.9, 0.999]),
    ("recipe", "max_grad_norm", 1),
    ("recipe", "lora", {}),
    ("mix", "by", "rows"),
    ("mix", "seed", 0),
    ("benchmark", "repeats", 1),
    ("benchmark", "sampling", {}),
    ("benchmark", "columns", {}),
    ("source", "columns", {}),
    ("source", "split", "train"),
    ("judge", "policy", "undecided"),
    ("judge", "sampling", {"temperature": 0}),
    ("judge", "dtype", "auto"),
    ("judge", "verdict", "first_word"),
]


@pytest.mark.parametrize(("kind", "key", "value"), DEFAULTS)
def test_a_default_value_is_the_same_as_no_key(rich: Grid, kind: str, key: str, value: Any) -> None:
    entry = rich["judge"] if kind == "judge" else rich[ENTRIES[kind][0]][ENTRIES[kind][1]]
    entry.pop(key, None)
    without = all_specs(rich)
    entry[key] = value
    assert all_specs(rich) == without


def test_every_default_is_tested() -> None:
    assert {(kind, key) for kind, keys in grid.DEFAULTS.items() for key in keys} == {(kind, key) for kind, key, _ in DEFAULTS}


def test_defaults_are_keys_that_the_schemas_know() -> None:
    for kind, (section, _) in ENTRIES.items():
        assert grid.DEFAULTS[kind].keys() <= schema_keys(section)
    assert grid.DEFAULTS["judge"].keys() <= file_keys("judge")


def test_what_is_adopted_has_no_defaults() -> None:
    assert "adopted" not in grid.DEFAULTS
    assert schema_keys("adopted") == {"hub", "revision", "path", "base"}


def test_an_optional_value_off_its_default_is_in_the_spec(rich: Grid) -> None:
    assert "repeats" not in json.loads(grid.request_spec(rich, "k2"))
    assert json.loads(grid.request_spec(rich, "math"))["repeats"] == 4


# ---- each key changes exactly what it decides ----

# (key, other value, the specs that change). A star stands for any name; none means that nothing is done again.
CHANGES: list[tuple[str, Any, str]] = [
    # recipes
    ("recipes/sft-xs/method", "lora", "train xs *, table *"),
    ("recipes/sft-xs/format", "text", "train xs *, table *"),
    ("recipes/sft-xs/learning_rate", 1.0, "train xs *, table *"),
    ("recipes/sft-xs/epochs", 4, "train xs *, table *"),
    ("recipes/sft-xs/global_batch", 16, "train xs *, table *"),
    ("recipes/sft-xs/max_length", 100, "train xs *, table *"),
    ("recipes/sft-xs/over_length", "keep", "train xs *, table *"),
    ("recipes/sft-xs/batching", "packed", "train xs *, table *"),
    ("recipes/sft-xs/warmup_ratio", 0.1, "train xs *, table *"),
    ("recipes/sft-xs/min_lr_ratio", None, "train xs *, table *"),
    ("recipes/sft-xs/weight_decay", 0.1, "train xs *, table *"),
    ("recipes/sft-xs/adam_betas", [0.8, 0.98], "train xs *, table *"),
    ("recipes/sft-xs/max_grad_norm", 0.5, "train xs *, table *"),
    ("recipes/sft-xs/lora", {"rank": 4}, "train xs *, table *"),
    ("recipes/pretrain-s/epochs", 2, "base s 0, table *"),
    ("recipes/sft-l/epochs", 2, "train l *, train big long 0, train big mix-long 0, train local long 0, train local mix-long 0, table *"),
    # models
    ("models/xs/recipe", "sft-s", "train xs *, table *"),
    ("models/xs/pretrain", "pretrain-s", "base xs 0, table *"),
    ("models/xs/architecture", {"hidden_size": 32, "layers": 2, "heads": 2, "ffn": 40}, "base xs 0, table *"),
    ("models/xs/architecture/layers", 3, "base xs 0, table *"),
    ("models/xs/label", "7 thousand", "figure *, table *"),
    ("models/xs/family", "other", "table *"),
    ("models/xs/params_b", 8.0e-6, "table *"),
    ("models/xs/size", "huge", ""),
    ("models/big/hub", "org/other", "base big 0, fetch models big, table *"),
    ("models/big/revision", "def", "base big 0, fetch models big, table *"),
    ("models/big/revision", None, "base big 0, fetch models big, table *"),
    ("models/big/eos", "<|im_end|>", "base big 0"),
    ("models/big/label", "7B", "figure *, table *"),
    ("models/local/path", "b", "base local 0, table *"),
    ("models/local/kind", "hub", "base local 0"),
    # sources
    ("sources/long/builtin", {"style": "long", "rows": 3000, "seed": 3}, "source long"),
    ("sources/web/hub", "org/other", "source web"),
    ("sources/web/revision", "def", "source web"),
    ("sources/web/split", None, "source web"),
    ("sources/web/path", "rows.jsonl", "source web"),
    ("sources/web/columns", {"id": "m"}, "source web"),
    ("sources/long/label", "long chains", ""),
    # mixes
    ("mixes/mix-long/parts", {"long": 0.3, "short": 0.7}, "mix mix-long"),
    ("mixes/mix-long/by", "tokens", "mix mix-long"),
    ("mixes/mix-long/size", 100, "mix mix-long"),
    ("mixes/mix-long/seed", 1, "mix mix-long"),
    ("mixes/mix-long/label", "mixed", "figure accuracy, table accuracy"),
    ("mixes/long/label", "long chains", "figure *, table *"),
    # benchmarks
    ("benchmarks/k2/task", "tale", "request k2, table *"),
    ("benchmarks/k2/data", {"builtin": {"events": 3, "seed": 12}}, "problems k2"),
    ("benchmarks/math/data/configs", ["algebra", "geometry"], "problems math"),
    ("benchmarks/k2/rows", 100, "problems k2, table *"),
    ("benchmarks/k2/columns", {"gold": "solution"}, "problems k2"),
    ("benchmarks/k2/max_tokens", 300, "request k2, table *"),
    ("benchmarks/math/repeats", 5, "request math, table *"),
    ("benchmarks/math/sampling", {"temperature": 0.8}, "request math, table *"),
    ("benchmarks/k2/grader", "boxed_or_last_number", "grade k2, selftest k2, table *"),
    ("benchmarks/k2/label", "two events", "figure *, table *"),
    # experiments
    ("experiments/long-gap/caption", "Another.", "table long-gap"),
    ("experiments/long-gap/plot", "accuracy_by_mix", "figure long-gap"),
    ("experiments/long-gap/weight_of", "long", "figure long-gap"),
    ("experiments/long-gap/groups", {"small": ["xs", "s"], "big": ["m", "l"]}, "figure long-gap"),
    ("experiments/long-gap/contrast", ["short", "long"], "figure long-gap, table long-gap"),
    ("experiments/long-gap/models", ["xs", "s"], "figure long-gap, table long-gap"),
    ("experiments/long-gap/mixes", ["short", "long", "mix-long"], "figure long-gap, table long-gap"),
    ("experiments/long-gap/benchmarks", ["k2"], "figure long-gap, table long-gap"),
    ("experiments/long-gap/varies", ["mix", "recipe"], "table long-gap"),
    ("experiments/long-gap/varies", ["mix"], ""),
    ("experiments/long-gap/by_benchmark", False, "table long-gap"),
    ("experiments/long-gap/by_benchmark", True, ""),
    ("experiments/long-gap/awaits_data", True, ""),
    # hardware
    ("hardware/tiny/gpus", 8, ""),
    ("hardware/tiny/cpus", 8, ""),
    ("hardware/tiny/mem_mb", 8000, ""),
    ("hardware/tiny/runtime", 8, ""),
    ("hardware/tiny/micro_batch", 8, ""),
    ("hardware/tiny/tokens_per_device", 4096, ""),
    ("hardware/tiny/zero", 3, ""),
    ("hardware/tiny/nodes", 2, ""),
    ("hardware/tiny/tensor_parallel", 2, ""),
    # grid
    ("seeds", [0, 1], "table *, audit"),
    ("report_to", "tensorboard", ""),
    ("tokenizer", {"path": "folder"}, "tokenizer"),
    ("engine/train", "stub", "base xs 0, base s 0, base m 0, base l 0, TRAINED, table *"),
    ("engine/evaluate", "stub", "evaluate, request *, table *"),
    ("environment", "gpu", ""),
    # judge
    ("judge/backend", "hf", "judge, score, table *"),
    ("judge/backend", "vllm", "judge, score, table *"),
    ("judge/backend", "none", "judge, score, table *"),
    ("judge/policy", "all", "judge, score, table *"),
    ("judge/model", "org/other", "judge, score, table *"),
    ("judge/revision", "def", "judge, score, table *"),
    ("judge/revision", None, "judge, score, table *"),
    ("judge/prompt", "config/demo/prompts/strict.txt", ""),  # its text is an input, wherever it lies
    ("judge/sampling", {"temperature": 0}, "judge, score, table *"),
    ("judge/sampling/top_k", 2, "judge, score, table *"),
    ("judge/max_tokens", 30, "judge, score, table *"),
    ("judge/dtype", "bfloat16", "judge, score, table *"),
    ("judge/verdict", "whole_reply", "judge, score, table *"),
    ("judge/replies", {"correct": ["A"], "incorrect": ["B"]}, "judge, score, table *"),
    ("judge/replies/incorrect", ["False", "No"], "judge, score, table *"),
    ("judge/base_url", "http://b:2/v1", ""),
    ("judge/base_url", None, ""),
    ("judge/size", "tiny", ""),
    ("statistics/resamples", 500, "table *"),
    ("statistics/confidence", 0.9, "table *, figure *"),
    ("statistics/seed", 1, "table *"),
    # what is locked
    ("versions/torch", "0.1", "base xs 0, base s 0, base m 0, base l 0, TRAINED, evaluate, request *, table *"),
    ("versions/transformers", "0.1", "base xs 0, base s 0, base m 0, base l 0, TRAINED, evaluate, request *, table *"),
    ("versions/lm_eval", "0.1", "evaluate, request *, table *"),
    ("versions/pandas", "0.1", ""),
    ("versions/openai", "0.1", ""),
    ("versions/vllm", "0.0", ""),
]


@pytest.mark.parametrize(("place", "value", "expected"), CHANGES, ids=[f"{place}={value}" for place, value, _ in CHANGES])
def test_a_key_changes_what_it_decides_and_nothing_else(rich: Grid, place: str, value: Any, expected: str) -> None:
    assert changes(rich, put(rich, place, value)) == matching(all_specs(rich), expected)


# Their names hold the stroke that parts a place.
ADOPTED_CHANGES: list[tuple[str, str, Any, str]] = [
    ("big/short/0", "hub", "org/other", "train big short 0, fetch adopted big/short/0, table *"),
    ("big/short/0", "revision", "def", "train big short 0, fetch adopted big/short/0"),
    ("big/short/0", "revision", None, "train big short 0, fetch adopted big/short/0"),
    ("big/short/0", "base", "mirror/other", "train big short 0"),
    ("big/short/0", "base", None, "train big short 0"),
    ("local/short/0", "path", "elsewhere", "train local short 0"),
]


@pytest.mark.parametrize(("cell", "key", "value", "expected"), ADOPTED_CHANGES)
def test_another_checkpoint_changes_its_training_cell_alone(rich: Grid, cell: str, key: str, value: Any, expected: str) -> None:
    other = copy.deepcopy(rich)
    other["adopted"][cell] = put(rich["adopted"][cell], key, value)
    assert changes(rich, other) == matching(all_specs(rich), expected)
    assert {key for _, key, _, _ in ADOPTED_CHANGES} == schema_keys("adopted")


def test_what_is_adopted_depends_on_no_training(rich: Grid) -> None:
    assert json.loads(grid.train_spec(rich, "local", "short", 0)) == {
        "stage": "train",
        "version": grid.VERSIONS["train"],
        "adopt": {"path": "folder"},
    }
    assert json.loads(grid.train_spec(rich, "big", "short", 0))["adopt"] == rich["adopted"]["big/short/0"]
    assert "adopt" not in json.loads(grid.train_spec(rich, "big", "long", 0))
    adopted = {"train big short 0", "train local short 0"}
    assert not changes(rich, put(rich, "recipes/sft-l/epochs", 2)) & adopted
    assert not changes(rich, put(rich, "versions/torch", "0.1")) & adopted
    trained = copy.deepcopy(rich)
    del trained["adopted"]["big/short/0"]
    assert changes(rich, trained) == matching(all_specs(rich), "train big short 0, table *")
    assert trained["adopted"] and grid.train_spec(trained, "big", "short", 0) == grid.train_spec(trained, "big", "long", 0)


def test_another_corpus_changes_the_student_pretrained_on_it(rich: Grid) -> None:
    assert changes(rich, put(rich, "models/xs/corpus", "short")) == matching(all_specs(rich), "base xs 0, table *")


def schema_keys(section: str) -> set[str]:
    """The keys that an entry of a section may have."""
    schema = yaml.safe_load((config.SCHEMAS / f"{section}.schema.yaml").read_text())
    (entry,) = schema["patternProperties"].values()
    return set(entry["properties"])


def file_keys(file: str, section: str = "") -> set[str]:
    """The keys of a file of settings, or of an object in it."""
    schema = yaml.safe_load((config.SCHEMAS / f"{file}.schema.yaml").read_text())
    return set((schema["properties"][section] if section else schema)["properties"])


@pytest.mark.parametrize("section", config.SECTIONS)
def test_the_table_of_changes_names_every_key(section: str) -> None:
    named = {place.split("/")[2] for place, _, _ in CHANGES if place.startswith(f"{section}/")}
    if section == "models":
        named |= {"corpus"}  # its own test
    if section == "experiments":
        named |= {"problems", "connectors", "choose"}  # test_closeups
    assert schema_keys(section) - named == set()


def test_the_table_of_changes_names_every_key_of_the_grid() -> None:
    assert file_keys("grid") - {place.split("/")[0] for place, _, _ in CHANGES} == set()
    for section in ("engine", "statistics"):
        assert file_keys("grid", section) - {place.split("/")[1] for place, _, _ in CHANGES if place.startswith(f"{section}/")} == set()


def test_the_table_of_changes_names_every_key_of_the_judge() -> None:
    named = {place.split("/")[1] for place, _, _ in CHANGES if place.startswith("judge/")}
    assert file_keys("judge") - named == {"preset"}  # a grid that is loaded has the preset's keys instead


# ---- the judge ----


def test_a_judge_is_what_a_verdict_depends_on(rich: Grid) -> None:
    assert grid.judge_identity(rich) == {
        "engine": {"name": "openai"},
        "version": grid.VERSIONS["judge"],
        "model": "org/judge",
        "revision": "abc",
        "sampling": {"temperature": 0, "top_k": 1},
        "max_tokens": 20,
        "dtype": "float16",
        "replies": {"correct": ["True"], "incorrect": ["False"]},
    }


def test_a_judge_is_the_same_whichever_answers_it_sees(rich: Grid) -> None:
    everything = put(rich, "judge/policy", "all")
    assert grid.judge_identity(everything) == grid.judge_identity(rich)
    for spec_of in (grid.judge_spec, grid.score_spec):
        assert "policy" not in json.loads(spec_of(rich))
        assert json.loads(spec_of(everything)) == {**json.loads(spec_of(rich)), "policy": "all"}


def test_no_judge_is_no_judge_whatever_else_is_said_of_it(rich: Grid) -> None:
    nobody = put(rich, "judge/backend", "none")
    assert grid.judge_identity(nobody) == {"engine": {"name": "none"}}
    for key in JUDGE.keys() - {"backend", "policy"}:
        assert changes(nobody, put(nobody, f"judge/{key}", None)) == set(), key
    assert changes(nobody, put(nobody, "judge/policy", "all")) == set()
    assert json.loads(grid.judge_spec(nobody)).keys() == json.loads(grid.score_spec(nobody)).keys() == {"stage", "version", "judge"}


@pytest.mark.parametrize(
    ("backend", "packages"),
    [("vllm", {"vllm", "torch", "transformers"}), ("hf", {"torch", "transformers"}), ("openai", set()), ("stub", set()), ("none", set())],
)
def test_a_judge_in_the_job_names_what_runs_it(rich: Grid, backend: str, packages: set[str]) -> None:
    rich["judge"]["backend"] = backend
    rich["versions"]["vllm"] = "0.9"
    assert grid.judge_identity(rich)["engine"] == {"name": backend, **{package: rich["versions"][package] for package in packages}}
    for package in ("vllm", "torch", "transformers"):
        assert ("judge" in changes(rich, put(rich, f"versions/{package}", "0.1"))) == (package in packages)


def test_a_judge_that_its_job_loads_is_fetched(rich: Grid) -> None:
    found = [("models", "big"), ("adopted", "big/short/0")]
    assert grid.from_hub(rich) == found
    for backend in ("hf", "vllm"):
        fetched = put(rich, "judge/backend", backend)
        assert grid.from_hub(fetched) == [*found, ("judge", "judge")]
        for key, value in (("model", "org/other"), ("revision", "def"), ("revision", None)):
            expected = matching(all_specs(fetched), "fetch judge judge, judge, score, table *")
            assert changes(fetched, put(fetched, f"judge/{key}", value)) == expected
        for folder in ("./judge", "/judge"):
            assert grid.from_hub(put(fetched, "judge/model", folder)) == found


def test_every_backend_of_the_schema_is_known(rich: Grid) -> None:
    schema = yaml.safe_load((config.SCHEMAS / "judge.schema.yaml").read_text())
    assert set(schema["properties"]["backend"]["enum"]) == grid.JUDGE_PACKAGES.keys()


# ---- what is added runs alone ----

ADDITIONS: list[tuple[str, Any, str]] = [
    ("models/new", HUB_STUDENT, "table *, figure *, audit"),
    ("mixes/new", {"parts": {"long": 1.0}}, ""),
    ("sources/new", {"path": "rows.jsonl"}, ""),
    ("recipes/new", {"method": "lora"}, ""),
    ("hardware/new", {"gpus": 1}, ""),
    ("benchmarks/new", {"task": "t", "data": {"path": "p"}, "rows": 1, "max_tokens": 1, "grader": "boxed"}, "table *, figure *, audit"),
    ("experiments/new", {"models": ["xs"], "mixes": ["tokens"], "benchmarks": ["math"], "plot": "accuracy_by_mix"}, "audit"),
]


@pytest.mark.parametrize(("place", "value", "expected"), ADDITIONS, ids=[place for place, _, _ in ADDITIONS])
def test_an_addition_changes_only_the_tables_that_show_it(rich: Grid, place: str, value: Any, expected: str) -> None:
    assert changes(rich, put(rich, place, value)) == matching(all_specs(rich), expected)


def test_a_removed_benchmark_changes_only_the_tables_that_showed_it(rich: Grid) -> None:
    assert changes(rich, put(rich, "benchmarks/k4", None)) == matching(all_specs(rich), "table *, figure *, audit")


# ---- versions ----

VERSIONED = {
    "evaluate": "evaluate, request *",
    "grade": "grade *, selftest *",
    "judge": "judge, score",
}


@pytest.mark.parametrize("stage", sorted(grid.VERSIONS.keys() - {"shift", "shift_figure", "case"}))  # test_closeups has these
def test_a_new_version_changes_the_stage(rich: Grid, monkeypatch: pytest.MonkeyPatch, stage: str) -> None:
    before = all_specs(rich)
    monkeypatch.setitem(grid.VERSIONS, stage, grid.VERSIONS[stage] + 1)
    after = all_specs(rich)
    expected = matching(before, VERSIONED.get(stage, f"{stage}*"))
    assert {name for name in before if before[name] != after[name]} == expected


def test_a_corpus_and_a_problem_file_differ_by_seed(demo: Grid) -> None:
    assert len({grid.base_spec(demo, "xs", seed) for seed in range(3)}) == 3
    assert len({grid.train_spec(demo, "xs", "long", seed) for seed in range(3)}) == 3
    demo["models"]["big"] = dict(HUB_STUDENT)
    assert len({grid.base_spec(demo, "big", seed) for seed in range(3)}) == 1


@given(entry=st.dictionaries(st.sampled_from(["by", "seed", "parts", "size", "label"]), st.integers(0, 3) | st.just("rows")))
def test_off_default_drops_labels_and_defaults_only(entry: dict[str, Any]) -> None:
    kept = grid.off_default("mix", entry, "size")
    defaults = grid.DEFAULTS["mix"]
    assert kept == {
        key: value for key, value in entry.items() if key not in ("label", "size") and not (key in defaults and value == defaults[key])
    }

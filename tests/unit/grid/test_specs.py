"""specs: which cells exist, and which change of the configuration changes which specs, exactly."""

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

from gapgrid.config.load import SCHEMAS, SECTIONS
from gapgrid.core.cells import UNTOUCHED, Cell, TrainingCell
from gapgrid.core.records import canonical
from gapgrid.core.spec_types import DEFAULTS
from gapgrid.grid.cells import (
    KINDS,
    Grid,
    all_cells,
    base_seed,
    benchmarks_of,
    experiment_cells,
    named,
)
from gapgrid.grid.jobs import STAGES
from gapgrid.grid.specs import (
    JUDGE_PACKAGES,
    VERSIONS,
    base_spec,
    figure_spec,
    from_hub,
    judge_identity,
    judge_spec,
    off_default,
    request_spec,
    score_spec,
    train_spec,
)

HUB_STUDENT = {
    "kind": "hub",
    "hub": "org/student",
    "revision": "abc",
    "family": "qwen",
    "params_b": 7.0,
    "recipe": "sft-l",
    "size": "tiny",
}
SAMPLED_BENCHMARK = {
    "task": "math",
    "data": {"hub": "org/math", "revision": "abc", "configs": ["algebra"], "split": "all"},
    "columns": {"gold": "solution"},
    "rows": 500,
    "max_tokens": 100,
    "repeats": 4,
    "sampling": {"temperature": 0.7, "top_p": 0.9, "seed": 1},
    "grader": "boxed_or_last_number",
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
    """The demo grid with entries of every origin and a judge; two experiments show them all."""
    demo["experiments"] = {name: demo["experiments"][name] for name in ("long-gap", "accuracy")}
    demo["models"]["big"] = dict(HUB_STUDENT)
    demo["models"]["local"] = {**HUB_STUDENT, "kind": "path", "path": "a"}
    del demo["models"]["local"]["hub"], demo["models"]["local"]["revision"]
    columns = {"id": "n"}
    web = {"hub": "org/rows", "revision": "abc", "columns": columns, "split": "all"}
    demo["sources"]["web"] = web
    parts = {"web": 0.5, "long": 0.5}
    demo["mixes"]["tokens"] = {"parts": parts, "by": "tokens", "size": 100, "seed": 3}
    demo["benchmarks"]["math"] = copy.deepcopy(SAMPLED_BENCHMARK)
    demo["judge"] = copy.deepcopy(JUDGE)
    demo["adopted"] = {
        "big/short/0": {"hub": "org/tuned", "revision": "abc", "base": "mirror/student"},
        "local/short/0": {"path": "folder"},
    }
    return demo


SECTION_OF = {
    "source": "sources",
    "mix": "mixes",
    **dict.fromkeys(("problems", "request", "grade", "selftest"), "benchmarks"),
    **dict.fromkeys(("table", "figure"), "experiments"),
}


def all_specs(of: Grid) -> dict[str, str]:
    """Return every spec of a grid by its stage and names, as in `train xs long 0`."""
    jobs: list[tuple[Any, ...]] = [("fetch", *names) for names in from_hub(of)]
    jobs += [(stage,) for stage in ("tokenizer", "evaluate", "judge", "score", "audit")]
    jobs += [(stage, name) for stage, section in SECTION_OF.items() for name in of[section]]
    for cell in benchmarks_of(all_cells(of)):
        jobs.append(("base", cell.model, base_seed(of, cell.model, cell.seed)))
        if cell.mix != UNTOUCHED:
            jobs.append(("train", *cell))
    return {" ".join(map(str, job)): STAGES[job[0]].spec(of, *job[1:]) for job in jobs}


def changes(before: Grid, after: Grid) -> set[str]:
    """Return the specs that both grids have and that differ."""
    old, new = all_specs(before), all_specs(after)
    return {name for name in old.keys() & new.keys() if old[name] != new[name]}


def matching(names: Iterable[str], patterns: str) -> set[str]:
    """Return the names that fit one of the comma-separated patterns; each must fit a name."""
    matched: set[str] = set()
    for pattern in filter(None, patterns.split(", ")):
        fitting = {name for name in names if fnmatchcase(name, pattern)}
        assert fitting, f"nothing is called {pattern}"
        matched |= fitting
    return matched


def put(of: Grid, place: str, value: Any) -> Grid:
    """Return a copy of the grid with `value` at `place`, a path of keys; None deletes the key."""
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
    cells = all_cells(demo)
    assert len(cells) == len(set(cells)) == 48
    assert cells == sorted(cells)
    benchmarks = benchmarks_of(cells)
    assert len(benchmarks) == 16
    assert set(map(tuple, benchmarks.values())) == {("k2", "k4", "k6")}
    assert {cell.mix for cell in benchmarks} == {"none", "short", "long", "mix-long"}


def test_more_seeds_add_cells_and_keep_the_old(demo: Grid) -> None:
    more = put(demo, "seeds", [0, 1, 2])
    assert len(all_cells(more)) == 3 * 48
    assert set(all_cells(demo)) < set(all_cells(more))


@pytest.mark.parametrize("kind", ["hub", "path"])
def test_a_student_from_elsewhere_has_one_untouched_seed(demo: Grid, kind: str) -> None:
    demo["models"]["big"] = {**HUB_STUDENT, "kind": kind}
    demo["seeds"] = [1, 2]
    seeds: dict[tuple[str, str], set[int]] = {}
    for cell in experiment_cells(demo, "accuracy"):
        seeds.setdefault((cell.model, cell.mix), set()).add(cell.seed)
    assert seeds["big", "none"] == {0}
    assert seeds["big", "long"] == seeds["xs", "none"] == {1, 2}
    assert base_seed(demo, "big", 2) == 0
    assert base_seed(demo, "xs", 2) == 2


def test_an_experiment_lists_its_own_cells(demo: Grid) -> None:
    demo["experiments"] = {"e": {"models": ["xs"], "mixes": ["short"], "benchmarks": ["k6", "k2"]}}
    assert all_cells(demo) == [Cell("xs", "short", 0, "k2"), Cell("xs", "short", 0, "k6")]
    assert benchmarks_of(all_cells(demo)) == {TrainingCell("xs", "short", 0): ["k2", "k6"]}


def test_all_mixes_leave_the_untouched_student_out(demo: Grid) -> None:
    demo["experiments"]["accuracy"]["mixes"] = "all"
    mixes = {cell.mix for cell in experiment_cells(demo, "accuracy")}
    assert mixes == {"short", "long", "mix-long"}


# ---- specs are canonical texts ----


def test_specs_are_canonical_json_that_names_stage_and_version(rich: Grid) -> None:
    for name, text in all_specs(rich).items():
        content = json.loads(text)
        assert text == canonical(content), name
        assert content["stage"] == name.split()[0]
        assert content["version"] == VERSIONS[content["stage"]]


def reordered(value: Any, rng: random.Random) -> Any:
    """Return the same value with the keys of every dict in another order."""
    if isinstance(value, dict):
        return {key: reordered(value[key], rng) for key in rng.sample(list(value), len(value))}
    return [reordered(entry, rng) for entry in value] if isinstance(value, list) else value


def test_specs_do_not_depend_on_the_order_of_keys(rich: Grid) -> None:
    # A table or figure shows `all` in the order of the file, and names in the order written.
    listed = copy.deepcopy(rich)
    for entry in listed["experiments"].values():
        entry.update({kind: named(entry[kind], rich[kind]) for kind in KINDS})

    @given(st.randoms(use_true_random=False))
    def check(rng: random.Random) -> None:
        other = reordered(rich, rng)
        assert all_cells(other) == all_cells(rich)
        assert {name.split()[0] for name in changes(rich, other)} <= {"figure", "table"}
        assert changes(listed, reordered(listed, rng)) == set()

    check()


def test_a_figure_shows_names_in_the_order_written(demo: Grid) -> None:
    demo["experiments"]["accuracy"]["models"] = ["l", "xs"]
    shown = json.loads(figure_spec(demo, "accuracy"))["shown"]
    assert shown["models"] == [["l", "451k"], ["xs", "7k"]]
    mixes = {"none": "untouched", "short": "short CoT", "mix-long": "mix-long 1:4"}
    assert dict(shown["mixes"]) == {**mixes, "long": "long CoT"}
    assert [name for name, _ in shown["mixes"]] == [*mixes, "long"]


def test_specs_come_from_their_arguments_alone(rich: Grid) -> None:
    before = copy.deepcopy(rich)
    assert all_specs(rich) == all_specs(rich)
    assert rich == before


# ---- a default means the same as no key ----

# As the schemas' descriptions say; written out, since a changed default re-runs finished grids.
WRITTEN_OUT: dict[str, dict[str, Any]] = {
    "recipes/sft-xs": {
        "format": "chat",
        "over_length": "drop",
        "batching": "padded",
        "warmup_ratio": 0,
        "min_lr_ratio": 0.0,
        "weight_decay": 0.0,
        "adam_betas": [0.9, 0.999],
        "max_grad_norm": 1,
        "lora": {},
    },
    "mixes/short": {"by": "rows", "seed": 0},
    "benchmarks/k2": {"repeats": 1, "sampling": {}, "columns": {}},
    "sources/short": {"columns": {}, "split": "train"},
    "judge": {
        "policy": "undecided",
        "sampling": {"temperature": 0},
        "dtype": "auto",
        "verdict": "first_word",
    },
}
KIND_OF = dict(zip(WRITTEN_OUT, ("recipe", "mix", "benchmark", "source", "judge"), strict=True))


@pytest.mark.parametrize(
    ("place", "key"), [(place, key) for place, entry in WRITTEN_OUT.items() for key in entry]
)
def test_a_default_value_is_the_same_as_no_key(rich: Grid, place: str, key: str) -> None:
    entry = rich
    for folder in place.split("/"):
        entry = entry[folder]
    entry.pop(key, None)
    without = all_specs(rich)
    entry[key] = WRITTEN_OUT[place][key]
    assert all_specs(rich) == without


def test_every_default_is_tested_and_known_to_the_schemas() -> None:
    # The values within `lora` are defaults of the engine, not of the config entry.
    assert DEFAULTS.keys() - {"lora"} == set(KIND_OF.values())
    for place, kind in KIND_OF.items():
        assert DEFAULTS[kind] == WRITTEN_OUT[place]
        section = place.split("/")[0]
        assert DEFAULTS[kind].keys() <= (
            file_keys("judge") if section == "judge" else schema_keys(section)
        )


def test_an_optional_value_off_its_default_is_in_the_spec(rich: Grid) -> None:
    assert "repeats" not in json.loads(request_spec(rich, "k2"))
    assert json.loads(request_spec(rich, "math"))["repeats"] == 4


# ---- each key changes exactly what it decides ----

Change = tuple[str, Any, str]
TRAINED_L = (
    "train l *, train big long 0, train big mix-long 0, train local long 0, train local mix-long 0"
)
TINY = "base xs 0, base s 0, base m 0, base l 0, train xs *, train s *, train m *"
XS = "train xs *, table *"
JUDGED = "judge, score, table *"
ANSWERED = "evaluate, request *, table *"
GAP = "figure long-gap, table long-gap"


def each(entry: str, keys: str, value: Any, expected: str) -> list[Change]:
    """Return the change of each of several keys to the same value, with the same effect."""
    return [(f"{entry}/{key}", value, expected) for key in keys.split()]


# (key, other value, the specs that change). A star stands for any name; "" means no job re-runs.
CHANGES: list[Change] = [
    *each("recipes/sft-xs", "method format over_length batching", "other", XS),
    *each("recipes/sft-xs", "learning_rate warmup_ratio weight_decay max_grad_norm", 0.5, XS),
    *each("recipes/sft-xs", "epochs global_batch max_length", 77, XS),
    ("recipes/sft-xs/min_lr_ratio", None, XS),
    ("recipes/sft-xs/adam_betas", [0.8, 0.98], XS),
    ("recipes/sft-xs/lora", {"rank": 4}, XS),
    ("recipes/pretrain-s/epochs", 2, "base s 0, table *"),
    ("recipes/sft-l/epochs", 2, f"{TRAINED_L}, table *"),
    ("models/xs/recipe", "sft-s", XS),
    ("models/xs/pretrain", "pretrain-s", "base xs 0, table *"),
    ("models/xs/corpus", "short", "base xs 0, table *"),
    ("models/xs/architecture", {"layers": 2}, "base xs 0, table *"),
    ("models/xs/architecture/layers", 3, "base xs 0, table *"),
    ("models/xs/label", "7 thousand", "figure *, table *"),
    ("models/xs/family", "other", "table *"),
    ("models/xs/params_b", 8.0e-6, "table *"),
    ("models/xs/size", "huge", ""),
    *each("models/big", "hub revision", "other", "base big 0, fetch models big, table *"),
    ("models/big/revision", None, "base big 0, fetch models big, table *"),
    ("models/big/eos", "<|im_end|>", "base big 0"),
    ("models/big/label", "7B", "figure *, table *"),
    ("models/local/path", "b", "base local 0, table *"),
    ("models/local/kind", "hub", "base local 0"),
    ("sources/long/builtin/seed", 3, "source long"),
    *each("sources/web", "hub revision path", "other", "source web"),
    ("sources/web/split", None, "source web"),
    ("sources/web/columns", {"id": "m"}, "source web"),
    ("sources/long/label", "long chains", ""),
    ("mixes/mix-long/parts", {"long": 0.3, "short": 0.7}, "mix mix-long"),
    ("mixes/mix-long/by", "tokens", "mix mix-long"),
    *each("mixes/mix-long", "size seed", 100, "mix mix-long"),
    ("mixes/mix-long/label", "mixed", "figure accuracy, table accuracy"),
    ("mixes/long/label", "long chains", "figure *, table *"),
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
    ("experiments/long-gap/caption", "Another.", "table long-gap"),
    ("experiments/long-gap/plot", "accuracy_by_mix", "figure long-gap"),
    ("experiments/long-gap/weight_of", "long", "figure long-gap"),
    ("experiments/long-gap/groups", {"small": ["xs", "s"], "big": ["m", "l"]}, "figure long-gap"),
    ("experiments/long-gap/contrast", ["short", "long"], GAP),
    ("experiments/long-gap/models", ["xs", "s"], GAP),
    ("experiments/long-gap/mixes", ["short", "long", "mix-long"], GAP),
    ("experiments/long-gap/benchmarks", ["k2"], GAP),
    ("experiments/long-gap/varies", ["mix", "recipe"], "table long-gap"),
    ("experiments/long-gap/varies", ["mix"], ""),
    ("experiments/long-gap/by_benchmark", False, "table long-gap"),
    *each("experiments/long-gap", "by_benchmark awaits_data", True, ""),
    *each("hardware/tiny", "gpus cpus mem_mb runtime micro_batch tokens_per_device", 8, ""),
    *each("hardware/tiny", "zero nodes tensor_parallel", 8, ""),
    ("seeds", [0, 1], "table *, audit"),
    ("report_to", "tensorboard", ""),
    ("tokenizer", {"path": "folder"}, "tokenizer"),
    ("engine/train", "stub", f"{TINY}, {TRAINED_L}, table *"),
    ("engine/evaluate", "stub", ANSWERED),
    ("environment", "gpu", ""),
    ("judge/backend", "hf", JUDGED),
    ("judge/backend", "vllm", JUDGED),
    ("judge/backend", "none", JUDGED),
    ("judge/policy", "all", JUDGED),
    *each("judge", "model revision dtype verdict", "other", JUDGED),
    ("judge/revision", None, JUDGED),
    ("judge/prompt", "config/demo/prompts/strict.txt", ""),  # the prompt's text is an input file
    ("judge/sampling", {"temperature": 0}, JUDGED),
    ("judge/sampling/top_k", 2, JUDGED),
    ("judge/max_tokens", 30, JUDGED),
    ("judge/replies", {"correct": ["A"], "incorrect": ["B"]}, JUDGED),
    ("judge/replies/incorrect", ["False", "No"], JUDGED),
    ("judge/base_url", "http://b:2/v1", ""),
    ("judge/base_url", None, ""),
    ("judge/size", "tiny", ""),
    ("statistics/confidence", 0.9, "table *, figure *"),
    *each("statistics", "resamples seed", 500, "table *"),
    *each("versions", "torch transformers", "0.1", f"{TINY}, {TRAINED_L}, {ANSWERED}"),
    ("versions/lm_eval", "0.1", ANSWERED),
    *each("versions", "pandas openai vllm", "0.1", ""),
    # What is added or removed changes the lists that hold it, and no job of the rest.
    ("models/new", HUB_STUDENT, "table *, figure *, audit"),
    ("mixes/new", {"parts": {"long": 1.0}}, ""),
    ("sources/new", {"path": "rows.jsonl"}, ""),
    ("recipes/new", {"method": "lora"}, ""),
    ("hardware/new", {"gpus": 1}, ""),
    ("benchmarks/new", SAMPLED_BENCHMARK, "table *, figure *, audit"),
    ("benchmarks/k4", None, "table *, figure *, audit"),
    (
        "experiments/new",
        {"models": ["xs"], "mixes": ["tokens"], "benchmarks": ["math"], "plot": "accuracy_by_mix"},
        "audit",
    ),
]


@pytest.mark.parametrize(
    ("place", "value", "expected"), CHANGES, ids=[f"{place}={value}" for place, value, _ in CHANGES]
)
def test_a_key_changes_what_it_decides_and_nothing_else(
    rich: Grid, place: str, value: Any, expected: str
) -> None:
    assert changes(rich, put(rich, place, value)) == matching(all_specs(rich), expected)


def schema_keys(section: str) -> set[str]:
    """Return the keys that an entry of a section may have."""
    schema = yaml.safe_load((SCHEMAS / f"{section}.schema.yaml").read_text())
    (entry,) = schema["patternProperties"].values()
    return set(entry["properties"])


def file_keys(file: str, section: str = "") -> set[str]:
    """Return the keys of a file of settings, or of an object in it."""
    schema = yaml.safe_load((SCHEMAS / f"{file}.schema.yaml").read_text())
    return set((schema["properties"][section] if section else schema)["properties"])


def changed_keys(prefix: str, depth: int) -> set[str]:
    """Return the keys at a depth of the places in CHANGES that begin with `prefix`."""
    places = (place.split("/") for place, _, _ in CHANGES if place.startswith(prefix))
    return {keys[depth] for keys in places if len(keys) > depth}


def test_the_table_of_changes_names_every_key() -> None:
    of_plots = {"problems", "connectors", "choose"}  # in test_qualitative
    for section in SECTIONS:
        missing = schema_keys(section) - changed_keys(f"{section}/", 2)
        assert missing == (of_plots if section == "experiments" else set()), section
    assert file_keys("grid") <= changed_keys("", 0)
    for section in ("engine", "statistics"):
        assert file_keys("grid", section) <= changed_keys(f"{section}/", 1)
    # A loaded grid has the keys of the preset instead.
    assert file_keys("judge") - changed_keys("judge/", 1) == {"preset"}


# ---- adopted checkpoints ----

# The names of these cells hold slashes themselves.
ADOPTED_CHANGES: list[tuple[str, str, Any, str]] = [
    ("big/short/0", "hub", "org/other", "train big short 0, fetch adopted big/short/0, table *"),
    ("big/short/0", "revision", "def", "train big short 0, fetch adopted big/short/0"),
    ("big/short/0", "revision", None, "train big short 0, fetch adopted big/short/0"),
    ("big/short/0", "base", "mirror/other", "train big short 0"),
    ("big/short/0", "base", None, "train big short 0"),
    ("local/short/0", "path", "elsewhere", "train local short 0"),
]


@pytest.mark.parametrize(("cell", "key", "value", "expected"), ADOPTED_CHANGES)
def test_another_checkpoint_changes_its_training_cell_alone(
    rich: Grid, cell: str, key: str, value: Any, expected: str
) -> None:
    other = copy.deepcopy(rich)
    other["adopted"][cell] = put(rich["adopted"][cell], key, value)
    assert changes(rich, other) == matching(all_specs(rich), expected)


def test_every_key_of_an_adopted_checkpoint_is_tested() -> None:
    assert {key for _, key, _, _ in ADOPTED_CHANGES} == schema_keys("adopted")


def test_what_is_adopted_depends_on_no_training(rich: Grid) -> None:
    assert json.loads(train_spec(rich, "local", "short", 0)) == {
        "stage": "train",
        "version": VERSIONS["train"],
        "adopt": {"path": "folder"},
    }
    adopted = json.loads(train_spec(rich, "big", "short", 0))["adopt"]
    assert adopted == rich["adopted"]["big/short/0"]
    trained = copy.deepcopy(rich)
    del trained["adopted"]["big/short/0"]
    assert changes(rich, trained) == {"train big short 0", "table long-gap", "table accuracy"}
    as_long = train_spec(rich, "big", "long", 0)
    assert train_spec(trained, "big", "short", 0) == as_long
    assert "adopt" not in json.loads(as_long)


# ---- the judge ----


def test_a_judge_is_what_a_verdict_depends_on(rich: Grid) -> None:
    assert judge_identity(rich) == {
        "engine": {"name": "openai"},
        "version": VERSIONS["judge"],
        "model": "org/judge",
        "revision": "abc",
        "sampling": {"temperature": 0, "top_k": 1},
        "max_tokens": 20,
        "dtype": "float16",
        "replies": {"correct": ["True"], "incorrect": ["False"]},
    }


def test_a_judge_is_the_same_whichever_answers_it_sees(rich: Grid) -> None:
    everything = put(rich, "judge/policy", "all")
    assert judge_identity(everything) == judge_identity(rich)
    for spec_of in (judge_spec, score_spec):
        assert "policy" not in json.loads(spec_of(rich))
        assert json.loads(spec_of(everything)) == {**json.loads(spec_of(rich)), "policy": "all"}


def test_without_a_judge_its_other_settings_count_for_nothing(rich: Grid) -> None:
    without = put(rich, "judge/backend", "none")
    assert judge_identity(without) == {"engine": {"name": "none"}}
    for key in JUDGE.keys() - {"backend", "policy"}:
        assert changes(without, put(without, f"judge/{key}", None)) == set(), key
    assert changes(without, put(without, "judge/policy", "all")) == set()
    for spec_of in (judge_spec, score_spec):
        assert json.loads(spec_of(without)).keys() == {"stage", "version", "judge"}


BACKENDS: dict[str, set[str]] = {
    "vllm": {"vllm", "torch", "transformers"},
    "hf": {"torch", "transformers"},
    "openai": set(),
    "stub": set(),
    "none": set(),
}


@pytest.mark.parametrize(("backend", "packages"), BACKENDS.items())
def test_a_judge_in_the_job_names_its_packages(
    rich: Grid, backend: str, packages: set[str]
) -> None:
    rich["judge"]["backend"] = backend
    rich["versions"]["vllm"] = "0.9"
    versions = {package: rich["versions"][package] for package in packages}
    assert judge_identity(rich)["engine"] == {"name": backend, **versions}
    for package in ("vllm", "torch", "transformers"):
        is_changed = "judge" in changes(rich, put(rich, f"versions/{package}", "0.1"))
        assert is_changed == (package in packages)


def test_every_backend_of_the_schema_is_known() -> None:
    schema = yaml.safe_load((SCHEMAS / "judge.schema.yaml").read_text())
    assert set(schema["properties"]["backend"]["enum"]) == JUDGE_PACKAGES.keys() == BACKENDS.keys()


def test_a_judge_that_its_job_loads_is_fetched(rich: Grid) -> None:
    rest = [("models", "big"), ("adopted", "big/short/0")]
    assert from_hub(rich) == rest
    for backend in ("hf", "vllm"):
        fetched = put(rich, "judge/backend", backend)
        assert from_hub(fetched) == [*rest, ("judge", "judge")]
        for key, value in (("model", "org/other"), ("revision", "def"), ("revision", None)):
            expected = matching(all_specs(fetched), f"fetch judge judge, {JUDGED}")
            assert changes(fetched, put(fetched, f"judge/{key}", value)) == expected
        for folder in ("./judge", "/judge"):
            assert from_hub(put(fetched, "judge/model", folder)) == rest


# ---- versions and seeds ----

VERSIONED = {
    "evaluate": "evaluate, request *",
    "grade": "grade *, selftest *",
    "judge": "judge, score",
}


@pytest.mark.parametrize(
    "stage", sorted(VERSIONS.keys() - {"shift", "shift_figure", "case"})
)  # test_qualitative has these
def test_a_new_version_changes_the_stage(
    rich: Grid, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    before = all_specs(rich)
    monkeypatch.setitem(VERSIONS, stage, VERSIONS[stage] + 1)
    after = all_specs(rich)
    expected = matching(before, VERSIONED.get(stage, f"{stage}*"))
    assert {name for name in before if before[name] != after[name]} == expected


def test_a_tiny_student_differs_by_seed_and_one_of_the_hub_does_not(rich: Grid) -> None:
    assert len({base_spec(rich, "xs", seed) for seed in range(3)}) == 3
    assert len({train_spec(rich, "xs", "long", seed) for seed in range(3)}) == 3
    assert len({base_spec(rich, "big", seed) for seed in range(3)}) == 1


@given(
    entry=st.dictionaries(
        st.sampled_from(["by", "seed", "parts", "size", "label"]),
        st.integers(0, 3) | st.just("rows"),
    )
)
def test_off_default_drops_labels_and_defaults_only(entry: dict[str, Any]) -> None:
    kept = off_default("mix", entry, "size")
    assert kept.keys() <= entry.keys() - {"label", "size"}
    for key in entry.keys() - {"label", "size"}:
        is_default = key in DEFAULTS["mix"] and entry[key] == DEFAULTS["mix"][key]
        assert (key in kept) != is_default

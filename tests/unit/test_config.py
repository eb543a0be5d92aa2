"""config: the demo grid loads, every mistake is named with file, key and what was expected, all at once."""

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from gapgrid import config
from gapgrid.records import InputError

CONFIG = config.REPOSITORY / "config"
SCHEMA_FILES = sorted(config.SCHEMAS.glob("*.schema.yaml"))
Edit = Callable[[str], str]


def replace(old: str, new: str) -> Edit:
    """Put `new` in place of the first `old`, which must be there."""

    def edit(text: str) -> str:
        assert old in text
        return text.replace(old, new, 1)

    return edit


def append(line: str) -> Edit:
    """Add a line at the end."""
    return lambda text: text + line + "\n"


def judged(settings: str) -> Edit:
    """Put another judge in place of none."""
    return replace("backend: none", settings)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the demo grid."""
    return Path(shutil.copytree(CONFIG / "demo", tmp_path / "config" / "demo"))


def of_environment(folder: Path, name: str) -> None:
    """Have a grid run in this environment."""
    file = folder / "grid.yaml"
    file.write_text(re.sub(r"(?m)^environment: \w+", f"environment: {name}", file.read_text()))


def mistakes(folder: Path, overrides: dict[str, Any] | None = None) -> list[str]:
    """The lines of the error that a grid raises, its own folder left out; [] for none."""
    try:
        config.load(folder.name, overrides, root=folder.parent)
    except InputError as error:
        return str(error).replace(f"{folder}/", "").splitlines()
    return []


# ---- what is right ----


@pytest.mark.parametrize("name", sorted(file.parent.name for file in CONFIG.glob("*/grid.yaml")))
def test_every_grid_of_the_repository_loads(name: str) -> None:
    grid = config.load(name, root=CONFIG)
    assert grid["name"] == name
    assert set(config.SECTIONS) < grid.keys()


def test_the_demo_grid_knows_its_locked_versions(demo: dict[str, Any]) -> None:
    assert re.fullmatch(r"\d+\.\d+.*", demo["versions"]["transformers"])
    assert {"torch", "transformers", "lm_eval"} <= demo["versions"].keys()


def test_a_grid_is_read_the_same_wherever_it_lies(demo: dict[str, Any], folder: Path) -> None:
    moved = config.load("demo", root=folder.parent)
    assert {**moved, "folder": None} == {**demo, "folder": None}


def test_only_seeds_can_be_overridden(folder: Path) -> None:
    overrides = {"seeds": [0, 1, 2], "grid": "demo", "results": "elsewhere"}
    changed = config.load("demo", overrides, root=folder.parent)
    assert changed["seeds"] == [0, 1, 2]
    assert changed == {**config.load("demo", root=folder.parent), "seeds": [0, 1, 2]}
    with pytest.raises(InputError, match=r"--config: unknown key 'sedes' \(did you mean 'seeds'\?\)"):
        config.load("demo", {"sedes": [1]}, root=folder.parent)


@pytest.mark.parametrize(
    ("seeds", "expected"),
    [
        ("0", "grid.yaml: seeds: found '0', expected array"),
        (3, "grid.yaml: seeds: found 3, expected array"),
        ([], "grid.yaml: seeds: found [], expected at least 1 of them"),
        ([1, 1], "grid.yaml: seeds: found [1, 1], expected each entry once"),
        ([-1], "grid.yaml: seeds.0: found -1, expected at least 0"),
        (["a"], "grid.yaml: seeds.0: found 'a', expected integer"),
    ],
)
def test_overriding_seeds_are_checked(folder: Path, seeds: Any, expected: str) -> None:
    assert mistakes(folder, {"seeds": seeds}) == [expected]


# ---- the schemas themselves ----


def subschemas(schema: Any, where: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema within a schema, with its place."""
    if not isinstance(schema, dict):
        return
    yield where, schema
    for keyword in ("properties", "patternProperties"):
        for name, inner in schema.get(keyword, {}).items():
            yield from subschemas(inner, f"{where}/{keyword}/{name}")
    for keyword in ("items", "additionalProperties"):
        yield from subschemas(schema.get(keyword), f"{where}/{keyword}")
    for keyword in ("oneOf", "anyOf", "allOf"):
        for index, inner in enumerate(schema.get(keyword, ())):
            yield from subschemas(inner, f"{where}/{keyword}/{index}")


def test_there_is_a_schema_for_each_file() -> None:
    assert {file.name for file in SCHEMA_FILES} == {f"{name}.schema.yaml" for name in (*config.FILES, *config.OPTIONAL)}


@pytest.mark.parametrize("file", SCHEMA_FILES, ids=lambda file: file.name)
def test_no_object_takes_unknown_keys(file: Path) -> None:
    for where, schema in subschemas(yaml.safe_load(file.read_text())):
        if schema.get("type") == "object" or "properties" in schema:
            # A schema in place of false describes names that the user chooses, such as sources in a mix.
            assert schema.get("additionalProperties") is False or "properties" not in schema, where
            assert "additionalProperties" in schema, where
            assert set(schema.get("required", ())) <= schema.get("properties", {}).keys(), where


@pytest.mark.parametrize("file", SCHEMA_FILES, ids=lambda file: file.name)
def test_every_key_is_described(file: Path) -> None:
    walked = list(subschemas(yaml.safe_load(file.read_text())))
    assert len(walked) > 5
    for where, schema in walked:
        if "/oneOf/" not in where:
            assert len(schema.get("description", "")) > 5, f"{file.name}{where}"


@pytest.mark.parametrize("file", SCHEMA_FILES, ids=lambda file: file.name)
def test_no_schema_fills_in_defaults(file: Path) -> None:
    assert not [where for where, schema in subschemas(yaml.safe_load(file.read_text())) if "default" in schema]


# ---- one mistake each: (file, what is done to it, what the only message must say) ----

MISTAKES: dict[str, tuple[str, Edit, str]] = {
    "unknown key": (
        "recipes.yaml",
        replace("{<<: *pretrain, learning_rate: 8.0e-3}", "{<<: *pretrain, learning_rat: 8.0e-3}"),
        "recipes.yaml: pretrain-s: unknown key 'learning_rat' (did you mean 'learning_rate'?); expected one of method, ",
    ),
    "unknown key of the grid": (
        "grid.yaml",
        append("sedes: [1]"),
        "grid.yaml: unknown key 'sedes' (did you mean 'seeds'?); expected one of ",
    ),
    "unknown key deep down": (
        "models.yaml",
        replace("layers: 2", "layers: 2, layer: 3"),
        "models.yaml: xs.architecture: unknown key 'layer' (did you mean 'layers'?)",
    ),
    "missing key": (
        "models.yaml",
        replace("  family: miniature\n", ""),
        "models.yaml: xs: key 'family' is missing; Students of one family share a line in figures.",
    ),
    "wrong type": ("hardware.yaml", replace("cpus: 1", "cpus: one"), "hardware.yaml: tiny.cpus: found 'one', expected integer"),
    "number that YAML reads as text": (
        "recipes.yaml",
        replace("1.0e-2", "1e-2"),
        "recipes.yaml: pretrain-xs.learning_rate: found '1e-2', expected number",
    ),
    "number out of range": (
        "grid.yaml",
        replace("confidence: 0.95", "confidence: 95"),
        "grid.yaml: statistics.confidence: found 95, expected less than 1",
    ),
    "not a number": ("recipes.yaml", replace("1.0e-2", ".nan"), "recipes.yaml:5: found .nan, expected a finite number"),
    "infinite": ("recipes.yaml", replace("1.0e-2", "-.inf"), "recipes.yaml:5: found -.inf, expected a finite number"),
    "unknown choice": (
        "experiments.yaml",
        replace("gap_by_size", "gap_bysize"),
        "experiments.yaml: long-gap.plot: found 'gap_bysize', expected one of gap_by_size, accuracy_by_mix, bars, pairs, by_weight, "
        "token_shift, case_study (did you mean 'gap_by_size'?)",
    ),
    "name in capitals": ("mixes.yaml", append("Big: {parts: {long: 1.0}}"), "mixes.yaml: name 'Big' found, expected lower-case letters"),
    "name that is a path": (
        "mixes.yaml",
        append("../x: {parts: {long: 1.0}}"),
        "mixes.yaml: name '../x' found, expected lower-case letters",
    ),
    "name that YAML reads as a number": (
        "mixes.yaml",
        append("7: {parts: {long: 1.0}}"),
        "mixes.yaml:4: key 7 is read as int, expected text",
    ),
    "name that YAML reads as false": (
        "mixes.yaml",
        append("no: {parts: {long: 1.0}}"),
        "mixes.yaml:4: key False is read as bool, expected text; put it in quotes",
    ),
    "name that is a list": ("mixes.yaml", append("[a]: {parts: {long: 1.0}}"), "mixes.yaml:4: key ['a'] is read as list, expected text"),
    "key given twice": (
        "recipes.yaml",
        replace("  epochs: 1\n", "  epochs: 1\n  epochs: 2\n"),
        "recipes.yaml:7: key 'epochs' is given twice, first in line 6",
    ),
    "name given twice": ("mixes.yaml", append("short: {parts: {long: 1.0}}"), "mixes.yaml:4: key 'short' is given twice, first in line 1"),
    "shares that sum to 0.9": (
        "mixes.yaml",
        replace("{long: 0.2, short: 0.8}", "{long: 0.2, short: 0.7}"),
        "mixes.yaml: mix-long.parts: shares sum to 0.9, expected 1",
    ),
    "shares above 1": (
        "mixes.yaml",
        replace("{long: 0.2, short: 0.8}", "{long: 0.5, short: 0.8}"),
        "mixes.yaml: mix-long.parts: shares sum to 1.3, expected 1",
    ),
    "unknown source": (
        "mixes.yaml",
        replace("parts: {short: 1.0}", "parts: {shrot: 1.0}"),
        "mixes.yaml: short.parts: 'shrot' is not in sources.yaml (did you mean 'short'?); expected one of corpus, short, long",
    ),
    "mix called none": (
        "mixes.yaml",
        append("none: {parts: {long: 1.0}}"),
        "mixes.yaml: none: the name none is taken, it is the untouched student",
    ),
    "unknown model": (
        "experiments.yaml",
        replace("models: all", "models: [xs, mm]"),
        "experiments.yaml: long-gap.models: 'mm' is not in models.yaml (did you mean 'm'?); expected one of xs, s, m, l",
    ),
    "unknown mix": (
        "experiments.yaml",
        replace("[none, short, mix-long, long]", "[none, short, mix-lnog]"),
        "experiments.yaml: accuracy.mixes: 'mix-lnog' is not in mixes.yaml (did you mean 'mix-long'?); expected one of ",
    ),
    "unknown benchmark": (
        "experiments.yaml",
        replace("benchmarks: all", "benchmarks: [k2, k44]"),
        "experiments.yaml: long-gap.benchmarks: 'k44' is not in benchmarks.yaml (did you mean 'k4'?)",
    ),
    "neither all nor a list": (
        "experiments.yaml",
        replace("models: all", "models: xs"),
        "experiments.yaml: long-gap.models: found 'xs', expected the word all, or a list of names, each once",
    ),
    "name listed twice": (
        "experiments.yaml",
        replace("models: all", "models: [xs, xs]"),
        "experiments.yaml: long-gap.models: found ['xs', 'xs'], expected the word all, or a list of names, each once",
    ),
    "contrast outside the mixes": (
        "experiments.yaml",
        replace("contrast: [long, short]", "contrast: [long, mix-long]"),
        "experiments.yaml: long-gap.contrast: 'mix-long' is not among the experiment's mixes (long, short)",
    ),
    "contrast missing": (
        "experiments.yaml",
        replace("  contrast: [long, short]\n", ""),
        "experiments.yaml: long-gap: key 'contrast' is missing; plot gap_by_size needs it",
    ),
    "contrast of one": (
        "experiments.yaml",
        replace("contrast: [long, short]", "contrast: [long]"),
        "experiments.yaml: long-gap.contrast: found ['long'], expected at least 2 of them",
    ),
    "unknown recipe": (
        "models.yaml",
        replace("recipe: sft-xs", "recipe: sft-sx"),
        "models.yaml: xs.recipe: 'sft-sx' is not in recipes.yaml (did you mean 'sft-",
    ),
    "unknown pretraining": (
        "models.yaml",
        replace("pretrain: pretrain-xs", "pretrain: pretrain-xxs"),
        "models.yaml: xs.pretrain: 'pretrain-xxs' is not in recipes.yaml (did you mean 'pretrain-xs'?)",
    ),
    "unknown corpus": (
        "models.yaml",
        replace("corpus: corpus", "corpus: copus"),
        "models.yaml: xs.corpus: 'copus' is not in sources.yaml (did you mean 'corpus'?)",
    ),
    "unknown size": (
        "models.yaml",
        replace("size: tiny", "size: tinny"),
        "models.yaml: xs.size: 'tinny' is not in hardware.yaml (did you mean 'tiny'?); expected one of tiny",
    ),
    "width that heads do not divide": (
        "models.yaml",
        replace("hidden_size: 16, layers: 2, heads: 2", "hidden_size: 18, layers: 2, heads: 2"),
        "models.yaml: xs.architecture: hidden_size 18, expected a multiple of twice heads (4)",
    ),
    "tiny student without corpus": (
        "models.yaml",
        replace("  corpus: corpus\n", ""),
        "models.yaml: xs: key 'corpus' is missing; kind tiny needs it",
    ),
    "hub student without id": (
        "models.yaml",
        append("big: {kind: hub, family: f, params_b: 1, recipe: sft-l, size: tiny}"),
        "models.yaml: big: key 'hub' is missing; kind hub needs it",
    ),
    "key of another kind": (
        "models.yaml",
        append("big: {kind: hub, hub: a/b, path: c, family: f, params_b: 1, recipe: sft-l, size: tiny}"),
        "models.yaml: big: key 'path' goes with kind path, found kind hub",
    ),
    "model folder without config.json": (
        "models.yaml",
        append("big: {kind: path, path: no/such/folder, family: f, params_b: 1, recipe: sft-l, size: tiny}"),
        "models.yaml: big.path: no/such/folder holds no config.json",
    ),
    "source from nowhere": (
        "sources.yaml",
        append("web: {columns: {id: n}}"),
        "sources.yaml: web: found none of builtin, hub, path, expected exactly one",
    ),
    "source from two places": (
        "sources.yaml",
        append("web: {hub: a/b, builtin: {style: long, rows: 1, seed: 1}}"),
        "sources.yaml: web: found builtin and hub of builtin, hub, path, expected exactly one",
    ),
    "source file that is not there": (
        "sources.yaml",
        append("web: {path: absent.jsonl}"),
        "sources.yaml: web.path: absent.jsonl does not exist",
    ),
    "benchmark file that is not there": (
        "benchmarks.yaml",
        append("k8: {<<: *story, data: {path: absent.jsonl}}"),
        "benchmarks.yaml: k8.data.path: absent.jsonl does not exist",
    ),
    "benchmark without task file": (
        "benchmarks.yaml",
        append("k8: {<<: *story, task: storey}"),
        "benchmarks.yaml: k8.task: tasks/storey.yaml does not exist (did you mean 'story'?); there is story",
    ),
    "benchmark without row count": (
        "benchmarks.yaml",
        append("k8: {task: story, data: {hub: a/b}, max_tokens: 9, grader: boxed}"),
        "benchmarks.yaml: k8: key 'rows' is missing; How many problems there must be; another number stops the run.",
    ),
    "repeats that would all be the same": (
        "benchmarks.yaml",
        append("k8: {<<: *story, repeats: 4}"),
        "benchmarks.yaml: k8.repeats: 4 greedy answers would be the same, expected sampling.temperature above 0",
    ),
    "repeats at temperature 0": (
        "benchmarks.yaml",
        append("k8: {<<: *story, repeats: 4, sampling: {temperature: 0}}"),
        "benchmarks.yaml: k8.repeats: 4 greedy answers would be the same, expected sampling.temperature above 0",
    ),
    "task of another name": (
        "tasks/story.yaml",
        replace("task: story", "task: tale"),
        "tasks/story.yaml: key task is tale, expected story, ",
    ),
    "task without a name": ("tasks/story.yaml", replace("task: story\n", ""), "tasks/story.yaml: key task is missing, expected story, "),
    "judge in grid.yaml": (
        "grid.yaml",
        append("judge: {backend: none}"),
        "grid.yaml: unknown key 'judge'; expected one of seeds, environment, engine, tokenizer, report_to, statistics",
    ),
    "judge without backend": (
        "judge.yaml",
        replace("backend: none", "preset: paper"),
        "judge.yaml: key 'backend' is missing; none: rules only",
    ),
    "unknown backend": (
        "judge.yaml",
        judged("backend: opnai"),
        "judge.yaml: backend: found 'opnai', expected one of none, vllm, hf, openai, stub (did you mean 'openai'?)",
    ),
    "unknown preset": (
        "judge.yaml",
        judged("{backend: stub, preset: papre}"),
        "judge.yaml: preset: found 'papre', expected one of paper, compass-verifier (did you mean 'paper'?)",
    ),
    "unknown policy": (
        "judge.yaml",
        judged("{backend: stub, policy: some}"),
        "judge.yaml: policy: found 'some', expected one of undecided, all",
    ),
    "unknown key of the judge": (
        "judge.yaml",
        judged("{backend: stub, max_token: 20}"),
        "judge.yaml: unknown key 'max_token' (did you mean 'max_tokens'?); expected one of backend, ",
    ),
    "unknown key of its sampling": (
        "judge.yaml",
        judged("{backend: stub, sampling: {temprature: 0}}"),
        "judge.yaml: sampling: unknown key 'temprature' (did you mean 'temperature'?)",
    ),
    "judge colder than greedy": (
        "judge.yaml",
        judged("{backend: stub, sampling: {temperature: -1}}"),
        "judge.yaml: sampling.temperature: found -1, expected at least 0",
    ),
    "judge without a word for wrong": (
        "judge.yaml",
        judged("{backend: stub, replies: {correct: [A]}}"),
        "judge.yaml: replies: key 'incorrect' is missing; Words that reject it.",
    ),
    "judge with no words for wrong": (
        "judge.yaml",
        judged("{backend: stub, replies: {correct: [A], incorrect: []}}"),
        "judge.yaml: replies.incorrect: found [], expected at least 1 of them",
    ),
    "word that is empty": (
        "judge.yaml",
        judged("{backend: stub, replies: {correct: [A], incorrect: ['']}}"),
        "judge.yaml: replies.incorrect.0: found '', expected at least 1 of them",
    ),
    "word that YAML reads as true": (
        "judge.yaml",
        judged("{backend: stub, replies: {correct: [True], incorrect: ['False']}}"),
        "judge.yaml: replies.correct.0: found True, expected string",
    ),
    "word that means both": (
        "judge.yaml",
        judged("{backend: stub, replies: {correct: [A, B, C], incorrect: [C, B, D]}}"),
        "judge.yaml: replies: B, C found under correct and incorrect, expected one verdict a word",
    ),
    "prompt in another folder": (
        "judge.yaml",
        judged("{backend: stub, prompt: ../grid.yaml}"),
        "judge.yaml: prompt: found '../grid.yaml', expected ",
    ),
    "prompt that is not there": (
        "judge.yaml",
        judged("{backend: stub, prompt: absent.txt}"),
        "judge.yaml: prompt: prompts/absent.txt does not exist",
    ),
    "prompt that is a folder": (
        "judge.yaml",
        judged("{backend: stub, prompt: ..}"),
        "judge.yaml: prompt: ",
    ),
    "judge on no server": ("judge.yaml", judged("backend: openai"), "judge.yaml: key 'base_url' is missing; backend openai needs it"),
    "judge in the job without a size": ("judge.yaml", judged("backend: hf"), "judge.yaml: key 'size' is missing; backend hf needs it"),
    "judge in vLLM without a size": ("judge.yaml", judged("backend: vllm"), "judge.yaml: key 'size' is missing; backend vllm needs it"),
    "judge of an unknown size": (
        "judge.yaml",
        judged("{backend: hf, size: tinny}"),
        "judge.yaml: size: 'tinny' is not in hardware.yaml (did you mean 'tiny'?); expected one of tiny",
    ),
    "two tokenizers": (
        "grid.yaml",
        replace("{builtin: arithmetic}", "{builtin: arithmetic, path: x}"),
        "grid.yaml: tokenizer: found builtin and path of builtin, hub, path, expected exactly one",
    ),
    "revision of no repository": (
        "grid.yaml",
        replace("{builtin: arithmetic}", "{builtin: arithmetic, revision: abc}"),
        "grid.yaml: tokenizer: revision is given without hub",
    ),
    "broken YAML": ("mixes.yaml", append("x: {parts: ["), "mixes.yaml: not valid YAML: while parsing a flow node"),
    "two documents": ("mixes.yaml", append("---\na: 1"), "mixes.yaml: not valid YAML: expected a single document"),
    "unknown anchor": ("mixes.yaml", append("x: *nope"), "mixes.yaml: not valid YAML: found undefined alias 'nope'"),
    "empty file": ("mixes.yaml", lambda text: "", "mixes.yaml: found None, expected object"),
    "no entries": ("mixes.yaml", lambda text: "{}", "mixes.yaml: found {}, expected at least 1 of them"),
    "a list of mixes": ("mixes.yaml", lambda text: "- short", "mixes.yaml: found ['short'], expected object"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_named(folder: Path, name: str) -> None:
    file, edit, expected = MISTAKES[name]
    (folder / "prompts").mkdir()
    path = folder / file
    path.write_text(edit(path.read_text()))
    found = mistakes(folder)
    assert [line[: len(expected)] for line in found] == [expected], found


def test_the_unchanged_copy_has_no_mistake(folder: Path) -> None:
    assert mistakes(folder) == []


@pytest.mark.parametrize("file", [f"{name}.yaml" for name in config.FILES])
def test_a_missing_file_is_named(folder: Path, file: str) -> None:
    (folder / file).unlink()
    assert mistakes(folder) == [f"{file}: no such file; a grid needs " + ", ".join(f"{name}.yaml" for name in config.FILES)]


@pytest.mark.parametrize("name", config.OPTIONAL)
def test_an_optional_file_may_be_missing_and_is_checked_where_it_is_there(folder: Path, name: str) -> None:
    file = folder / f"{name}.yaml"
    assert not file.exists() and config.load("demo", root=folder.parent)[name] == {}
    file.write_text("x: {parts: [")
    assert [line[:30] for line in mistakes(folder)] == [f"{name}.yaml: not valid YAML: "[:30]]
    file.write_text("- a\n")
    assert mistakes(folder) == [f"{name}.yaml: found ['a'], expected object"]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("xs/long/0: {hub: a/b}", []),
        ("xs/long/0: {hub: a/b, revision: abc, base: mirror/student}", []),
        (
            "xs/lnog/0: {hub: a/b}",
            ["adopted.yaml: xs/lnog/0: 'lnog' is not in mixes.yaml (did you mean 'long'?); expected one of short, long,"],
        ),
        (
            "xss/long/0: {hub: a/b}",
            ["adopted.yaml: xss/long/0: 'xss' is not in models.yaml (did you mean 'xs'?); expected one of xs, s, m, l"],
        ),
        ("xs/none/0: {hub: a/b}", ["adopted.yaml: xs/none/0: 'none' is not in mixes.yaml"]),
        ("xs/long: {hub: a/b}", ["adopted.yaml: name 'xs/long' found"]),
        ("xs/long/a: {hub: a/b}", ["adopted.yaml: name 'xs/long/a' found"]),
        ("xs/long/-1: {hub: a/b}", ["adopted.yaml: name 'xs/long/-1' found"]),
        ("xs/long/00: {hub: a/b}", ["adopted.yaml: name 'xs/long/00' found"]),
        ("xs/long/01: {hub: a/b}", ["adopted.yaml: name 'xs/long/01' found"]),
        ("xs/long/1: {hub: a/b}", ["adopted.yaml: xs/long/1: seed 1 is none of the grid's (0)"]),
        ("xs/long/10: {hub: a/b}", ["adopted.yaml: xs/long/10: seed 10 is none of the grid's (0)"]),
        ("xs/long/0: {}", ["adopted.yaml: xs/long/0: found none of hub, path, expected exactly one"]),
        (
            "xs/long/0: {hub: a/b, path: c}",
            ["adopted.yaml: xs/long/0.path: c holds", "adopted.yaml: xs/long/0: found hub and path of hub, path"],
        ),
        ("xs/long/0: {path: absent}", ["adopted.yaml: xs/long/0.path: absent holds neither config.json nor adapter_config.json"]),
        (
            "xs/long/0: {path: absent, revision: abc}",
            ["adopted.yaml: xs/long/0.path: absent holds neither", "adopted.yaml: xs/long/0: revision is given without hub"],
        ),
        (
            "xs/long/0: {hub: a/b, adapter: true}",
            ["adopted.yaml: xs/long/0: unknown key 'adapter'; expected one of hub, revision, path, base"],
        ),
        ("xs/long/0: {hub: a/b, bas: c}", ["adopted.yaml: xs/long/0: unknown key 'bas' (did you mean 'base'?)"]),
        ("xs/long/0: {hub: a/b, base: ''}", ["adopted.yaml: xs/long/0.base: "]),
        ("xs/long/0: {hub: a/b, base: true}", ["adopted.yaml: xs/long/0.base: "]),
    ],
)
def test_a_mistake_in_what_is_adopted_is_named(folder: Path, line: str, expected: list[str]) -> None:
    (folder / "adopted.yaml").write_text(f"{line}\n")
    found = mistakes(folder)
    assert [line[: len(start)] for line, start in zip(found, expected, strict=True)] == expected, found


@pytest.mark.parametrize("file", ["config.json", "adapter_config.json"])
def test_a_folder_with_a_model_or_an_adapter_may_be_adopted(folder: Path, tmp_path: Path, file: str) -> None:
    checkpoint = tmp_path / "checkpoint"
    checkpoint.mkdir()
    (folder / "adopted.yaml").write_text(f"xs/long/0: {{path: {checkpoint}}}\n")
    assert mistakes(folder) == [f"adopted.yaml: xs/long/0.path: {checkpoint} holds neither config.json nor adapter_config.json"]
    (checkpoint / file).mkdir()
    assert len(mistakes(folder)) == 1, "a folder of that name is none"
    (checkpoint / file).rmdir()
    (checkpoint / file).write_text("{}")
    assert mistakes(folder) == []


def test_an_adopted_seed_is_one_of_those_that_are_built(folder: Path) -> None:
    (folder / "adopted.yaml").write_text("xs/long/0: {hub: a/b}\nxs/long/17: {hub: a/b}\n")
    assert mistakes(folder, {"seeds": [0, 17]}) == []
    assert mistakes(folder, {"seeds": [17, 1]}) == ["adopted.yaml: xs/long/0: seed 0 is none of the grid's (17, 1)"]


def test_repositories_without_a_commit_are_warned_of(folder: Path) -> None:
    def warned(judge: str) -> list[str]:
        (folder / "judge.yaml").write_text(judge)
        return [line.split(", its revision is main, ")[0] for line in config.warnings(config.load("demo", root=folder.parent))]

    assert warned("backend: none") == []
    (folder / "adopted.yaml").write_text("xs/long/0: {hub: a/b}\nxs/short/0: {hub: a/b, revision: abc}\n")
    unpinned = ["adopted.yaml: xs/long/0: a/b is not pinned"]
    assert warned("backend: none") == unpinned
    judge = "judge.yaml: judge: org/judge is not pinned"
    for backend, environment in (("hf", "cpu"), ("vllm", "gpu")):
        of_environment(folder, environment)
        assert warned(f"{{backend: {backend}, size: tiny, model: org/judge}}") == [*unpinned, judge]
        assert warned(f"{{backend: {backend}, size: tiny, model: org/judge, revision: abc}}") == unpinned
        assert warned(f"{{backend: {backend}, size: tiny, model: {folder}}}") == unpinned
    assert warned("{backend: openai, base_url: 'http://a:1', model: org/judge}") == unpinned


def test_invalid_utf8_is_named(folder: Path) -> None:
    path = folder / "mixes.yaml"
    content = path.read_bytes()
    path.write_bytes(content + b"# \xff\n")
    assert mistakes(folder) == [f"mixes.yaml: invalid UTF-8 (invalid start byte at byte {len(content) + 2})"]


def test_a_model_folder_with_config_json_is_accepted(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    entry = f"big: {{kind: path, path: {tmp_path}/model, family: f, params_b: 1, recipe: sft-l, size: tiny}}"
    path = folder / "models.yaml"
    path.write_text(append(entry)(path.read_text()))
    assert mistakes(folder) == [f"models.yaml: big.path: {tmp_path}/model holds no config.json"]
    (tmp_path / "model" / "config.json").write_text("{}")
    assert mistakes(folder) == []


# ---- the judge ----

PARTS = "{problem} {gold} {answer}"


def judge(folder: Path, settings: str) -> dict[str, Any]:
    """The judge of a grid with these settings."""
    path = folder / "judge.yaml"
    path.write_text(settings)
    return config.load("demo", root=folder.parent)["judge"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{problem} {gold}", ["holds {answer} 0 times, expected once"]),
        (f"{PARTS} {{gold}}", ["holds {gold} 2 times, expected once"]),
        ("", [f"holds {{{part}}} 0 times, expected once" for part in ("answer", "gold", "problem")]),
        ("{ problem } {{gold} {Answer} {answer}", ["holds {problem} 0 times, expected once"]),
        (PARTS, []),
        (f'{PARTS} {{"json": 1}} {{}}', []),
    ],
)
@pytest.mark.parametrize("backend", ["stub", "none"])
def test_a_prompt_must_hold_each_part_once(folder: Path, backend: str, text: str, expected: list[str]) -> None:
    (folder / "prompts").mkdir()
    (folder / "prompts" / "judge.txt").write_text(text)
    (folder / "judge.yaml").write_text(f"{{backend: {backend}, prompt: judge.txt}}")
    told = [f"judge.yaml: prompt: prompts/judge.txt {line}" for line in expected]
    found = [line.replace(f"{folder}/", "") for line in mistakes(folder)]
    assert found == (told if backend != "none" else [])


PRESETS = sorted(file.stem for file in config.JUDGES.glob("*.yaml"))


def test_the_presets_are_those_that_the_schema_names() -> None:
    schema = yaml.safe_load((config.SCHEMAS / "judge.schema.yaml").read_text())
    assert sorted(schema["properties"]["preset"]["enum"]) == PRESETS
    assert len(PRESETS) == 2


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_a_whole_judge(folder: Path, name: str) -> None:
    settings = config.read_yaml(config.JUDGES / f"{name}.yaml")
    schema = yaml.safe_load((config.SCHEMAS / "judge.schema.yaml").read_text())
    assert config.schema_problems(Path("judge.yaml"), {"backend": "stub", **settings}, schema) == []
    found = judge(folder, f"{{backend: stub, preset: {name}}}")
    assert found.keys() == schema["properties"].keys() - {"preset", "base_url", "size"}
    expected = {**settings, "backend": "stub", "policy": "undecided"}
    assert {**found, "prompt": None} == {**expected, "prompt": None}
    assert (config.REPOSITORY / found["prompt"]).samefile(config.JUDGES / settings["prompt"])


def test_the_papers_judge_is_the_default(folder: Path) -> None:
    found = judge(folder, "backend: stub")
    assert found == judge(folder, "{backend: stub, preset: paper}") != judge(folder, "{backend: stub, preset: compass-verifier}")
    assert (found["model"], found["max_tokens"]) == ("Qwen/Qwen2.5-32B-Instruct", 20)
    assert (found["dtype"], found["sampling"]) == ("float16", {"temperature": 0, "top_k": 1})
    assert (found["verdict"], found["replies"]) == ("first_word", {"correct": ["True"], "incorrect": ["False"]})


def test_what_a_grid_says_of_its_judge_wins_over_the_preset(folder: Path) -> None:
    (folder / "prompts").mkdir()
    (folder / "prompts" / "strict.txt").write_text(PARTS)
    own = {
        "backend": "openai",
        "policy": "all",
        "model": "org/other",
        "revision": "abc",
        "sampling": {"temperature": 0.5},
        "max_tokens": 9,
        "dtype": "auto",
        "verdict": "whole_reply",
        "replies": {"correct": ["Y"], "incorrect": ["N"]},
        "base_url": "http://a:1/v1",
        "size": "tiny",
    }
    found = judge(folder, yaml.safe_dump({**own, "prompt": "strict.txt", "preset": "compass-verifier"}))
    assert found == {**own, "prompt": str(folder / "prompts" / "strict.txt")}


def test_a_revision_goes_with_its_model(folder: Path) -> None:
    of_preset = config.read_yaml(config.JUDGES / "paper.yaml")
    assert judge(folder, "backend: stub")["revision"] == of_preset["revision"]
    assert judge(folder, "{backend: stub, model: org/other}")["revision"] == "main"
    assert judge(folder, "{backend: stub, model: org/other, revision: abc}")["revision"] == "abc"
    assert judge(folder, "{backend: stub, revision: abc}")["model"] == of_preset["model"]


def test_a_prompt_is_named_as_seen_from_the_working_directory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "prompts").mkdir()
    (folder / "prompts" / "judge.txt").write_text(PARTS)
    monkeypatch.chdir(folder.parents[1])
    (folder / "judge.yaml").write_text("{backend: stub, prompt: judge.txt}")
    assert config.load("demo")["judge"]["prompt"] == "config/demo/prompts/judge.txt"
    monkeypatch.chdir(config.REPOSITORY)
    assert judge(folder, "backend: stub")["prompt"] == "workflow/judges/paper.txt"


@pytest.mark.parametrize(
    "size", ["{backend: hf, size: tiny}", "{backend: vllm, size: tiny}", "{backend: openai, base_url: 'http://a:1/v1'}"]
)
def test_a_backend_with_what_it_needs_is_accepted(folder: Path, size: str) -> None:
    of_environment(folder, "gpu" if "vllm" in size else "cpu")
    (folder / "judge.yaml").write_text(size)
    assert mistakes(folder) == []


def test_an_engine_that_the_environment_lacks_is_named(folder: Path) -> None:
    (folder / "judge.yaml").write_text("{backend: vllm, size: tiny}")
    lacking = "vllm is not in envs/cpu.txt; environment: gpu in grid.yaml has it"
    assert mistakes(folder) == [f"judge.yaml: backend: {lacking}"]
    file = folder / "grid.yaml"
    file.write_text(replace("evaluate: hf", "evaluate: vllm")(file.read_text()))
    assert mistakes(folder) == [f"grid.yaml: engine.evaluate: {lacking}", f"judge.yaml: backend: {lacking}"]
    of_environment(folder, "gpu")
    assert mistakes(folder) == []


def test_repeats_with_a_temperature_are_accepted(folder: Path) -> None:
    path = folder / "benchmarks.yaml"
    path.write_text(append("k8: {<<: *story, repeats: 4, sampling: {temperature: 0.7}}")(path.read_text()))
    assert mistakes(folder) == []


def test_a_key_may_override_a_merged_one(folder: Path) -> None:
    path = folder / "benchmarks.yaml"
    path.write_text(append("k8: {<<: *story, rows: 7}")(path.read_text()))
    assert config.load("demo", root=folder.parent)["benchmarks"]["k8"]["rows"] == 7


@pytest.mark.parametrize(
    "edits",
    [
        # Shape and spelling, in five files.
        [
            ("grid.yaml", append("sedes: [1]"), "grid.yaml: unknown key 'sedes'"),
            ("hardware.yaml", replace("gpus: 0", "gpus: -1"), "hardware.yaml: tiny.gpus: found -1, expected at least 0"),
            ("judge.yaml", judged("{backend: stub, dtype: int8}"), "judge.yaml: dtype: found 'int8', expected one of auto, "),
            ("mixes.yaml", append("short: {parts: {long: 1.0}}"), "mixes.yaml:4: key 'short' is given twice"),
            ("models.yaml", replace("layers: 2", "layers: 0"), "models.yaml: xs.architecture.layers: found 0, expected at least 1"),
            ("models.yaml", replace("  family: miniature\n", ""), "models.yaml: xs: key 'family' is missing"),
            ("sources.yaml", replace("style: long", "style: lnog"), "sources.yaml: long.builtin.style: found 'lnog'"),
        ],
        # What no schema can say, in five files.
        [
            ("benchmarks.yaml", append("k8: {<<: *story, task: storey}"), "benchmarks.yaml: k8.task: tasks/storey.yaml does not exist"),
            ("experiments.yaml", replace("models: all", "models: [xxs]"), "experiments.yaml: long-gap.models: 'xxs' is not in models.yaml"),
            ("judge.yaml", judged("{backend: openai, size: x, prompt: a.txt}"), "judge.yaml: key 'base_url' is missing"),
            ("judge.yaml", lambda text: text, "judge.yaml: size: 'x' is not in hardware.yaml"),
            ("judge.yaml", lambda text: text, "judge.yaml: prompt: prompts/a.txt does not exist"),
            ("mixes.yaml", append("a: {parts: {long: 0.9}}"), "mixes.yaml: a.parts: shares sum to 0.9"),
            ("mixes.yaml", append("none: {parts: {lnog: 1.0}}"), "mixes.yaml: none.parts: 'lnog' is not in sources.yaml"),
            ("mixes.yaml", lambda text: text, "mixes.yaml: none: the name none is taken"),
            ("models.yaml", replace("size: tiny", "size: tinny"), "models.yaml: xs.size: 'tinny' is not in hardware.yaml"),
            ("sources.yaml", append("web: {path: absent.jsonl}"), "sources.yaml: web.path: absent.jsonl does not exist"),
        ],
    ],
)
def test_several_mistakes_are_named_at_once(folder: Path, edits: list[tuple[str, Edit, str]]) -> None:
    for file, edit, _ in edits:
        (folder / file).write_text(edit((folder / file).read_text()))
    found = mistakes(folder)
    assert len(found) == len(edits), found
    for _, _, expected in edits:
        assert [line for line in found if line.startswith(expected)], (expected, found)


def test_an_unknown_grid_is_named_with_the_known_ones(folder: Path) -> None:
    with pytest.raises(InputError, match=r"demmo: no such grid \(did you mean 'demo'\?\); there is demo$"):
        config.load("demmo", root=folder.parent)
    with pytest.raises(InputError, match=r"there is none$"):
        config.load("demo", root=folder / "absent")


# ---- locks ----


def test_versions_come_from_a_lock(tmp_path: Path) -> None:
    lock = tmp_path / "cpu.txt"
    lock.write_text("# comment\ntorch==2.13.0+cpu\nLm-Eval[hf]==0.4.13 ; python_version > '3'\nloose>=1\n    # via torch==9\n")
    assert config.locked_versions(lock) == {"torch": "2.13.0+cpu", "lm_eval": "0.4.13"}


def test_a_missing_lock_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gpu\.txt: no such file; grid\.yaml's environment names it"):
        config.locked_versions(tmp_path / "gpu.txt")


# ---- room on the machine ----


def test_students_that_do_not_fit_on_the_disk_are_not_begun(demo: dict[str, Any], tmp_path: Path) -> None:
    for entry in demo["models"].values():
        entry["params_b"] = 1.0
    n_students = 4 * 3
    needed = (2 * n_students + 16) * 10**9
    config.check_disk(demo, tmp_path, needed)
    with pytest.raises(InputError, match=rf"{n_students} students to train need about 40 GB, 40 GB free"):
        config.check_disk(demo, tmp_path, needed - 1)


def test_a_student_that_is_there_needs_no_room(demo: dict[str, Any], tmp_path: Path) -> None:
    for entry in demo["models"].values():
        entry["params_b"] = 1.0
    done = tmp_path / "train/xs/long/0/manifest.json"
    done.parent.mkdir(parents=True)
    done.touch()
    config.check_disk(demo, tmp_path, 38 * 10**9)


def test_more_cards_than_the_machine_has_are_named(demo: dict[str, Any]) -> None:
    config.check_cards(demo, 0)
    demo["hardware"]["tiny"]["gpus"] = 4
    with pytest.raises(InputError, match=r"hardware.yaml: tiny.gpus: 4, but this machine has 3 GPUs"):
        config.check_cards(demo, 3)


# ---- what waits for its data ----

AWAITING = """other:
  models: all
  mixes: [other]
  benchmarks: all
  plot: accuracy_by_mix
  caption: c
"""


def with_absent_data(folder: Path, tmp_path: Path, more: str) -> Path:
    """A source whose file is not there, and an experiment on it."""
    file = tmp_path / "rows.jsonl"
    lines = {"sources": f"other: {{path: {file}}}", "mixes": "other: {parts: {other: 1.0}}", "experiments": AWAITING + more}
    for name, line in lines.items():
        with (folder / f"{name}.yaml").open("a") as out:
            out.write(f"{line}\n")
    return file


def test_an_experiment_that_awaits_data_is_left_out_until_they_are_there(folder: Path, tmp_path: Path, demo: dict[str, Any]) -> None:
    file = with_absent_data(folder, tmp_path, "  awaits_data: true")
    grid = config.load("demo", root=folder.parent)
    assert grid["experiments"].keys() == demo["experiments"].keys()
    assert f"experiments.yaml: other is left out until its data are there: {file}" in config.warnings(grid)
    file.touch()
    grid = config.load("demo", root=folder.parent)
    assert "other" in grid["experiments"] and not any("left out" in line for line in config.warnings(grid))


def test_a_missing_file_that_nobody_said_to_await_is_a_mistake(folder: Path, tmp_path: Path) -> None:
    file = with_absent_data(folder, tmp_path, "")
    assert mistakes(folder) == [f"sources.yaml: other.path: {file} does not exist"]


def test_an_experiment_that_awaits_data_is_checked_like_any_other_once_they_are_there(folder: Path, tmp_path: Path) -> None:
    with_absent_data(folder, tmp_path, "  awaits_data: true\n  contrast: [other, nobody]").touch()
    assert mistakes(folder) == ["experiments.yaml: other.contrast: 'nobody' is not among the experiment's mixes (other)"]


# ---- published numbers ----


def test_a_grid_without_published_numbers_has_none(folder: Path) -> None:
    assert config.load("demo", root=folder.parent)["reference"] == []


def test_mistakes_of_published_numbers_are_reported_with_all_others(folder: Path) -> None:
    (folder / "reference.csv").write_text("model,mix,benchmark,score,source\nxxs,long,k2,50,T\nxs,longer,k2+k7,50,T\n")
    experiments = folder / "experiments.yaml"
    experiments.write_text(experiments.read_text().replace("contrast: [long, short]", "contrast: [long, shirt]", 1))
    with pytest.raises(InputError) as caught:
        config.load("demo", root=folder.parent)
    text = str(caught.value)
    assert "reference.csv:2: model 'xxs' is none of the grid's (did you mean 'xs'?)" in text
    assert "reference.csv:3: mix 'longer'" in text and "reference.csv:3: benchmark 'k7'" in text
    assert "'shirt' is not among" in text


def test_what_an_experiment_varies_is_one_of_a_few_words(folder: Path) -> None:
    experiments = folder / "experiments.yaml"
    experiments.write_text(
        experiments.read_text().replace("  contrast: [long, short]\n", "  contrast: [long, short]\n  varies: [mix, receipt]\n", 1)
    )
    with pytest.raises(InputError, match=r"long-gap\.varies\.1: found 'receipt', expected one of mix, recipe, .*did you mean 'recipe'"):
        config.load("demo", root=folder.parent)

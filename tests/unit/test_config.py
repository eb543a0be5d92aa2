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


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the demo grid."""
    return Path(shutil.copytree(CONFIG / "demo", tmp_path / "config" / "demo"))


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
    assert {file.name for file in SCHEMA_FILES} == {f"{name}.schema.yaml" for name in config.FILES}


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
        "experiments.yaml: long-gap.plot: found 'gap_bysize', expected one of gap_by_size, accuracy_by_mix (did you mean 'gap_by_size'?)",
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
        replace("{long: 0.2, short: 0.8}", "{long: 0.5, short: 0.7, corpus: 0.1}"),
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
    "judge without model": (
        "grid.yaml",
        replace("{backend: none}", "{backend: openai, base_url: x, prompt: ../grid.yaml}"),
        "grid.yaml: judge: key 'model' is missing; backend openai needs it",
    ),
    "judge without prompt": (
        "grid.yaml",
        replace("{backend: none}", "{backend: openai, base_url: x, model: m}"),
        "grid.yaml: judge.prompt: prompts/judge.txt does not exist",
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
            ("mixes.yaml", append("short: {parts: {long: 1.0}}"), "mixes.yaml:4: key 'short' is given twice"),
            ("models.yaml", replace("layers: 2", "layers: 0"), "models.yaml: xs.architecture.layers: found 0, expected at least 1"),
            ("models.yaml", replace("  family: miniature\n", ""), "models.yaml: xs: key 'family' is missing"),
            ("sources.yaml", replace("style: long", "style: lnog"), "sources.yaml: long.builtin.style: found 'lnog'"),
        ],
        # What no schema can say, in five files.
        [
            ("benchmarks.yaml", append("k8: {<<: *story, task: storey}"), "benchmarks.yaml: k8.task: tasks/storey.yaml does not exist"),
            ("experiments.yaml", replace("models: all", "models: [xxs]"), "experiments.yaml: long-gap.models: 'xxs' is not in models.yaml"),
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

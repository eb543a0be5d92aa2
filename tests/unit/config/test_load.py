"""Each mistake in a grid is named with file, key and what was expected, all at once."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from gapgrid.commands.pin import pin
from gapgrid.config.checks import check_disk, check_gpus
from gapgrid.config.load import (
    FILES,
    JUDGES,
    OPTIONAL,
    REPOSITORY,
    SCHEMAS,
    SECTIONS,
    load_grid,
    locked_versions,
    read_yaml,
    schema_problems,
    warnings,
)
from gapgrid.core.records import InputError, write_json
from gapgrid.grid.specs import from_hub

CONFIG = REPOSITORY / "config"
SCHEMA_FILES = sorted(SCHEMAS.glob("*.schema.yaml"))
PRESETS = sorted(file.stem for file in JUDGES.glob("*.yaml"))
PARTS = "{problem} {gold} {answer}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the demo grid."""
    copy = Path(shutil.copytree(CONFIG / "demo", tmp_path / "config" / "demo"))
    (copy / "prompts").mkdir()
    return copy


def edit(folder: Path, line: str) -> None:
    """Edit a file of the grid: `FILE | + LINE`, `FILE | OLD -> NEW` or `FILE | = CONTENT`."""
    name, _, change = line.replace("\\n", "\n").replace("@5000", "1" + "0" * 4999).partition(" | ")
    file = folder / name
    text = file.read_text() if file.exists() else ""
    if change.startswith("="):
        text = change[1:].lstrip()
    elif change.startswith("+ "):
        text += change[2:] + "\n"
    else:
        old, _, new = change.partition(" ->")
        assert old in text
        text = text.replace(old, new.removeprefix(" "), 1)
    file.write_text(text)


def load(folder: Path) -> dict[str, Any]:
    return load_grid(folder.name, root=folder.parent)


def mistakes(folder: Path, overrides: dict[str, Any] | None = None) -> list[str]:
    """The lines of the error that a grid raises, its own folder left out; [] for none."""
    try:
        load_grid(folder.name, overrides, root=folder.parent)
    except InputError as error:
        return str(error).replace(f"{folder}/", "").splitlines()
    return []


# ---- mistakes ----

# Lines at the margin are edits, see `edit`; then come the messages, each of which may say more and
# may go on in lines that are indented further.
MISTAKES = r"""
recipes.yaml | s: {<<: *pretrain, learning_rate: 8.0e-3} -> s: {<<: *pretrain, learning_rat: 8.0e-3}
    recipes.yaml: pretrain-s: unknown key 'learning_rat' (did you mean 'learning_rate'?);
        expected one of method,
grid.yaml | + sedes: [1]
    grid.yaml: unknown key 'sedes' (did you mean 'seeds'?); expected one of
models.yaml | layers: 2 -> layers: 2, layer: 3
    models.yaml: xs.architecture: unknown key 'layer' (did you mean 'layers'?)
models.yaml |   family: miniature ->
    models.yaml: xs: key 'family' is missing; Students of one family share a line in figures.
hardware.yaml | cpus: 1 -> cpus: one
    hardware.yaml: tiny.cpus: found 'one', expected integer
recipes.yaml | 1.0e-2 -> 1e-2
    recipes.yaml: pretrain-xs.learning_rate: found '1e-2', expected number
grid.yaml | confidence: 0.95 -> confidence: 95
    grid.yaml: statistics.confidence: found 95, expected less than 1
recipes.yaml | 1.0e-2 -> .nan
    recipes.yaml:5: found .nan, expected a finite number
recipes.yaml | 1.0e-2 -> -.inf
    recipes.yaml:5: found -.inf, expected a finite number
mixes.yaml | + Big: {parts: {long: 1.0}}
    mixes.yaml: name 'Big' found, expected lower-case letters
mixes.yaml | + ../x: {parts: {long: 1.0}}
    mixes.yaml: name '../x' found, expected lower-case letters
mixes.yaml | + 7: {parts: {long: 1.0}}
    mixes.yaml:4: key 7 is read as int, expected text
recipes.yaml | 1.0e-2 -> @5000
    recipes.yaml:5: found 1000000000000000000000000000000000000000…, which YAML cannot read
        (Exceeds the limit (4300 digits)
models.yaml | family: miniature -> family: 2024-13-45
    models.yaml:5: found 2024-13-45, which YAML cannot read (month must be in 1..12);
        put text in quotes
mixes.yaml | + no: {parts: {long: 1.0}}
    mixes.yaml:4: key False is read as bool, expected text; put it in quotes
mixes.yaml | + [a]: {parts: {long: 1.0}}
    mixes.yaml:4: key ['a'] is read as list, expected text
recipes.yaml |   epochs: 1 ->   epochs: 1\n  epochs: 2
    recipes.yaml:7: key 'epochs' is given twice, first in line 6
mixes.yaml | + short: {parts: {long: 1.0}}
    mixes.yaml:4: key 'short' is given twice, first in line 1
mixes.yaml | + x: {parts: [
    mixes.yaml: not valid YAML: while parsing a flow node
mixes.yaml | + ---\na: 1
    mixes.yaml: not valid YAML: expected a single document
mixes.yaml | + x: *nope
    mixes.yaml: not valid YAML: found undefined alias 'nope'
mixes.yaml | =
    mixes.yaml: found None, expected object
mixes.yaml | = {}
    mixes.yaml: found {}, expected at least 1 of them
mixes.yaml | = - short
    mixes.yaml: found ['short'], expected object

mixes.yaml | {long: 0.2, short: 0.8} -> {long: 0.2, short: 0.7}
    mixes.yaml: mix-long.parts: shares sum to 0.9, expected 1
mixes.yaml | {long: 0.2, short: 0.8} -> {long: 0.5, short: 0.8}
    mixes.yaml: mix-long.parts: shares sum to 1.3, expected 1
mixes.yaml | parts: {short: 1.0} -> parts: {shrot: 1.0}
    mixes.yaml: short.parts: 'shrot' is not in sources.yaml (did you mean 'short'?);
        expected one of corpus, short, long
mixes.yaml | + none: {parts: {long: 1.0}}
    mixes.yaml: none: the name none is taken, it is the untouched student
benchmarks.yaml | k2: -> average:
    benchmarks.yaml: average: the name average is taken, it is the mean over benchmarks

experiments.yaml | gap_by_size -> gap_bysize
    experiments.yaml: long-gap.plot: found 'gap_bysize', expected one of gap_by_size,
        accuracy_by_mix, bars, pairs, by_weight, token_shift, case_study
        (did you mean 'gap_by_size'?)
experiments.yaml | models: all -> models: [xs, mm]
    experiments.yaml: long-gap.models: 'mm' is not in models.yaml (did you mean 'm'?);
        expected one of xs, s, m, l
experiments.yaml | [none, short, mix-long, long] -> [none, short, mix-lnog]
    experiments.yaml: accuracy.mixes: 'mix-lnog' is not in mixes.yaml (did you mean 'mix-long'?);
        expected one of
experiments.yaml | benchmarks: all -> benchmarks: [k2, k44]
    experiments.yaml: long-gap.benchmarks: 'k44' is not in benchmarks.yaml (did you mean 'k4'?)
experiments.yaml | models: all -> models: xs
    experiments.yaml: long-gap.models: found 'xs', expected the word all, or a list of names,
        each once
experiments.yaml | models: all -> models: [xs, xs]
    experiments.yaml: long-gap.models: found ['xs', 'xs'], expected the word all, or a list of
        names, each once
experiments.yaml | contrast: [long, short] -> contrast: [long, mix-long]
    experiments.yaml: long-gap.contrast: 'mix-long' is not among the experiment's mixes (long,
        short)
experiments.yaml | contrast: [long, short] -> contrast: [long, long]
    experiments.yaml: long-gap.contrast: 'long' twice, expected two different mixes
experiments.yaml |   contrast: [long, short] ->
    experiments.yaml: long-gap: key 'contrast' is missing; plot gap_by_size needs it
experiments.yaml | contrast: [long, short] -> contrast: [long]
    experiments.yaml: long-gap.contrast: found ['long'], expected at least 2 of them
experiments.yaml | [long, short]\n  plot -> [long, short]\n  varies: [mix, receipt]\n  plot
    experiments.yaml: long-gap.varies.1: found 'receipt', expected one of mix, recipe,

models.yaml | recipe: sft-xs -> recipe: sft-sx
    models.yaml: xs.recipe: 'sft-sx' is not in recipes.yaml (did you mean 'sft-
models.yaml | pretrain: pretrain-xs -> pretrain: pretrain-xxs
    models.yaml: xs.pretrain: 'pretrain-xxs' is not in recipes.yaml (did you mean 'pretrain-xs'?)
models.yaml | corpus: corpus -> corpus: copus
    models.yaml: xs.corpus: 'copus' is not in sources.yaml (did you mean 'corpus'?)
models.yaml | size: tiny -> size: tinny
    models.yaml: xs.size: 'tinny' is not in hardware.yaml (did you mean 'tiny'?);
        expected one of tiny
models.yaml | hidden_size: 16 -> hidden_size: 18
    models.yaml: xs.architecture: hidden_size 18, expected a multiple of twice heads (4)
models.yaml |   corpus: corpus ->
    models.yaml: xs: key 'corpus' is missing; kind tiny needs it
models.yaml |   corpus: corpus ->   corpus: corpus\n  eos: x
    models.yaml: xs: key 'eos' goes with kind hub or path, found kind tiny
models.yaml | + big: {kind: hub, family: f, params_b: 1, recipe: sft-l, size: tiny}
    models.yaml: big: key 'hub' is missing; kind hub needs it
models.yaml | + x: {kind: hub, hub: a/b, path: c, family: f, params_b: 1, recipe: sft-l, size: tiny}
    models.yaml: x: key 'path' goes with kind path, found kind hub
models.yaml | + big: {kind: path, path: no/such, family: f, params_b: 1, recipe: sft-l, size: tiny}
    models.yaml: big.path: no/such holds no config.json

sources.yaml | + web: {columns: {id: n}}
    sources.yaml: web: found none of builtin, hub, path, expected exactly one
sources.yaml | + web: {hub: a/b, builtin: {style: long, rows: 1, seed: 1}}
    sources.yaml: web: found builtin and hub of builtin, hub, path, expected exactly one
sources.yaml | + web: {path: absent.jsonl}
    sources.yaml: web.path: absent.jsonl does not exist
grid.yaml | {builtin: arithmetic} -> {builtin: arithmetic, path: x}
    grid.yaml: tokenizer: found builtin and path of builtin, hub, path, expected exactly one
grid.yaml | {builtin: arithmetic} -> {builtin: arithmetic, revision: abc}
    grid.yaml: tokenizer: revision is given without hub

benchmarks.yaml | + k8: {<<: *story, data: {path: absent.jsonl}}
    benchmarks.yaml: k8.data.path: absent.jsonl does not exist
benchmarks.yaml | + k8: {<<: *story, task: storey}
    benchmarks.yaml: k8.task: tasks/storey.yaml does not exist (did you mean 'story'?);
        there is story
benchmarks.yaml | + k8: {task: story, data: {hub: a/b}, max_tokens: 9, grader: boxed}
    benchmarks.yaml: k8: key 'rows' is missing; How many problems there must be; another number
        stops the run.
benchmarks.yaml | + k8: {<<: *story, repeats: 4}
    benchmarks.yaml: k8.repeats: 4 greedy answers would be the same, expected sampling.temperature
        above 0
benchmarks.yaml | + k8: {<<: *story, repeats: 4, sampling: {temperature: 0}}
    benchmarks.yaml: k8.repeats: 4 greedy answers would be the same, expected sampling.temperature
tasks/story.yaml | task: story -> task: tale
    tasks/story.yaml: key task is tale, expected story,
tasks/story.yaml | task: story ->
    tasks/story.yaml: key task is missing, expected story,

grid.yaml | + judge: {backend: none}
    grid.yaml: unknown key 'judge'; expected one of seeds, environment, engine, tokenizer,
        report_to, statistics
judge.yaml | = preset: paper
    judge.yaml: key 'backend' is missing; none: rules only
judge.yaml | = backend: opnai
    judge.yaml: backend: found 'opnai', expected one of none, vllm, hf, openai, stub
        (did you mean 'openai'?)
judge.yaml | = {backend: stub, preset: papre}
    judge.yaml: preset: found 'papre', expected one of paper, compass-verifier
        (did you mean 'paper'?)
judge.yaml | = {backend: stub, policy: some}
    judge.yaml: policy: found 'some', expected one of undecided, all
judge.yaml | = {backend: stub, max_token: 20}
    judge.yaml: unknown key 'max_token' (did you mean 'max_tokens'?); expected one of backend,
judge.yaml | = {backend: stub, sampling: {temprature: 0}}
    judge.yaml: sampling: unknown key 'temprature' (did you mean 'temperature'?)
judge.yaml | = {backend: stub, sampling: {temperature: -1}}
    judge.yaml: sampling.temperature: found -1, expected at least 0
judge.yaml | = {backend: stub, replies: {correct: [A]}}
    judge.yaml: replies: key 'incorrect' is missing; Words that reject it.
judge.yaml | = {backend: stub, replies: {correct: [A], incorrect: []}}
    judge.yaml: replies.incorrect: found [], expected at least 1 of them
judge.yaml | = {backend: stub, replies: {correct: [A], incorrect: ['']}}
    judge.yaml: replies.incorrect.0: found '', expected at least 1 of them
judge.yaml | = {backend: stub, replies: {correct: [True], incorrect: ['False']}}
    judge.yaml: replies.correct.0: found True, expected string
judge.yaml | = {backend: stub, replies: {correct: [A, B, C], incorrect: [C, B, D]}}
    judge.yaml: replies: B, C found under correct and incorrect, expected one verdict a word
judge.yaml | = {backend: stub, prompt: ../grid.yaml}
    judge.yaml: prompt: found '../grid.yaml', expected
judge.yaml | = {backend: stub, prompt: absent.txt}
    judge.yaml: prompt: prompts/absent.txt does not exist
judge.yaml | = {backend: stub, prompt: ..}
    judge.yaml: prompt:
judge.yaml | = backend: openai
    judge.yaml: key 'base_url' is missing; backend openai needs it
judge.yaml | = {backend: openai, base_url: 'localhost:8000/v1'}
    judge.yaml: base_url: found 'localhost:8000/v1', expected the server's address, such as http://
judge.yaml | = {backend: openai, base_url: 'ftp://a/v1'}
    judge.yaml: base_url: found 'ftp://a/v1', expected the server's address, such as http://
judge.yaml | = backend: hf
    judge.yaml: key 'size' is missing; backend hf needs it
judge.yaml | = {backend: hf, size: tinny}
    judge.yaml: size: 'tinny' is not in hardware.yaml (did you mean 'tiny'?); expected one of tiny
judge.yaml | = {backend: vllm}
grid.yaml | environment: cpu -> environment: gpu
    judge.yaml: key 'size' is missing; backend vllm needs it
judge.yaml | = {backend: vllm, size: tiny}
    judge.yaml: backend: vllm is not in envs/cpu.txt; environment: gpu in grid.yaml has it
judge.yaml | = {backend: vllm, size: tiny}
grid.yaml | evaluate: hf -> evaluate: vllm
    grid.yaml: engine.evaluate: vllm is not in envs/cpu.txt; environment: gpu in grid.yaml has it
    judge.yaml: backend: vllm is not in envs/cpu.txt; environment: gpu in grid.yaml has it

adopted.yaml | + x: {parts: [
    adopted.yaml: not valid YAML:
adopted.yaml | + - a
    adopted.yaml: found ['a'], expected object
adopted.yaml | + xs/lnog/0: {hub: a/b}
    adopted.yaml: xs/lnog/0: 'lnog' is not in mixes.yaml (did you mean 'long'?);
        expected one of short, long,
adopted.yaml | + xss/long/0: {hub: a/b}
    adopted.yaml: xss/long/0: 'xss' is not in models.yaml (did you mean 'xs'?);
        expected one of xs, s, m, l
adopted.yaml | + xs/none/0: {hub: a/b}
    adopted.yaml: xs/none/0: 'none' is not in mixes.yaml
adopted.yaml | + xs/long: {hub: a/b}
    adopted.yaml: name 'xs/long' found
adopted.yaml | + xs/long/a: {hub: a/b}
    adopted.yaml: name 'xs/long/a' found
adopted.yaml | + xs/long/-1: {hub: a/b}
    adopted.yaml: name 'xs/long/-1' found
adopted.yaml | + xs/long/00: {hub: a/b}
    adopted.yaml: name 'xs/long/00' found
adopted.yaml | + xs/long/01: {hub: a/b}
    adopted.yaml: name 'xs/long/01' found
adopted.yaml | + xs/long/10: {hub: a/b}
    adopted.yaml: xs/long/10: seed 10 is none of the grid's (0)
adopted.yaml | + xs/long/0: {}
    adopted.yaml: xs/long/0: found none of hub, path, expected exactly one
adopted.yaml | + xs/long/0: {hub: a/b, path: c}
    adopted.yaml: xs/long/0.path: c holds
    adopted.yaml: xs/long/0: found hub and path of hub, path
adopted.yaml | + xs/long/0: {path: absent, revision: abc}
    adopted.yaml: xs/long/0.path: absent holds neither config.json nor adapter_config.json
    adopted.yaml: xs/long/0: revision is given without hub
adopted.yaml | + xs/long/0: {hub: a/b, adapter: true}
    adopted.yaml: xs/long/0: unknown key 'adapter'; expected one of hub, revision, path, base
adopted.yaml | + xs/long/0: {hub: a/b, bas: c}
    adopted.yaml: xs/long/0: unknown key 'bas' (did you mean 'base'?)
adopted.yaml | + xs/long/0: {hub: a/b, base: ''}
    adopted.yaml: xs/long/0.base:
adopted.yaml | + xs/long/0: {hub: a/b, base: true}
    adopted.yaml: xs/long/0.base:

reference.csv | = model,mix,benchmark,score,source\nxxs,long,k2,50,T\nxs,longer,k2+k7,50,T\n
experiments.yaml | contrast: [long, short] -> contrast: [long, shirt]
    reference.csv:2: model 'xxs' is none of the grid's (did you mean 'xs'?)
    reference.csv:3: mix 'longer' is none of the grid's (did you mean 'long'?)
    reference.csv:3: benchmark 'k7' is none of the grid's
    experiments.yaml: long-gap.contrast: 'shirt' is not among

grid.yaml | + sedes: [1]
hardware.yaml | gpus: 0 -> gpus: -1
judge.yaml | = {backend: stub, dtype: int8}
mixes.yaml | + short: {parts: {long: 1.0}}
models.yaml | layers: 2 -> layers: 0
models.yaml |   family: miniature ->
sources.yaml | style: long -> style: lnog
    grid.yaml: unknown key 'sedes'
    hardware.yaml: tiny.gpus: found -1, expected at least 0
    judge.yaml: dtype: found 'int8', expected one of auto,
    mixes.yaml:4: key 'short' is given twice
    models.yaml: xs.architecture.layers: found 0, expected at least 1
    models.yaml: xs: key 'family' is missing
    sources.yaml: long.builtin.style: found 'lnog'
benchmarks.yaml | + k8: {<<: *story, task: storey}
experiments.yaml | models: all -> models: [xxs]
judge.yaml | = {backend: openai, size: x, prompt: a.txt}
mixes.yaml | + a: {parts: {long: 0.9}}
mixes.yaml | + none: {parts: {lnog: 1.0}}
models.yaml | size: tiny -> size: tinny
sources.yaml | + web: {path: absent.jsonl}
    benchmarks.yaml: k8.task: tasks/storey.yaml does not exist
    experiments.yaml: long-gap.models: 'xxs' is not in models.yaml
    judge.yaml: key 'base_url' is missing
    judge.yaml: size: 'x' is not in hardware.yaml
    judge.yaml: prompt: prompts/a.txt does not exist
    mixes.yaml: a.parts: shares sum to 0.9
    mixes.yaml: none.parts: 'lnog' is not in sources.yaml
    mixes.yaml: none: the name none is taken
    models.yaml: xs.size: 'tinny' is not in hardware.yaml
    sources.yaml: web.path: absent.jsonl does not exist
"""


def cases() -> list[tuple[list[str], list[str]]]:
    """Edits and expected messages of each case in MISTAKES."""
    result: list[tuple[list[str], list[str]]] = []
    for line in filter(None, MISTAKES.splitlines()):
        if not line.startswith(" "):
            if not result or result[-1][1]:
                result.append(([], []))
            result[-1][0].append(line)
        elif not line.startswith(" " * 8):
            result[-1][1].append(line.strip())
        else:
            result[-1][1][-1] += f" {line.strip()}"
    return result


@pytest.mark.parametrize(("edits", "expected"), cases())
def test_every_mistake_is_named(folder: Path, edits: list[str], expected: list[str]) -> None:
    for line in edits:
        edit(folder, line)
    messages = mistakes(folder)
    assert len(messages) == len(expected), messages
    for start in expected:
        assert [line for line in messages if line.startswith(start)], (start, messages)


@pytest.mark.parametrize(
    "edits",
    [
        [],
        ["benchmarks.yaml | + k8: {<<: *story, repeats: 4, sampling: {temperature: 0.7}}"],
        ["adopted.yaml | + xs/long/0: {hub: a/b, revision: abc, base: mirror/student}"],
        ["judge.yaml | = {backend: openai, base_url: 'http://a:1/v1'}"],
        ["judge.yaml | = {backend: hf, size: tiny}"],
        [
            "judge.yaml | = {backend: vllm, size: tiny}",
            "grid.yaml | evaluate: hf -> evaluate: vllm",
            "grid.yaml | environment: cpu -> environment: gpu",
        ],
    ],
)
def test_a_grid_without_mistakes_loads(folder: Path, edits: list[str]) -> None:
    for line in edits:
        edit(folder, line)
    assert mistakes(folder) == []


@pytest.mark.parametrize(
    ("seeds", "expected"),
    [
        ("0", "seeds: found '0', expected array"),
        (3, "seeds: found 3, expected array"),
        ([], "seeds: found [], expected at least 1 of them"),
        ([1, 1], "seeds: found [1, 1], expected each entry once"),
        ([-1], "seeds.0: found -1, expected at least 0"),
        (["a"], "seeds.0: found 'a', expected integer"),
    ],
)
def test_overriding_seeds_are_checked(folder: Path, seeds: Any, expected: str) -> None:
    assert mistakes(folder, {"seeds": seeds}) == [f"grid.yaml: {expected}"]


def test_only_seeds_can_be_overridden(folder: Path, demo: dict[str, Any]) -> None:
    overrides = {"seeds": ["0", 1, 2.0], "grid": "demo", "results": "elsewhere"}
    changed = load_grid("demo", overrides, root=folder.parent)
    assert changed == {**demo, "folder": str(folder), "seeds": [0, 1, 2]}
    assert {type(seed) for seed in changed["seeds"]} == {int}
    (message,) = mistakes(folder, {"sedes": [1]})
    assert message.startswith("--config: unknown key 'sedes' (did you mean 'seeds'?); expected")


@pytest.mark.parametrize("name", [None, "", ".", "..", "demo/", "../config/demo", ["demo"], 1.5])
def test_a_grid_is_named_by_a_folder_in_config(folder: Path, name: Any) -> None:
    message = f"--config grid: found {name!r}, expected the name of a folder in {folder.parent}"
    with pytest.raises(InputError, match=re.escape(message)):
        load_grid(name, root=folder.parent)


def test_a_grid_may_be_named_by_a_number(folder: Path) -> None:
    with pytest.raises(InputError, match=r"/1: no such grid; there is demo"):
        load_grid(1, root=folder.parent)  # type: ignore[arg-type]  # as Snakemake reads grid=1
    folder.rename(folder.with_name("1"))
    assert load_grid(1, root=folder.parent)["name"] == "1"  # type: ignore[arg-type]


@pytest.mark.parametrize("results", [None, "", 1, ["a"], "a b"])
def test_the_results_folder_is_a_path_without_spaces(folder: Path, results: Any) -> None:
    message = f"--config results: found {results!r}, expected the path of a folder, without spaces"
    assert mistakes(folder, {"results": results}) == [message]
    assert mistakes(folder, {"results": "/scratch/results"}) == []


def test_an_unknown_grid_is_named_with_the_known_ones(folder: Path) -> None:
    (folder.parent / "notes.txt").touch()
    for name, root, expected in (
        ("demmo", folder.parent, r"demmo: no such grid \(did you mean 'demo'\?\); there is demo$"),
        ("demo", folder / "absent", "there is none$"),
    ):
        with pytest.raises(InputError, match=expected):
            load_grid(name, root=root)


def test_a_missing_file_is_named(folder: Path) -> None:
    for name in FILES:
        (folder / f"{name}.yaml").unlink()
    needed = ", ".join(f"{name}.yaml" for name in FILES)
    assert mistakes(folder) == [
        f"{name}.yaml: no such file; a grid needs {needed}" for name in FILES
    ]


def test_a_folder_in_place_of_a_file_is_named(folder: Path) -> None:
    (folder / "models.yaml").unlink()
    (folder / "models.yaml").mkdir()
    assert mistakes(folder)[0] == "models.yaml: Is a directory"


@pytest.mark.parametrize("text", ["", "# a comment\n", "---\n"])
def test_an_empty_list_of_adopted_checkpoints_is_none(folder: Path, text: str) -> None:
    (folder / "adopted.yaml").write_text(text)
    assert load(folder)["adopted"] == {}


def test_invalid_utf8_is_named(folder: Path) -> None:
    path = folder / "mixes.yaml"
    content = path.read_bytes()
    path.write_bytes(content + b"# \xff\n")
    where = f"(invalid start byte at byte {len(content) + 2})"
    assert mistakes(folder) == [f"mixes.yaml: invalid UTF-8 {where}"]


MODEL = (
    "models.yaml | "
    "+ x: {kind: path, path: FOLDER, family: f, params_b: 1, recipe: sft-l, size: tiny}"
)
ADOPTED = "adopted.yaml | + xs/long/0: {path: FOLDER}"


@pytest.mark.parametrize(
    ("entry", "expected", "file"),
    [
        (MODEL, "models.yaml: x.path: FOLDER holds no config.json", "config.json"),
        (ADOPTED, "adopted.yaml: xs/long/0.path: FOLDER holds neither ", "config.json"),
        (ADOPTED, "adopted.yaml: xs/long/0.path: FOLDER holds neither ", "adapter_config.json"),
    ],
)
def test_a_folder_must_hold_a_model(
    folder: Path, tmp_path: Path, entry: str, expected: str, file: str
) -> None:
    model = tmp_path / "model"
    edit(folder, entry.replace("FOLDER", str(model)))
    for prepare in (
        (model / file).parent.mkdir,
        (model / file).mkdir,  # a folder of that name is no model
    ):
        prepare()
        (message,) = mistakes(folder)
        assert message.startswith(expected.replace("FOLDER", str(model)))
    (model / file).rmdir()
    (model / file).write_text("{}")
    assert mistakes(folder) == []


# ---- what is right ----


@pytest.mark.parametrize("name", sorted(file.parent.name for file in CONFIG.glob("*/grid.yaml")))
def test_every_grid_of_the_repository_loads(name: str) -> None:
    grid = load_grid(name, root=CONFIG)
    assert grid["name"] == name and set(SECTIONS) < grid.keys()


def test_files_may_be_left_out_and_keys_overridden(folder: Path) -> None:
    edit(folder, "benchmarks.yaml | + k8: {<<: *story, rows: 7}")
    grid = load(folder)
    assert (grid["adopted"], grid["reference"]) == ({}, [])
    assert grid["benchmarks"]["k8"]["rows"] == 7


def test_versions_come_from_a_lock(tmp_path: Path, demo: dict[str, Any]) -> None:
    assert {"torch", "transformers", "lm_eval"} <= demo["versions"].keys()
    lock = tmp_path / "cpu.txt"
    with pytest.raises(InputError, match=r"cpu\.txt: no such file; grid\.yaml's environment names"):
        locked_versions(lock)
    lock.write_text(
        "# comment\ntorch==2.13.0+cpu\nLm-Eval[hf]==0.4.13 ; python_version > '3'\n"
        "loose>=1\n    # via torch==9\n"
    )
    assert locked_versions(lock) == {"torch": "2.13.0+cpu", "lm_eval": "0.4.13"}


# ---- the schemas themselves ----


def subschemas(schema: Any, where: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema within a schema, with its position."""
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


def test_each_file_has_a_schema() -> None:
    names = {f"{name}.schema.yaml" for name in (*FILES, *OPTIONAL)}
    assert {file.name for file in SCHEMA_FILES} == names


@pytest.mark.parametrize("file", SCHEMA_FILES, ids=lambda file: file.name)
def test_a_schema_describes_every_key_takes_no_other_and_fills_in_nothing(file: Path) -> None:
    walked = list(subschemas(yaml.safe_load(file.read_text())))
    assert len(walked) > 5
    for where, schema in walked:
        assert "default" not in schema, where
        if "/oneOf/" not in where:
            assert len(schema.get("description", "")) > 5, where
        if schema.get("type") == "object" or "properties" in schema:
            # A schema in place of false is for names that the user chooses, as of sources in a mix.
            assert schema.get("additionalProperties") is False or "properties" not in schema, where
            assert "additionalProperties" in schema, where
            assert set(schema.get("required", ())) <= schema.get("properties", {}).keys(), where


# ---- the judge ----


def judge(folder: Path, **settings: Any) -> dict[str, Any]:
    """The judge of a grid with these settings."""
    (folder / "judge.yaml").write_text(yaml.safe_dump({"backend": "stub", **settings}))
    return load(folder)["judge"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{problem} {gold}", ["{answer} 0"]),
        (f"{PARTS} {{gold}}", ["{gold} 2"]),
        ("", ["{answer} 0", "{gold} 0", "{problem} 0"]),
        ("{ problem } {{gold} {Answer} {answer}", ["{problem} 0"]),
        (PARTS, []),
        (f'{PARTS} {{"json": 1}} {{}}', []),
    ],
)
def test_a_prompt_must_hold_each_part_once(folder: Path, text: str, expected: list[str]) -> None:
    (folder / "prompts" / "judge.txt").write_text(text)
    edit(folder, "judge.yaml | = {backend: stub, prompt: judge.txt}")
    assert mistakes(folder) == [
        f"judge.yaml: prompt: prompts/judge.txt holds {part} times, expected once"
        for part in expected
    ]
    edit(folder, "judge.yaml | backend: stub -> backend: none")
    assert mistakes(folder) == []


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_a_whole_judge(folder: Path, name: str) -> None:
    settings = read_yaml(JUDGES / f"{name}.yaml")
    schema = yaml.safe_load((SCHEMAS / "judge.schema.yaml").read_text())
    assert sorted(schema["properties"]["preset"]["enum"]) == PRESETS
    assert schema_problems(Path("judge.yaml"), {"backend": "stub", **settings}, schema) == []
    loaded = judge(folder, preset=name)
    assert loaded.keys() == schema["properties"].keys() - {"preset", "base_url", "size"}
    expected = {**settings, "backend": "stub", "policy": "undecided"}
    assert {**loaded, "prompt": None} == {**expected, "prompt": None}
    assert (REPOSITORY / loaded["prompt"]).samefile(JUDGES / settings["prompt"])


def test_the_papers_judge_is_the_default(folder: Path) -> None:
    loaded = judge(folder)
    assert loaded == judge(folder, preset="paper") != judge(folder, preset="compass-verifier")
    expected = {
        "model": "Qwen/Qwen2.5-32B-Instruct",
        "max_tokens": 20,
        "dtype": "float16",
        "sampling": {"temperature": 0, "top_k": 1},
        "verdict": "first_word",
        "replies": {"correct": ["True"], "incorrect": ["False"]},
    }
    assert loaded == {**loaded, **expected}


def test_the_grids_own_settings_win_over_the_preset(folder: Path) -> None:
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
    loaded = judge(folder, **own, prompt="strict.txt", preset="compass-verifier")
    assert loaded == {**own, "prompt": str(folder / "prompts" / "strict.txt")}


def test_a_revision_goes_with_its_model(folder: Path) -> None:
    preset = read_yaml(JUDGES / "paper.yaml")
    assert judge(folder)["revision"] == preset["revision"]
    assert judge(folder, model="org/other")["revision"] == "main"
    assert judge(folder, model="org/other", revision="abc")["revision"] == "abc"
    assert judge(folder, revision="abc")["model"] == preset["model"]


def test_a_prompt_is_named_as_seen_from_the_working_directory(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "prompts" / "judge.txt").write_text(PARTS)
    edit(folder, "judge.yaml | = {backend: stub, prompt: judge.txt}")
    monkeypatch.chdir(folder.parents[1])
    assert load_grid("demo")["judge"]["prompt"] == "config/demo/prompts/judge.txt"
    monkeypatch.chdir(REPOSITORY)
    assert judge(folder)["prompt"] == "workflow/judges/paper.txt"


@pytest.mark.parametrize(
    ("model", "origin"),
    [
        ("gpt2", "hub"),
        ("owner/Name_1.5-b", "hub"),
        ("judge", "folder"),
        ("local/judge", "folder"),
        ("local/models/judge", "folder"),
        ("./judge", "folder"),
        ("../project/judge", "folder"),
        ("~/judge", "folder"),
        ("TMP/project/judge", "folder"),
        ("local/models/absent", "nowhere"),
        ("./absent", "nowhere"),
        ("~/absent", "nowhere"),
        ("owner/", "nowhere"),
        ("owner/my judge", "nowhere"),
        ("empty", "nowhere"),
    ],
)
@pytest.mark.parametrize("backend", ["hf", "openai"])
def test_a_judge_is_a_folder_or_comes_from_the_hub(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    backend: str,
    model: str,
    origin: str,
) -> None:
    for name in ("judge", "local/judge", "local/models/judge"):
        write_json(tmp_path / "project" / name / "config.json", {})
    (tmp_path / "project" / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.setenv("HOME", str(tmp_path / "project"))
    model = model.replace("TMP", str(tmp_path))
    settings = {"backend": backend, "model": model, "size": "tiny", "base_url": "http://a:1/v1"}
    (folder / "judge.yaml").write_text(yaml.safe_dump(settings))
    if backend == "hf" and origin == "nowhere":
        expected = "expected a folder with config.json, or owner/name on the hub"
        assert mistakes(folder) == [f"judge.yaml: model: found '{model}', {expected}"]
        return
    grid = load(folder)
    is_fetched = backend == "hf" and origin == "hub"
    assert from_hub(grid) == ([("judge", "judge")] if is_fetched else [])
    assert len(warnings(grid)) == len(pin(folder, lambda *_: "c" * 40)) == is_fetched


def test_repositories_without_a_commit_are_warned_of(folder: Path) -> None:
    (folder / "adopted.yaml").write_text(
        "xs/long/0: {hub: a/b}\nxs/short/0: {hub: a/b, revision: abc}\n"
    )
    unpinned = ["adopted.yaml: xs/long/0: a/b is not pinned, its revision is main, which may"]
    on_hub = {"size": "tiny", "model": "org/judge"}
    of_judge = "judge.yaml: judge: org/judge is not pinned, its revision is main, which may"
    edit(folder, "grid.yaml | environment: cpu -> environment: gpu")
    for settings, expected in (
        ({"backend": "none"}, unpinned),
        ({"backend": "hf", **on_hub}, [*unpinned, of_judge]),
        ({"backend": "vllm", **on_hub}, [*unpinned, of_judge]),
        ({"backend": "vllm", **on_hub, "revision": "abc"}, unpinned),
        ({"backend": "openai", **on_hub, "base_url": "http://a:1"}, unpinned),
    ):
        judge(folder, **settings)
        assert [line.split(" change;")[0] for line in warnings(load(folder))] == expected


# ---- limits of the machine ----


def test_students_that_do_not_fit_on_the_disk_are_not_begun(
    demo: dict[str, Any], tmp_path: Path
) -> None:
    for entry in demo["models"].values():
        entry["params_b"] = 1.0
    check_disk(demo, tmp_path, (2 * 4 * 3 + 16) * 10**9)
    with pytest.raises(InputError, match="12 students to train need about 40 GB, 40 GB free"):
        check_disk(demo, tmp_path, 40 * 10**9 - 1)
    write_json(tmp_path / "train/xs/long/0/manifest.json", {})
    check_disk(demo, tmp_path, 38 * 10**9)


def test_more_gpus_than_the_machine_has_are_named(demo: dict[str, Any]) -> None:
    check_gpus(demo, 0)
    demo["hardware"]["tiny"]["gpus"] = 4
    with pytest.raises(InputError, match=r"hardware.yaml: tiny.gpus: 4, but this machine has 3"):
        check_gpus(demo, 3)


@pytest.mark.parametrize("backend", ["vllm", "hf"])
def test_a_judge_in_its_own_job_needs_its_gpus(demo: dict[str, Any], backend: str) -> None:
    demo["hardware"]["big"] = {**demo["hardware"]["tiny"], "gpus": 2}
    demo["judge"] |= {"backend": backend, "size": "big"}
    check_gpus(demo, 2)
    with pytest.raises(InputError, match=r"hardware.yaml: big.gpus: 2, but this machine has 1 GPU"):
        check_gpus(demo, 1)
    demo["judge"] |= {"backend": "openai"}  # its server is elsewhere
    check_gpus(demo, 1)


# ---- experiments that wait for their data ----


@pytest.fixture
def absent(folder: Path, tmp_path: Path) -> Path:
    """A file that a source names and that does not exist yet; an experiment is on it."""
    file = tmp_path / "rows.jsonl"
    edit(folder, f"sources.yaml | + other: {{path: {file}}}")
    edit(folder, "mixes.yaml | + other: {parts: {other: 1.0}}")
    edit(
        folder,
        "experiments.yaml | + other: {models: all, mixes: [other], benchmarks: all, caption: c, "
        "awaits_data: true, plot: accuracy_by_mix}",
    )
    return file


@pytest.mark.parametrize("mixes", ["[other]", "all"])
def test_an_experiment_that_awaits_data_is_left_out_until_they_are_there(
    folder: Path, absent: Path, demo: dict[str, Any], mixes: str
) -> None:
    edit(folder, f"experiments.yaml | mixes: [other] -> mixes: {mixes}")
    grid = load(folder)
    assert grid["experiments"].keys() == demo["experiments"].keys()
    waiting = f"experiments.yaml: other is left out until its data are there: {absent}"
    assert warnings(grid) == [waiting]
    absent.touch()
    grid = load(folder)
    assert "other" in grid["experiments"] and warnings(grid) == []


def test_missing_data_are_a_mistake_unless_awaited(folder: Path, absent: Path) -> None:
    edit(folder, "experiments.yaml | awaits_data: true, -> contrast: [other, nobody],")
    message = (
        "experiments.yaml: other.contrast: 'nobody' is not among the experiment's mixes (other)"
    )
    assert mistakes(folder) == [message, f"sources.yaml: other.path: {absent} does not exist"]
    edit(folder, "experiments.yaml | caption: c, -> caption: c, awaits_data: true,")
    assert mistakes(folder) == []
    absent.touch()
    assert mistakes(folder) == [message]

"""config/paper: its cells, counted independently, and its benchmarks on the real files."""

import csv
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml

from gapgrid.config.load import load_grid
from gapgrid.core.records import read_jsonl
from gapgrid.grading.extract import answer_in, extract, gold_text
from gapgrid.grading.pairs import grade_pairs
from gapgrid.grid.cells import all_cells, experiment_cells
from gapgrid.grid.specs import problems_spec, source_spec
from gapgrid.stages import mix, problems, source

REPOSITORY = Path(__file__).parents[3]
PAPER = REPOSITORY / "config" / "paper"
SHARED = REPOSITORY.parent / "shared" / "data"
QWEN = SHARED / "tokenizers" / "qwen2.5"
needs_benchmarks, needs_qwen, needs_reference = (
    pytest.mark.skipif(not folder.is_dir(), reason=f"{folder} is not beside the repository")
    for folder in (SHARED / "benchmarks", QWEN, SHARED / "reference")
)
FILES = {  # of each benchmark: the folder of the paper's repository, its column, its task's name
    "aime": ("aime24", "problem", "AIME"),
    "amc": ("amc23", "question", "AMC"),
    "olympiad": ("olympiadbench", "question", "Olympiad"),
    "math": ("math", "problem", "hendrycks_math"),
    "math-500": ("math500", "problem", "hendrycks_math_500"),
    "gsm8k": ("gsm8k", "question", "gsm8k_cot_zeroshot"),
}
COUNTS = {"aime": 30, "amc": 40, "olympiad": 675, "math": 5000, "math-500": 500, "gsm8k": 1319}
SHORT_CONTEXT = 4096  # of Qwen2.5-Math
CONTEXT = 32768  # of the other Qwen2.5 students, the shortest of the rest
ROW = json.dumps({"problem": "1 + 1", "solution": "2"}) + "\n"
FIVE = "math+gsm8k+aime+amc+olympiad"
Cells = set[tuple[str, str, int, str]]
Problems = dict[str, list[dict[str, Any]]]  # by benchmark


def read(folder: Path, name: str) -> dict[str, Any]:
    """One YAML file, read by plain YAML."""
    return yaml.safe_load((folder / f"{name}.yaml").read_text())


def cells_of(folder: Path, experiment: dict[str, Any]) -> Cells:
    """The cells of one experiment, by its YAML alone."""
    models, mixes, benchmarks = (
        list(read(folder, kind)) if experiment[kind] == "all" else experiment[kind]
        for kind in ("models", "mixes", "benchmarks")
    )
    return {
        (model, mix_name, 0 if mix_name == "none" else seed, benchmark)
        for model, mix_name, benchmark in product(models, mixes, benchmarks)
        for seed in read(folder, "grid")["seeds"]
    }


def cells_in(folder: Path, with_awaited: bool = False) -> Cells:
    """The cells of all experiments, by their YAML alone, with or without those that await data."""
    experiments = read(folder, "experiments").values()
    shown = [entry for entry in experiments if with_awaited or not entry.get("awaits_data")]
    return set().union(*(cells_of(folder, entry) for entry in shown))


# ---- which cells ----

TABLES = ("table1", "table2", "table3", "table7", "table8")
FIGURES = tuple(f"figure{number}" for number in range(1, 9))


def test_there_is_an_experiment_for_each_table_and_figure() -> None:
    experiments = read(PAPER, "experiments")
    for name in TABLES + FIGURES:
        assert name in experiments or {f"{name}-long", f"{name}-large"} <= experiments.keys(), name


def test_the_cells_are_those_that_the_yaml_names(paper: dict[str, Any]) -> None:
    assert {tuple(cell) for cell in all_cells(paper)} == cells_in(PAPER)
    for name, experiment in read(PAPER, "experiments").items():
        if experiment.get("awaits_data"):
            assert name not in paper["experiments"] and name in paper["awaited"]
        else:
            cells = {tuple(cell) for cell in experiment_cells(paper, name)}
            assert cells == cells_of(PAPER, experiment), name


def test_there_are_as_many_cells_as_the_paper_needs() -> None:
    """By hand: students and mixes of one recipe, five benchmarks each unless said otherwise."""
    trained = {
        "ten students, four single sources": 10 * 4,
        "two students, Mix-Long and Mix-Large": 2 * 2,
        "weights 0.1 to 0.9 without 0.2, both mixes": 8 * 2,
        "six base students, four single sources": 6 * 4,
        "two math experts, four single sources": 2 * 4,
        "two students, both published mixes": 2 * 2,
        "two students under the published recipe, four sets": 2 * 4,
    }
    n_trained = sum(trained.values())
    # The two math experts answer with 4,096 tokens alone; 1.5B and 1.5B base, four sources each,
    # answer both ways.
    answered = 5 * n_trained + 2 * 4 * 5
    # Untouched: ten students on the five and four of them on MATH-500; the 3B base on MATH-500 in
    # place of MATH.
    untouched = 10 * 5 + 4 + 5
    cells = cells_in(PAPER)
    assert len({cell[:3] for cell in cells if cell[1] != "none"}) == n_trained == 104
    assert len({cell[:3] for cell in cells if cell[1] == "none"}) == 11
    assert len(cells) == answered + untouched == 619


def test_the_dry_run_lists_exactly_these_cells(tmp_path: Path) -> None:
    snakemake = Path(sys.executable).parent / "snakemake"
    done = subprocess.run(
        [snakemake, "-n", "all", "--config", "grid=paper", f"results={tmp_path}"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    output = done.stdout + done.stderr
    paths = re.findall(r"score/([^/\s]+)/([^/\s]+)/(\d+)/([^/\s]+)/score\.json", output)
    planned = {(model, mix_name, int(seed), name) for model, mix_name, seed, name in paths}
    assert planned == cells_in(PAPER)
    jobs = dict(re.findall(r"^(\w+) +(\d+)$", output, re.MULTILINE))
    expected = {"train": 104, "evaluate": 115, "grade": 619, "score": 619, "source": 6}
    expected |= {"problems": 11, "table": 21, "figure": 19, "shift": 4, "shift_figure": 1}
    expected |= {"case": 1}
    assert {name: int(jobs[name]) for name in expected} == expected


NAMES = {
    "long_cot": "long",
    "short_cot": "short",
    "large_teacher": "large",
    "small_teacher": "small",
    "mix_long_0.2": "mix-long",
    "mix_large_0.2": "mix-large",
    "r1_distill_32b_long_cot": "r1-long",
}


@needs_reference
def test_each_number_of_the_papers_tables_has_its_cells() -> None:
    cells = cells_in(PAPER, with_awaited=True)
    with open(SHARED / "reference" / "paper_tables.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if not row["training_data"].startswith("delta")]
    for row in rows:
        for benchmark in FIVE.split("+"):
            assert (row["student"].lower(), NAMES[row["training_data"]], 0, benchmark) in cells, row
    assert len(rows) > 100


# ---- what nobody has released ----


def test_what_awaits_its_data_is_there_with_them(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(PAPER, tmp_path / "paper"))
    file = folder / "sources.yaml"
    file.write_text(file.read_text().replace("path: data/", f"path: {tmp_path}/"))
    for entry in read(folder, "sources").values():
        if "path" in entry:
            Path(entry["path"]).write_text(ROW)
    loaded = load_grid("paper", root=tmp_path)
    assert {tuple(cell) for cell in all_cells(loaded)} == cells_in(PAPER, with_awaited=True)
    more = cells_in(PAPER, with_awaited=True) - cells_in(PAPER)
    teachers = product(("llama", "gemma"), ("large", "small"))
    assert {cell[1] for cell in more} == {"r1-long", *map("-".join, teachers)}
    assert len(more) == 2 * 5 + 10 * 4 * 5  # two students of Table 3; Table 9
    assert {"table9-llama", "table9-gemma", "table3-r1"} <= loaded["experiments"].keys()


# ---- students, recipes, mixes, hardware ----


def test_small_students_are_trained_whole_and_large_ones_by_lora(paper: dict[str, Any]) -> None:
    for name, student in paper["models"].items():
        expected = "lora" if student["params_b"] >= 14 else "full"
        assert student["recipe"] == ("published-mix" if "published" in name else expected), name


def test_all_arms_of_a_student_share_one_recipe(paper: dict[str, Any]) -> None:
    """The confound's students have entries and families of their own, and no other experiment."""
    models = paper["models"]
    other = {name for name, student in models.items() if student["recipe"] == "published-mix"}
    for name, experiment in paper["experiments"].items():
        assert name == "confound" or not other & set(experiment["models"]), name
    for name in other:
        twin = models[name.removesuffix("-published-mix")]
        assert {**models[name], "recipe": twin["recipe"], "family": twin["family"]} == twin


def test_the_recipes_are_the_papers(paper: dict[str, Any]) -> None:
    recipes = paper["recipes"]
    shared = {"epochs": 2, "max_length": 16384}
    assert recipes["full"] == {"method": "full", "learning_rate": 1e-5, "global_batch": 8, **shared}
    lora = {**shared, "method": "lora", "learning_rate": 1e-4, "global_batch": 4}
    lora |= {"warmup_ratio": 0.03, "lora": recipes["lora"]["lora"]}
    assert recipes["lora"] == lora
    changed = {"global_batch": 80, "max_length": 4096, "batching": "packed"}
    assert recipes["published-mix"] == {**recipes["full"], **changed}


def test_every_job_can_split_its_batch_over_its_gpus(paper: dict[str, Any]) -> None:
    for name, student in paper["models"].items():
        n_gpus = paper["hardware"][student["size"]]["gpus"]
        assert paper["recipes"][student["recipe"]]["global_batch"] % n_gpus == 0, name


@pytest.mark.parametrize(
    ("name", "counts"),
    [("mix-long", {"long": 1077, "short": 4306}), ("mix-large", {"large": 908, "small": 3631})],
)
def test_a_mix_is_as_large_as_one_source_and_holds_the_papers_share(
    paper: dict[str, Any], name: str, counts: dict[str, int]
) -> None:
    assert mix.apportion(paper["mixes"][name]["parts"], sum(counts.values())) == counts


@pytest.mark.parametrize(
    ("experiment", "hard", "easy"),
    [("figure6-long", "long", "short"), ("figure6-large", "large", "small")],
)
def test_the_sweep_goes_from_0_to_1(
    paper: dict[str, Any], experiment: str, hard: str, easy: str
) -> None:
    swept = [paper["mixes"][name]["parts"] for name in paper["experiments"][experiment]["mixes"]]
    expected = [tenth / 10 for tenth in range(11)]
    assert [parts.get(hard, 0.0) for parts in swept] == pytest.approx(expected)
    assert all(parts.keys() <= {hard, easy} for parts in swept)


def test_each_source_may_be_a_local_file(tmp_path: Path, run: Callable[..., int]) -> None:
    folder = Path(shutil.copytree(PAPER, tmp_path / "paper"))
    rows = tmp_path / "rows.jsonl"
    rows.write_text(ROW)
    sources = {
        name: {"path": str(rows), "columns": entry["columns"]}
        for name, entry in read(folder, "sources").items()
    }
    (folder / "sources.yaml").write_text(yaml.safe_dump(sources))
    loaded = load_grid("paper", root=tmp_path)
    for name in sources:
        spec = json.loads(source_spec(loaded, name))
        assert run(source, spec, tmp_path / "out.jsonl", tmp_path / "manifest.json") == 0
        (row,) = read_jsonl(tmp_path / "out.jsonl")
        assert (row["source"], row["prompt"], row["response"]) == (name, "1 + 1", "2")


def test_every_known_revision_is_a_whole_commit_hash(paper: dict[str, Any]) -> None:
    for section in ("models", "sources"):
        for name, entry in paper[section].items():
            assert "path" in entry or re.fullmatch(r"[0-9a-f]{40}|main", entry["revision"]), name
    pinned = [entry for entry in paper["models"].values() if entry["revision"] != "main"]
    known = {(entry["revision"], entry["hub"]) for entry in pinned}
    # No revision is another student's.
    assert len({revision for revision, _ in known}) == len({hub for _, hub in known})


# ---- benchmarks, on the files of the paper's repository ----


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The paper's grid, its benchmarks' data on local files, with the count of each file."""
    root = tmp_path_factory.mktemp("config")
    folder = Path(shutil.copytree(PAPER, root / "paper"))
    benchmarks = read(folder, "benchmarks")
    for name, entry in benchmarks.items():
        base = name.removesuffix("-4k")
        entry["data"] = {"path": str(SHARED / "benchmarks" / FILES[base][0] / "test.jsonl")}
        entry["rows"] = COUNTS[base]
    (folder / "benchmarks.yaml").write_text(yaml.safe_dump(benchmarks))
    return load_grid("paper", root=root)


@pytest.fixture(scope="module")
def files(local: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Problems:
    """The problems of each benchmark, as the stage `problems` writes them."""
    rows = {}
    for name in FILES:
        folder = tmp_path_factory.mktemp(name)
        out = [str(folder / "problems.jsonl"), str(folder / "manifest.json")]
        assert problems.main(["--spec", problems_spec(local, name), *out]) == 0
        rows[name] = read_jsonl(out[0])
    return rows


def test_the_declared_counts_are_the_papers(paper: dict[str, Any]) -> None:
    declared = {name: paper["benchmarks"][name]["rows"] for name in FILES}
    # The hub's OlympiadBench has one problem less than the paper's file.
    assert declared == {**COUNTS, "olympiad": 674}
    for name in FILES:
        twin = paper["benchmarks"].get(f"{name}-4k", paper["benchmarks"][name])
        assert {**twin, "max_tokens": 16000} == paper["benchmarks"][name]


@needs_benchmarks
def test_each_file_has_the_declared_count_and_another_is_refused(
    files: Problems, local: dict[str, Any], tmp_path: Path, run: Callable[..., int]
) -> None:
    assert {name: len(rows) for name, rows in files.items()} == COUNTS
    assert len({row["type"] for row in files["math"]}) == 7
    spec = {**json.loads(problems_spec(local, "aime")), "rows": 29}
    assert run(problems, spec, tmp_path / "problems.jsonl", tmp_path / "manifest.json") == 1


def rejected(rows: list[dict[str, Any]], grader: str, write: Callable[[str], str]) -> list[str]:
    """The reference answers that are not accepted when a student gives them as `write` does."""
    golds = [answer_in(gold_text(row["gold"])) or gold_text(row["gold"]) for row in rows]
    answers = [extract(write(gold), grader).answer for gold in golds]
    pairs = [
        {**row, "pred": f"\\boxed{{{answer}}}"} for row, answer in zip(rows, answers, strict=True)
    ]
    graded = zip(golds, grade_pairs(pairs), strict=True)
    return [gold for gold, (decision, _) in graded if not decision.is_correct]


@needs_benchmarks
@pytest.mark.parametrize("name", FILES)
def test_every_reference_answer_is_accepted_in_a_box(
    files: Problems, paper: dict[str, Any], name: str
) -> None:
    grader = paper["benchmarks"][name]["grader"]
    write = "So.\nFinal Answer: \\boxed{{{}}}.".format
    assert rejected(files[name], grader, write) == []


@needs_benchmarks
@pytest.mark.parametrize("name", ["aime", "amc"])
def test_whole_numbers_are_accepted_as_students_write_them(files: Problems, name: str) -> None:
    assert rejected(files[name], "boxed", lambda gold: f"\\boxed{{{float(gold):g}}}") == []


@needs_benchmarks
def test_gsm8k_takes_the_last_number(files: Problems) -> None:
    rows = files["gsm8k"]
    write = "First 7, then 8, so it is {} in all.".format
    assert rejected(rows, "boxed_or_last_number", write) == []
    assert all(re.fullmatch(r"-?[0-9.,]+", row["gold"]) for row in rows)


@needs_benchmarks
def test_the_last_box_of_a_math_solution_is_the_answer_that_math_500_gives(files: Problems) -> None:
    solutions = {row["problem"]: row["gold"] for row in files["math"]}
    for row in files["math-500"]:
        assert answer_in(solutions[row["problem"]]) == row["gold"]


# ---- prompts ----

PROMPT = (
    "Solve the following math problem. Present the final answer in the format: "
    "Final Answer: \\boxed{{your_answer}}.\nProblem: {}\nAnswer:"
)
MATH_PROMPT = PROMPT.replace("problem. Present", "problem and present")
PROMPTS = {**dict.fromkeys(FILES, PROMPT), "math": MATH_PROMPT, "math-500": MATH_PROMPT}
PROMPTS["gsm8k"] = "{}"
QWEN_TURN = (
    "<|im_start|>system\n"
    "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n"
    "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
)


def test_the_tasks_have_the_names_of_the_papers_repository(paper: dict[str, Any]) -> None:
    tasks = {name: task for name, (_, _, task) in FILES.items()}
    assert {name: paper["benchmarks"][name]["task"] for name in FILES} == tasks
    assert {file.stem for file in (PAPER / "tasks").glob("*.yaml")} == set(tasks.values())


def rendered(
    task: Path, rows: list[dict[str, Any]], template: Callable[..., str]
) -> Iterator[tuple[str, list[str]]]:
    """The prompt of each row and what stops its answer, as lm-eval makes them from a task file."""
    from gapgrid.engines.harness import load_task

    loaded = load_task(task, rows)
    loaded.build_all_requests(apply_chat_template=True, chat_template=template)
    for instance in sorted(loaded.instances, key=lambda instance: instance.doc_id):
        yield instance.args[0], instance.args[1]["until"]


@pytest.fixture(scope="module")
def qwen() -> Any:
    """The real Qwen2.5-Instruct tokenizer."""
    from gapgrid.engines.tokens import load_tokenizer

    return load_tokenizer(QWEN)


@needs_benchmarks
@needs_qwen
@pytest.mark.parametrize("name", FILES)
def test_prompts_are_the_papers_in_qwens_own_template_and_fit(
    files: Problems, paper: dict[str, Any], qwen: Any, name: str
) -> None:
    rows = files[name][:: max(1, len(files[name]) // 100)]
    rows += sorted(files[name], key=lambda row: len(row["problem"]))[-20:]

    def template(messages: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        return qwen.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=add_generation_prompt
        )

    _, column, task = FILES[name]
    prompts, stops = zip(*rendered(PAPER / "tasks" / f"{task}.yaml", rows, template), strict=True)
    assert list(prompts) == [QWEN_TURN.format(PROMPTS[name].format(row[column])) for row in rows]
    assert all(until == ([] if name == "gsm8k" else ["Problem:"]) for until in stops)
    encoded = qwen(list(prompts), add_special_tokens=False)["input_ids"]
    longest = max(map(len, encoded))
    assert longest + paper["benchmarks"][name]["max_tokens"] <= CONTEXT
    if f"{name}-4k" in paper["benchmarks"]:
        # The experts' own system line is a few tokens longer than Qwen's.
        assert longest + 100 + paper["benchmarks"][f"{name}-4k"]["max_tokens"] <= SHORT_CONTEXT


def test_math_experts_answer_nothing_that_their_context_does_not_hold(
    paper: dict[str, Any],
) -> None:
    for model, _, _, benchmark in cells_in(PAPER):
        if "math" in model:
            assert paper["benchmarks"][benchmark]["max_tokens"] < SHORT_CONTEXT, (model, benchmark)


# ---- beside what was published ----


def test_published_numbers_are_the_papers(paper: dict[str, Any]) -> None:
    """A few, by hand, with the paper's slips."""
    numbers = {
        (row["model"], row["mix"], row["minus"], row["benchmark"]): (row["score"], row["note"])
        for row in paper["reference"]
    }
    slip = "slip: the mean of its row in Table 3 is 31.84"
    assert numbers["qwen2.5-0.5b", "long", "short", FIVE] == (-4.7, "")
    assert numbers["qwen2.5-3b", "mix-long", "", "amc"] == (45.0, "")
    assert numbers["llama-3.2-3b", "small", "", FIVE] == (31.2, slip)
    assert numbers["llama-3.1-8b", "large", "", FIVE] == (25.6, "printed as Llama-3.2-8B, a slip")
    assert numbers["qwen2.5-3b-base", "none", "", "math-500"] == (50.0, "")


@needs_reference
def test_every_number_of_the_papers_tables_is_given_once(paper: dict[str, Any]) -> None:
    names = {"OlympiadBench": "olympiad"} | {
        name.upper(): name for name in ("math", "amc", "gsm8k", "aime")
    }
    gaps = {"delta_long": ("long", "short"), "delta_large": ("large", "small")}
    given = {
        (row["model"], row["mix"], row["minus"], row["benchmark"]): row
        for row in paper["reference"]
        if row["source"] != "third party"
    }
    keys = set()
    with open(SHARED / "reference" / "paper_tables.csv", newline="") as file:
        for row in csv.DictReader(file):
            data = row["training_data"]
            mix_name, minus = gaps[data] if data in gaps else (NAMES[data], "")
            key = (row["student"].lower(), mix_name, minus, names.get(row["benchmark"], FIVE))
            assert given[key]["score"] == float(row["score"]), key
            assert row["table"][-1] in given[key]["source"], key
            keys.add(key)
    assert keys == given.keys()


@needs_reference
def test_every_number_of_untouched_students_is_given(paper: dict[str, Any]) -> None:
    given = sorted(row["score"] for row in paper["reference"] if row["source"] == "third party")
    with open(SHARED / "reference" / "untouched_models.csv", newline="") as file:
        assert given == sorted(float(row["score"]) for row in csv.DictReader(file))


def test_tables_show_what_the_paper_shows(paper: dict[str, Any]) -> None:
    for name, of_each in (("table1", "table7"), ("table2", "table8")):
        short, long = paper["experiments"][name], paper["experiments"][of_each]
        assert short["by_benchmark"] is False and long.get("by_benchmark", True) is True
        for key in ("models", "mixes", "contrast"):
            assert short[key] == long[key], (name, key)

"""The contract: a change re-runs the jobs it affects, all of them and no others.

Each row changes a finished grid of stub engines in one way and asserts three things: the exact jobs
that `snakemake -n` lists, the exact jobs that then run, and that nothing is to be done after that.
"""

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from gapgrid.grid.specs import VERSIONS
from tests.workflow.conftest import Project

# The stub grid: both students on both mixes answer both benchmarks; the untouched small one answers
# one.
TRAINED = ["small/short/0", "small/mixed/0", "large/short/0", "large/mixed/0"]
UNTOUCHED = "small/none/0"
CELLS = [
    *(f"{cell}/{benchmark}" for cell in TRAINED for benchmark in ("easy", "hard")),
    f"{UNTOUCHED}/easy",
]
IN_ACCURACY = {"small/none/0/easy", "small/short/0/easy"}


def of(rule: str, *coordinates: str) -> set[str]:
    return {f"{rule}/{coordinate}" for coordinate in coordinates} if coordinates else {rule}


def leaves(*experiments: str) -> set[str]:
    return of("table", *experiments) | of("figure", *experiments)


def leaves_of(cells: Iterable[str]) -> set[str]:
    """The tables and figures that show any of these cells."""
    cells = set(cells)
    shown = {"gap"} if cells - {f"{UNTOUCHED}/easy"} else set()
    return leaves(*shown, *({"accuracy"} if cells & IN_ACCURACY else ()))


def rescored(cells: Iterable[str]) -> set[str]:
    """All that follows once these cells have other verdicts."""
    return of("score", *cells) | {"audit"} | leaves_of(cells)


def regraded(cells: Iterable[str]) -> set[str]:
    """All that follows once these cells have other answers."""
    cells = sorted(cells)
    return of("grade", *cells) | {"judge"} | rescored(cells)


def cells_in(training_cells: Iterable[str]) -> list[str]:
    training_cells = set(training_cells)
    return [cell for cell in CELLS if cell.rsplit("/", 1)[0] in training_cells]


def reanswered(training_cells: Iterable[str]) -> set[str]:
    """All that follows once these students have changed."""
    training_cells = sorted(training_cells)
    return of("evaluate", *training_cells) | regraded(cells_in(training_cells))


def retrained(training_cells: Iterable[str]) -> set[str]:
    training_cells = sorted(training_cells)
    return of("train", *training_cells) | reanswered(training_cells)


EVERYTHING_AFTER_BASES = (
    of("base", "small/0", "large/0") | retrained(TRAINED) | reanswered([UNTOUCHED])
)
ON_MIXED = ["small/mixed/0", "large/mixed/0"]
EASY = [cell for cell in CELLS if cell.endswith("easy")]
HARD = [cell for cell in CELLS if cell.endswith("hard")]
ALL = [*TRAINED, UNTOUCHED]


def new_cells(training_cell: str, benchmarks: Iterable[str]) -> set[str]:
    """All that a training cell new to the grid needs from its request on, but for the leaves."""
    cells = [f"{training_cell}/{benchmark}" for benchmark in benchmarks]
    found = (
        of("request", *cells)
        | of("evaluate", training_cell)
        | of("grade", *cells)
        | {"judge"}
        | of("score", *cells)
        | {"audit"}
    )
    return found | (set() if "/none/" in training_cell else of("train", training_cell))


class Row(NamedTuple):
    name: str
    change: Callable[[Project], object]
    expected: set[str]
    config: tuple[str, ...] = ()
    runs: set[str] | None = None  # where a checkpoint decides on more than could be planned


def set_key(keys: str, value: object) -> Callable[[Project], None]:
    """Set one key of one config file: `recipes.sft.epochs`."""
    file, *path, last = keys.split(".")

    def change(document: Any) -> None:
        for key in path:
            document = document[key]
        document[last] = value

    return lambda project: project.edit(file, change)


def drop(keys: str) -> Callable[[Project], None]:
    """Remove one key of one config file."""
    file, *path, last = keys.split(".")

    def change(document: Any) -> None:
        for key in path:
            document = document[key]
        del document[last]

    return lambda project: project.edit(file, change)


def bump(stage: str) -> Callable[[Project], None]:
    version = VERSIONS[stage]
    return lambda project: project.replace(
        "workflow/gapgrid/grid/specs.py", f'"{stage}": {version}', f'"{stage}": {version + 1}'
    )


def touch(*names: str) -> Callable[[Project], None]:
    return lambda project: [project.result(name).touch() for name in names] and None


def delete(*names: str) -> Callable[[Project], None]:
    def change(project: Project) -> None:
        for name in names:
            path = project.result(name)
            for file in sorted(path.rglob("*"), reverse=True) if path.is_dir() else []:
                file.unlink() if file.is_file() else file.rmdir()
            path.rmdir() if path.is_dir() else path.unlink()

    return change


def append(file: str, text: str) -> Callable[[Project], None]:
    def change(project: Project) -> None:
        with project.path(file).open("a") as opened:
            opened.write(text)

    return change


def several(*changes: Callable[[Project], object]) -> Callable[[Project], None]:
    return lambda project: [change(project) for change in changes] and None


def comment_every_config_file(project: Project) -> None:
    for file in project.path("config/stub").glob("*.yaml"):
        file.write_text("# A comment.\n\n" + file.read_text() + "\n# Another.\n")


def comment_all_code(project: Project) -> None:
    """A comment in every module and rule file but those that leaves take as input."""
    rules = sorted(project.path("workflow/rules").glob("*.smk"))
    named = re.findall(r"code_of\(([^)]*)\)", "".join(file.read_text() for file in rules))
    of_leaves = {name for text in named for name in re.findall(r'"([^"]+)"', text)}
    package = project.path("workflow/gapgrid")
    assert of_leaves and all((package / name).is_file() for name in of_leaves)
    leaves = [package / name for name in of_leaves]
    for file in [*package.rglob("*.py"), *rules]:
        if file not in leaves:
            file.write_text(file.read_text() + "\n# A comment.\n")


def reorder_keys(project: Project) -> None:
    # The order of students, mixes and benchmarks is the order in which figures show them; all other
    # order means nothing.
    for file in ("models", "mixes", "benchmarks", "experiments"):
        project.edit(
            file,
            lambda document: {
                name: dict(reversed(entry.items())) for name, entry in document.items()
            },
        )
    for file in ("recipes", "sources", "hardware"):
        project.edit(
            file,
            lambda document: {
                name: dict(reversed(entry.items())) for name, entry in reversed(document.items())
            },
        )


def restyle_numbers(project: Project) -> None:
    project.replace("config/stub/recipes.yaml", "1.0e-3", "0.001")


def move_results(project: Project) -> None:
    project.path("results").rename(project.path("elsewhere"))


def new_model(document: dict[str, dict[str, object]]) -> None:
    document["medium"] = {**document["small"], "params_b": 0.005}


MEDIUM = (
    of("base", "medium/0")
    | new_cells("medium/short/0", ["easy", "hard"])
    | new_cells("medium/mixed/0", ["easy", "hard"])
    | leaves("gap")
)
SEED_1 = (
    of("base", "small/1", "large/1")
    | set().union(*(new_cells(cell[:-1] + "1", ["easy", "hard"]) for cell in TRAINED))
    | new_cells("small/none/1", ["easy"])
    | leaves("gap", "accuracy")
)
NEW_BENCHMARK = {
    "task": "story",
    "data": {"builtin": {"events": 3, "seed": 1}},
    "rows": 5,
    "max_tokens": 50,
    "grader": "boxed",
}
MIDDLE_CELLS = [f"{cell}/middle" for cell in TRAINED]


LARGE_RETRAINED = retrained(["large/short/0", "large/mixed/0"])
REFERENCE = "model,mix,benchmark,score,source\n"
JUDGED_ANEW = {"judge"} | rescored(CELLS)
SHOWN_ANEW = leaves("gap")
TESTED_ANEW = of("selftest", "easy", "hard")
EXTRA = {
    "models": ["large"],
    "mixes": ["short"],
    "benchmarks": ["hard"],
    "plot": "accuracy_by_mix",
    "caption": "Extra.",
}
HALF = {"parts": {"long": 0.5, "short": 0.5}}
MIDDLE = (
    of("problems", "middle")
    | of("selftest", "middle")
    | of("request", *MIDDLE_CELLS)
    | of("evaluate", *TRAINED)
    | of("grade", *MIDDLE_CELLS)
    | {"judge"}
    | of("score", *MIDDLE_CELLS)
    | {"audit"}
    | SHOWN_ANEW
)
REMIXED = of("mix", "mixed") | retrained(ON_MIXED)
CAP_OF_HARD = of("request", *HARD) | of("evaluate", *TRAINED) | regraded(HARD)
GRADER_OF_EASY = of("selftest", "easy") | regraded(EASY)

ROWS = [
    # Training keys.
    Row(
        "learning rate",
        set_key("recipes.sft.learning_rate", 0.002),
        retrained(["small/short/0", "small/mixed/0"]),
    ),
    Row("epochs", set_key("recipes.sft-large.epochs", 3), LARGE_RETRAINED),
    Row("global batch", set_key("recipes.sft-large.global_batch", 16), LARGE_RETRAINED),
    Row("cutoff", set_key("recipes.sft-large.max_length", 320), LARGE_RETRAINED),
    Row("packing", set_key("recipes.sft-large.batching", "packed"), LARGE_RETRAINED),
    Row("LoRA", set_key("recipes.sft-large.method", "lora"), LARGE_RETRAINED),
    Row("recipe of one student", set_key("models.large.recipe", "sft"), LARGE_RETRAINED),
    Row("pretraining recipe", set_key("recipes.pretrain.epochs", 2), EVERYTHING_AFTER_BASES),
    Row(
        "architecture",
        set_key("models.large.architecture.layers", 2),
        of("base", "large/0") | LARGE_RETRAINED,
    ),
    Row("a default written out", set_key("recipes.sft.over_length", "drop"), set()),
    # Data keys. The plan ends at the mix: what follows is decided once the mix is there.
    Row(
        "data of one source",
        set_key("sources.long.builtin.rows", 31),
        of("source", "long") | of("mix", "mixed"),
        runs=of("source", "long") | of("mix", "mixed") | retrained(ON_MIXED),
    ),
    Row(
        "data of a source in both mixes",
        set_key("sources.short.builtin.rows", 31),
        of("source", "short") | of("mix", "mixed", "short"),
        runs=of("source", "short") | of("mix", "mixed", "short") | retrained(TRAINED),
    ),
    Row(
        "corpus",
        set_key("sources.corpus.builtin.seed", 5),
        of("source", "corpus") | EVERYTHING_AFTER_BASES,
    ),
    # Mix keys.
    Row("share", set_key("mixes.mixed.parts", HALF["parts"]), of("mix", "mixed"), runs=REMIXED),
    Row("mix by tokens", set_key("mixes.mixed.by", "tokens"), of("mix", "mixed"), runs=REMIXED),
    Row("mix size", set_key("mixes.mixed.size", 20), of("mix", "mixed"), runs=REMIXED),
    Row("mix seed", set_key("mixes.mixed.seed", 3), of("mix", "mixed"), runs=REMIXED),
    Row("a re-mix that comes out the same", set_key("mixes.short.seed", 3), of("mix", "short")),
    Row("mix label", set_key("mixes.mixed.label", "1:4"), leaves("gap")),
    # Benchmark keys.
    Row("generation cap", set_key("benchmarks.hard.max_tokens", 60), CAP_OF_HARD),
    Row(
        "repeats",
        several(
            set_key("benchmarks.easy.sampling", {"temperature": 0.7}),
            set_key("benchmarks.easy.repeats", 3),
        ),
        of("request", *EASY) | of("evaluate", *ALL) | regraded(EASY),
    ),
    Row("grader", set_key("benchmarks.easy.grader", "boxed_or_last_number"), GRADER_OF_EASY),
    Row(
        "problems",
        set_key("benchmarks.hard.data.builtin.seed", 1),
        of("problems", "hard") | of("selftest", "hard") | of("evaluate", *TRAINED) | regraded(HARD),
    ),
    Row(
        "task file",
        append("config/stub/tasks/story.yaml", "description: Solve.\n"),
        of("request", *CELLS) | of("evaluate", *ALL) | regraded(CELLS),
    ),
    # Judge keys.
    Row("judge model", set_key("judge.model", "other"), JUDGED_ANEW),
    Row("judge reply length", set_key("judge.max_tokens", 5), JUDGED_ANEW),
    Row("judge sampling", set_key("judge.sampling", {"temperature": 0.5}), JUDGED_ANEW),
    Row(
        "judge preset",
        several(drop("judge.prompt"), set_key("judge.preset", "compass-verifier")),
        JUDGED_ANEW,
    ),
    Row(
        "judge's words",
        set_key("judge.replies", {"correct": ["True"], "incorrect": ["Well"]}),
        JUDGED_ANEW,
    ),
    Row("judge policy", set_key("judge.policy", "all"), JUDGED_ANEW),
    Row("judge policy, the default written out", set_key("judge.policy", "undecided"), set()),
    Row("judge prompt", append("config/stub/prompts/judge.txt", "Be strict.\n"), JUDGED_ANEW),
    Row(
        "no judge",
        lambda project: project.edit("judge", lambda _: {"backend": "none"}),
        JUDGED_ANEW,
    ),
    Row("judge address", set_key("judge.base_url", "http://127.0.0.1:1/v1"), set()),
    Row("judge hardware", set_key("judge.size", "big"), set()),
    # Statistics, plots, captions, hardware.
    Row("resamples", set_key("grid.statistics.resamples", 300), leaves("gap", "accuracy")),
    Row("plot kind", set_key("experiments.gap.plot", "accuracy_by_mix"), of("figure", "gap")),
    Row("plot kind, bars", set_key("experiments.gap.plot", "bars"), of("figure", "gap")),
    Row(
        "plot kind, a weight",
        several(
            set_key("experiments.gap.plot", "by_weight"),
            set_key("experiments.gap.weight_of", "long"),
        ),
        of("figure", "gap"),
    ),
    Row(
        "plot kind, partners of one size",
        several(
            set_key("experiments.gap.plot", "pairs"),
            set_key("experiments.gap.groups", {"wide": ["large"], "thin": ["small"]}),
            set_key("models.large.params_b", 0.001),
        ),
        leaves("gap"),
    ),
    Row("confidence", set_key("grid.statistics.confidence", 0.9), leaves("gap", "accuracy")),
    Row("contrast", set_key("experiments.gap.contrast", ["short", "mixed"]), SHOWN_ANEW),
    Row("caption", set_key("experiments.gap.caption", "Another."), SHOWN_ANEW),
    Row("what is compared", set_key("experiments.gap.varies", ["mix", "recipe"]), SHOWN_ANEW),
    Row(
        "what is compared, the default written out",
        set_key("experiments.gap.varies", ["mix"]),
        set(),
    ),
    Row(
        "a table's text without each benchmark",
        set_key("experiments.gap.by_benchmark", False),
        SHOWN_ANEW,
    ),
    Row(
        "a published number",
        append("config/stub/reference.csv", f"{REFERENCE}large,short,easy,50,Table 1\n"),
        SHOWN_ANEW,
    ),
    Row(
        "a published number of no cell of ours",
        append("config/stub/reference.csv", f"{REFERENCE}small,none,hard,50,Table 1\n"),
        set(),
    ),
    Row("student's place on the size axis", set_key("models.large.params_b", 0.02), leaves("gap")),
    Row("hardware", set_key("hardware.tiny.mem_mb", 999), set()),
    Row("a tracker of training", set_key("grid.report_to", "tensorboard"), set()),
    Row("micro batch", set_key("hardware.tiny.micro_batch", 2), set()),
    Row("hardware size of a student", set_key("models.small.size", "big"), set()),
    # Something new: one entry in one file.
    Row("new student", lambda project: project.edit("models", new_model), MEDIUM | SHOWN_ANEW),
    Row(
        "new mix",
        several(
            set_key("mixes.half", HALF),
            set_key("experiments.gap.mixes", ["mixed", "short", "half"]),
        ),
        of("mix", "half")
        | new_cells("small/half/0", ["easy", "hard"])
        | new_cells("large/half/0", ["easy", "hard"])
        | SHOWN_ANEW,
    ),
    Row("new benchmark", set_key("benchmarks.middle", NEW_BENCHMARK), MIDDLE),
    Row("new seed", lambda project: None, SEED_1, config=("seeds=[0,1]",)),
    Row(
        "new experiment over cells that are there",
        set_key("experiments.extra", EXTRA),
        leaves("extra"),
    ),
    # Something gone: no training, answering or judging, only what showed it.
    Row("student gone", drop("models.large"), {"audit"} | SHOWN_ANEW),
    Row("benchmark gone", drop("benchmarks.hard"), {"audit"} | SHOWN_ANEW),
    Row(
        "mix gone from an experiment",
        set_key("experiments.accuracy.mixes", ["short"]),
        {"audit"} | leaves("accuracy"),
    ),
    Row("experiment gone", drop("experiments.accuracy"), {"audit"}),
    # Several changes at once, where one makes a batch rerun that the other's cells wait for.
    Row(
        "a new benchmark and other statistics",
        several(
            set_key("benchmarks.middle", NEW_BENCHMARK), set_key("grid.statistics.resamples", 300)
        ),
        MIDDLE | leaves("accuracy"),
    ),
    Row(
        "one benchmark asked, another graded differently",
        several(
            set_key("benchmarks.hard.max_tokens", 60),
            set_key("benchmarks.easy.grader", "boxed_or_last_number"),
        ),
        CAP_OF_HARD | GRADER_OF_EASY,
    ),
    Row(
        "one benchmark asked differently, all scored differently",
        several(set_key("benchmarks.hard.max_tokens", 60), lambda project: bump("score")(project)),
        CAP_OF_HARD | rescored(CELLS),
    ),
    Row(
        "an experiment gone from one table while another's cells are new",
        several(
            set_key("benchmarks.middle", NEW_BENCHMARK),
            set_key("experiments.accuracy.mixes", ["short"]),
        ),
        MIDDLE | leaves("accuracy"),
    ),
    # Nothing but appearances.
    Row("comments in the configuration", comment_every_config_file, set()),
    Row("keys in another order", reorder_keys, set()),
    Row("a number written another way", restyle_numbers, set()),
    Row("comments in the code", comment_all_code, set()),
    Row(
        "another text of a command",
        lambda project: project.replace("workflow/rules/train.smk", '" --zero', '"  --zero'),
        set(),
    ),
    Row(
        "a comment in the code of a leaf",
        append("workflow/gapgrid/stages/table.py", "\n# A comment.\n"),
        leaves("gap", "accuracy"),
    ),
    Row(
        "a comment in the code of the audit",
        append("workflow/gapgrid/grading/prompt_injection.py", "\n# A comment.\n"),
        {"audit"},
    ),
    Row(
        "files touched",
        several(
            touch(
                "mixes/mixed/train.jsonl",
                "mixes/mixed/train.sha256",
                "sources/long/rows.jsonl",
                "train/small/none/0/manifest.json",
            ),
            touch(
                "train/small/mixed/0/manifest.json",
                "grade/small/short/0/easy/manifest.json",
                "score/small/short/0/easy/score.json",
            ),
            lambda project: project.path("config/stub/tasks/story.yaml").touch(),
            lambda project: project.path("workflow/gapgrid/stages/figure.py").touch(),
        ),
        set(),
    ),
    Row(
        "a profile's cores",
        lambda project: project.replace("profiles/demo/profile.yaml", "cores: 2", "cores: 1"),
        set(),
    ),
    Row("results moved", move_results, set(), config=("results=elsewhere",)),
    # A stage that means something else.
    Row("stage train bumped", bump("train"), retrained(TRAINED)),
    Row("stage base bumped", bump("base"), EVERYTHING_AFTER_BASES),
    Row("stage evaluate bumped", bump("evaluate"), of("request", *CELLS) | reanswered(ALL)),
    Row("stage selftest bumped", bump("selftest"), TESTED_ANEW),
    Row("stage grade bumped", bump("grade"), TESTED_ANEW | regraded(CELLS)),
    Row("stage judge bumped", bump("judge"), JUDGED_ANEW),
    Row("stage score bumped", bump("score"), rescored(CELLS)),
    Row("stage audit bumped", bump("audit"), {"audit"}),
    Row("stage figure bumped", bump("figure"), of("figure", "gap", "accuracy")),
    Row("stage mix bumped, mixes the same", bump("mix"), of("mix", "mixed", "short")),
    # An output gone.
    Row(
        "a score deleted",
        delete("score/small/short/0/easy/score.json"),
        rescored(["small/short/0/easy"]),
    ),
    Row(
        "samples deleted",
        delete("grade/large/mixed/0/hard/samples.jsonl"),
        regraded(["large/mixed/0/hard"]),
    ),
    Row("a figure deleted", delete("figures/gap.svg"), of("figure", "gap")),
    Row("a figure's points deleted", delete("figures/gap.csv"), of("figure", "gap")),
    Row("a student deleted to make room", delete("train/large/mixed/0/model"), set()),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_change_reruns_exactly(built: Project, row: Row) -> None:
    row.change(built)
    assert built.plan(config=row.config) == row.expected
    if not row.expected:
        return  # the plan itself was empty: nothing to run, nothing left to do
    wanted = row.expected if row.runs is None else row.runs
    assert built.jobs(config=row.config) == wanted
    assert built.is_done(config=row.config)


def test_adding_a_seed_and_dropping_it_again(built: Project) -> None:
    built.jobs(config=("seeds=[0,1]",))
    shown_anew = {"audit"} | leaves("gap", "accuracy")
    assert built.plan() == shown_anew
    built.jobs()
    assert built.plan(config=("seeds=[0,1]",)) == shown_anew


def test_benchmark_gone_and_back_needs_no_student(built: Project) -> None:
    text = built.path("config/stub/benchmarks.yaml").read_text()
    drop("benchmarks.hard")(built)
    built.jobs()
    built.path("config/stub/benchmarks.yaml").write_text(text)
    assert built.plan() == {"audit"} | SHOWN_ANEW


def test_moved_folder_is_still_fresh(built: Project, tmp_path: Path) -> None:
    built.folder.rename(tmp_path / "moved")
    assert Project(tmp_path / "moved", "stub").is_done()


def test_new_benchmark_generates_only_its_own_answers(built: Project) -> None:
    set_key("benchmarks.middle", NEW_BENCHMARK)(built)
    built.jobs()
    log = built.log("evaluate/small/short/0")
    assert "middle: 5 requests, 5 to generate" in log
    assert "easy:" not in log and "hard:" not in log


def test_judge_asks_only_what_the_ledger_lacks(built: Project) -> None:
    set_key("benchmarks.easy.grader", "boxed_or_last_number")(built)
    built.jobs()
    assert "0 calls in 0 load(s) of the judge" in built.log("judge")

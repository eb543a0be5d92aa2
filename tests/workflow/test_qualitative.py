"""Token rank shift and case study under the staleness contract: rows as in `test_staleness`.

The stub grid with two experiments more, over cells that it has anyway: `tokens` ranks
small/short/0/easy, `cases` shows large/mixed and large/short on hard.
"""

from pathlib import Path

import pytest

from tests.workflow.conftest import Project
from tests.workflow.test_staleness import (
    ALL,
    CELLS,
    EASY,
    GRADER_OF_EASY,
    Row,
    append,
    bump,
    delete,
    drop,
    leaves,
    of,
    regraded,
    rescored,
    retrained,
    set_key,
    several,
    touch,
)
from tests.workflow.test_status import WITHOUT_MANIFEST, not_fresh

RANKED = "small/short/0/easy"
TOKENS = {
    "models": ["small"],
    "mixes": ["short"],
    "benchmarks": ["easy"],
    "plot": "token_shift",
    "problems": 4,
    "caption": "Tokens.",
}
CASES = {
    "models": ["large"],
    "mixes": ["mixed", "short"],
    "benchmarks": ["hard"],
    "plot": "case_study",
    "choose": {"mixed": "right", "short": "wrong"},
    "caption": "Cases.",
}
AS_LINES = {
    **{key: value for key, value in TOKENS.items() if key != "problems"},
    "plot": "accuracy_by_mix",
}
ON_SMALL, ON_LARGE = ["small/short/0", "small/mixed/0"], ["large/short/0", "large/mixed/0"]
EASY_ANEW = of("request", *EASY) | of("evaluate", *ALL) | regraded(EASY)
TOKEN_LEAVES = of("table", "tokens") | of("shift_figure", "tokens")
CASE_LEAVES = of("table", "cases") | of("case", "cases")
RANKED_ANEW = of("shift", RANKED) | of("shift_figure", "tokens")


@pytest.fixture(scope="module")
def qualitative_once(built_once: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = built_once.copy(tmp_path_factory.mktemp("qualitative") / "project")
    project.edit("experiments", lambda document: document.update(tokens=TOKENS, cases=CASES))
    # Over cells that are there: no student, no answer, no verdict.
    assert project.jobs() == TOKEN_LEAVES | CASE_LEAVES | of("shift", RANKED)
    assert project.is_done()
    return project


@pytest.fixture
def qualitative(qualitative_once: Project, tmp_path: Path) -> Project:
    return qualitative_once.copy(tmp_path / "project")


ROWS = [
    # What is ranked or chosen, and what is shown of it.
    Row("how many problems are ranked", set_key("experiments.tokens.problems", 5), RANKED_ANEW),
    Row(
        "connectors",
        set_key("experiments.tokens.connectors", ["Final"]),
        of("shift_figure", "tokens"),
    ),
    Row("how many cases are shown", set_key("experiments.cases.problems", 1), of("case", "cases")),
    Row(
        "how many cases are shown, the default written out",
        set_key("experiments.cases.problems", 3),
        set(),
    ),
    Row(
        "which cases are chosen",
        set_key("experiments.cases.choose", {"mixed": "wrong"}),
        of("case", "cases"),
    ),
    Row("label of a mix", set_key("mixes.mixed.label", "1:4"), leaves("gap") | CASE_LEAVES),
    Row(
        "a cell more to rank",
        set_key("experiments.tokens.models", ["small", "large"]),
        of("shift", "large/short/0/easy") | TOKEN_LEAVES,
    ),
    Row(
        "a mix gone from the cases",
        set_key("experiments.cases", {**CASES, "mixes": ["mixed"], "choose": {"mixed": "right"}}),
        CASE_LEAVES,
    ),
    Row("both gone", several(drop("experiments.tokens"), drop("experiments.cases")), set()),
    Row("another kind of plot", set_key("experiments.tokens", AS_LINES), of("figure", "tokens")),
    # What the answers come from. Grading and judging them anew ranks nothing.
    Row(
        "the student that is ranked",
        set_key("recipes.sft.epochs", 3),
        retrained(ON_SMALL) | RANKED_ANEW | TOKEN_LEAVES,
    ),
    Row(
        "students of the cases",
        set_key("recipes.sft-large.epochs", 3),
        retrained(ON_LARGE) | CASE_LEAVES,
    ),
    Row(
        "how the ranked benchmark is asked",
        set_key("benchmarks.easy.max_tokens", 60),
        EASY_ANEW | RANKED_ANEW | TOKEN_LEAVES,
    ),
    Row(
        "grader",
        set_key("benchmarks.easy.grader", "boxed_or_last_number"),
        GRADER_OF_EASY | TOKEN_LEAVES,
    ),
    Row("stage score bumped", bump("score"), rescored(CELLS) | TOKEN_LEAVES | CASE_LEAVES),
    # Nothing but appearances.
    Row("hardware", set_key("hardware.tiny.mem_mb", 999), set()),
    Row(
        "files touched",
        touch(
            "shift/small/short/0/easy/manifest.json",
            "shift/small/short/0/easy/shift.jsonl",
            "grade/small/short/0/easy/samples.jsonl",
        ),
        set(),
    ),
    Row(
        "a comment in the code of ranking",
        append("workflow/gapgrid/stages/shift.py", "\n# A comment.\n"),
        set(),
    ),
    Row(
        "a comment in the code of a leaf",
        append("workflow/gapgrid/stages/shift_figure.py", "\n# A comment.\n"),
        of("shift_figure", "tokens"),
    ),
    Row(
        "a comment in the code of the page",
        append("workflow/gapgrid/reporting/case_page.py", "\n# A comment.\n"),
        of("case", "cases"),
    ),
    # A stage that means something else; an output gone.
    Row("stage shift bumped", bump("shift"), RANKED_ANEW),
    Row("stage shift_figure bumped", bump("shift_figure"), of("shift_figure", "tokens")),
    Row("stage case bumped", bump("case"), of("case", "cases")),
    Row("numbers deleted", delete("figures/tokens.csv"), of("shift_figure", "tokens")),
    Row("ranks deleted, their figure there", delete("shift/small/short/0/easy"), set()),
    Row("a file of the ranks deleted", delete("shift/small/short/0/easy/shift.jsonl"), set()),
    Row("page deleted", delete("cases/cases.html"), of("case", "cases")),
    Row(
        "students deleted to make room",
        delete("train/small/short/0/model", "train/small/none/0/model"),
        set(),
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_change_reruns_exactly(qualitative: Project, row: Row) -> None:
    row.change(qualitative)
    assert qualitative.plan() == row.expected
    if row.expected:
        assert qualitative.jobs() == row.expected
        assert qualitative.is_done()


NOT_OF_CODE = [row for row in ROWS if "code" not in row.name]


@pytest.mark.parametrize("row", NOT_OF_CODE, ids=lambda row: row.name)
def test_status_tells_what_the_next_run_makes(qualitative: Project, row: Row) -> None:
    row.change(qualitative)
    assert not_fresh(qualitative) == {
        job for job in row.expected if not job.startswith(WITHOUT_MANIFEST)
    }


def test_a_new_seed_is_ranked_too(qualitative: Project) -> None:
    planned = qualitative.plan(config=("seeds=[0,1]",))
    assert of("shift", "small/short/1/easy") | TOKEN_LEAVES | CASE_LEAVES <= planned
    assert not of("shift", RANKED) & planned


def test_verify_knows_the_new_manifests(qualitative: Project) -> None:
    fine = qualitative.gapgrid("verify")
    assert fine.returncode == 0 and "0 of the grid not built yet" in fine.stdout
    with qualitative.result("shift/small/short/0/easy/shift.jsonl").open("a") as file:
        file.write("{}\n")
    set_key("experiments.cases.choose", {"mixed": "wrong"})(qualitative)
    found = qualitative.gapgrid("verify")
    assert found.returncode == 1
    assert "shift/small/short/0/easy/shift.jsonl: sha256" in found.stdout
    assert "cases/cases.manifest.json: made under another configuration: choose" in found.stdout


def test_what_the_leaves_show(qualitative: Project) -> None:
    page = qualitative.result("cases/cases.html").read_text()
    assert "of 10 problems of hard match" in page
    summary = qualitative.json("shift/small/short/0/easy/shift.json")
    assert summary["n_answers"] == 4 and summary["n_mismatched"] == 0
    points = qualitative.result("figures/tokens.csv").read_text()
    assert points.startswith("model,mix,seed,kind,token")

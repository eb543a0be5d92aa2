"""gapgrid summary: averages and gaps of what is built, and how answers were graded."""

from pathlib import Path

import pytest

from gapgrid.core.records import write_json
from tests.unit.commands.conftest import Command

NOT_BUILT = ": not built yet"


def test_a_summary_names_what_is_not_built(gapgrid: Command) -> None:
    status, out, err = gapgrid("summary", "demo")
    assert (status, err) == (0, [])
    assert out[:2] == ["long-gap: not built yet", "accuracy: not built yet"]
    assert all(line.endswith(NOT_BUILT) for line in out[:-1])
    assert out[-1].startswith("results: ")


def test_a_summary_shows_accuracies_and_the_gap_of_all_that_a_table_holds(
    gapgrid: Command, results: Path
) -> None:
    file = results / "tables" / "long-gap.estimates.csv"
    file.parent.mkdir(parents=True)
    file.write_text(
        "quantity,model,mix,minus,benchmark,estimate,low,high,n_questions,n_seeds\n"
        "accuracy,xs,long,,average,0.5,0.4,0.6,600,1\n"
        "gap,xs,long,short,average,0.1,0.05,0.2,600,1\n"
        "gain,xs,long,none,average,0.1,0.05,0.2,600,1\n"
        "mix_minus_best,xs,mix-long,long,average,,,,,\n"
        "sign_flip,,long,short,average,0.1,0.05,0.2,600,1\n"
        "best_guess,,,,average,0.083,,,600,\n"
    )
    result = gapgrid("summary", "demo")
    assert (result.status, result.err) == (0, [])
    assert "50.0 [40.0, 60.0]" in result.text
    assert result.text.count("+10.0 [+5.0, +20.0]") == 1
    assert "best constant guess 8.3 %; 1 training seed(s), 600 questions" in result.text


def test_a_summary_shows_that_an_average_is_missing(gapgrid: Command, results: Path) -> None:
    file = results / "tables" / "long-gap.estimates.csv"
    file.parent.mkdir(parents=True)
    file.write_text(
        "quantity,model,mix,minus,benchmark,estimate,low,high,n_questions,n_seeds\n"
        "accuracy,xs,long,,average,,,,,\nbest_guess,,,,average,0.083,,,600,\n"
    )
    result = gapgrid("summary", "demo")
    assert (result.status, result.err) == (0, []) and "missing" in result.text
    assert "best constant guess 8.3 %; 0 training seed(s), 600 questions" in result.text


@pytest.mark.parametrize(
    ("engine", "judged"),
    [("openai", ["judge: 4 calls for 6 open answers, 2 saved as seen before"]), ("none", [])],
)
def test_a_summary_shows_how_answers_were_graded(
    gapgrid: Command, results: Path, engine: str, judged: list[str]
) -> None:
    facts = {"n": 20, "n_accepted": 9, "n_no_answer": 2, "n_pending": 9, "n_asked": 6}
    content = {
        "stage": "judge",
        "spec": {"judge": {"engine": {"name": engine}}},
        "inputs": {},
        "outputs": {},
        "facts": {**facts, "n_unique": 4},
    }
    write_json(results / "judge" / "round.json", content)
    lines = [line for line in gapgrid("summary", "demo").out[:-1] if not line.endswith(NOT_BUILT)]
    assert lines == [
        "grading: 20 answers, 9 accepted by rules, 2 without an answer, 3 rejected decisively, "
        "6 left open",
        *judged,
    ]

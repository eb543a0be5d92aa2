"""cli: each command on a small results folder says what it did, and every mistake of a user is one message."""

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gapgrid import cli, config, manifest
from gapgrid.commands import labelling
from gapgrid.ledger import Ledger, Pair
from gapgrid.records import Row, read_json, read_jsonl, sha256_file, write_json, write_jsonl
from tests.unit.test_audit import answer_row, write_cell

Command = Callable[..., tuple[int, list[str], list[str]]]
CELL = ("xs", "long", 0, "k2")


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where results of the demo grid, cut down to one benchmark, are to be; the working directory is theirs."""
    folder = Path(shutil.copytree(config.REPOSITORY / "config" / "demo", tmp_path / "config" / "demo"))
    experiments = folder / "experiments.yaml"
    text = experiments.read_text()
    for listed in ("all", "[k4]"):
        text = text.replace(f"benchmarks: {listed}", "benchmarks: [k2]")
    experiments.write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "results" / "demo"


@pytest.fixture
def command(results: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run a command: its exit status, and the lines on stdout and stderr."""

    def call(*arguments: object) -> tuple[int, list[str], list[str]]:
        status = cli.main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return status, said.out.splitlines(), said.err.splitlines()

    return call


@pytest.mark.parametrize("arguments", [[], ["nonsense", "demo"], ["audit"], ["audit", "demo"], ["export", "demo"], ["judges"]])
def test_a_command_that_is_none_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith("usage: gapgrid ")


@pytest.mark.parametrize(
    "words", [("verify", "demmo"), ("summary", "demmo"), ("export", "demmo", "--out", "out"), ("audit", "sample", "demmo")], ids=" ".join
)
def test_an_unknown_grid_is_one_message(command: Command, words: tuple[str, ...]) -> None:
    assert command(*words) == (1, [], ["error: config/demmo: no such grid (did you mean 'demo'?); there is demo"])


# ---- export ----


def build(results: Path, cell: tuple[str, str, int, str], *places: str) -> None:
    """A cell as grade and score leave it, its answers of these kinds."""
    rows = [answer_row(number, place) for number, place in enumerate(places)]
    write_cell(results, cell, rows)
    grade, score = (results / stage / "/".join(map(str, cell)) / "manifest.json" for stage in ("grade", "score"))
    manifest.write(grade, "grade", {}, {}, ["samples.jsonl", "graded.jsonl"])
    manifest.write(score, "score", {}, {"grade": sha256_file(grade)}, ["verdicts.jsonl"])


def test_an_export_writes_the_papers_files_of_what_is_built(command: Command, results: Path, tmp_path: Path) -> None:
    build(results, CELL, "rule_only", "judge_only", "decisively_rejected", "no_answer")
    status, out, told = command("export", "demo", "--out", "out")
    assert (status, out) == (0, ["2 files written to out/"])
    assert "xs/short/0/k2: not built yet, left out" in told and len(told) == 15
    written = tmp_path / "out" / "xs" / "long" / "0"
    assert {file.name for file in written.iterdir()} == {"summary_results_k2.json", "problematic_instances_k2.json"}
    assert read_json(written / "summary_results_k2.json") == {
        "none_resp_answer_count": 1,
        "exact_match_accuracy": 0.25,
        "llm_check_result_accuracy": 0.5,
        "none_llm_check_result_count": 0,
    }
    assert len(read_json(written / "problematic_instances_k2.json")) == 2


def test_an_export_of_nothing_fails(command: Command) -> None:
    status, out, told = command("export", "demo", "--out", "out")
    assert (status, out) == (1, ["0 files written to out/"])
    assert len(told) == 16 and not Path("out").exists()


def test_an_export_finds_results_and_seeds_that_are_given(command: Command, results: Path) -> None:
    build(results, ("xs", "long", 3, "k2"), "rule_only")
    results.parent.rename("elsewhere")
    assert command("export", "demo", "--results", "elsewhere", "--out", "out")[0] == 1
    assert command("export", "demo", "--results", "elsewhere", "--seeds", 3, 4, "--out", "out")[:2] == (0, ["2 files written to out/"])
    assert Path("out/xs/long/3/summary_results_k2.json").is_file()


def asked_by(k4: str) -> None:
    """Every benchmark in the demo grid's experiments, and k4 of another task than the other two."""
    config_file, experiments = Path("config/demo/benchmarks.yaml"), Path("config/demo/experiments.yaml")
    config_file.write_text(config_file.read_text().replace("k4: {<<: *story,", f"k4: {{<<: *story, task: {k4},"))
    story = Path("config/demo/tasks/story.yaml").read_text()
    Path(f"config/demo/tasks/{k4}.yaml").write_text(story.replace("task: story", f"task: {k4}"))
    experiments.write_text(experiments.read_text().replace("benchmarks: [k2]", "benchmarks: all"))


@pytest.mark.parametrize(("k4", "names"), [("story", {"k2", "k4", "k6"}), ("tale", {"k2", "tale", "k6"})])
def test_a_task_that_benchmarks_share_is_named_by_each_of_them(command: Command, results: Path, k4: str, names: set[str]) -> None:
    asked_by(k4)
    for n, name in enumerate(("k2", "k4", "k6")):
        build(results, (*CELL[:3], name), "rule_only", *["no_answer"] * n)
    assert command("export", "demo", "--out", "out")[:2] == (0, ["6 files written to out/"])
    written = Path("out/xs/long/0")
    kinds = ("summary_results", "problematic_instances")
    assert {file.name for file in written.iterdir()} == {f"{kind}_{name}.json" for kind in kinds for name in names}
    found = {name: read_json(written / f"summary_results_{name}.json")["none_resp_answer_count"] for name in names}
    assert found == {"k2": 0, "k4" if k4 == "story" else k4: 1, "k6": 2}


def test_names_that_would_overwrite_each_other_are_refused(command: Command, results: Path) -> None:
    asked_by("k2")
    build(results, CELL, "rule_only")
    status, out, told = command("export", "demo", "--out", "out")
    assert (status, out) == (1, []) and not Path("out").exists()
    assert told[0].startswith("error: ") and all("benchmarks 'k2' and 'k4' both are task 'k2'" in line for line in told)


# ---- judges ----

ONE, TWO = "1" * 16, "2" * 16
PAIRS = [Pair(f"p{number}", "2", f"a{number}") for number in range(5)]


@pytest.fixture
def ledger(results: Path) -> Path:
    """A ledger of two judges who agree on a pair, disagree on two, and leave one unparsed; the last pair is one's alone."""
    path = results / "judge" / "verdicts.sqlite"
    with Ledger(path) as kept:
        kept.register(ONE, {"engine": {"name": "openai"}, "model": "org/one"}, "prompt")
        kept.register(TWO, {"engine": {"name": "vllm"}, "model": "org/two", "revision": "abc"}, "prompt")
        first = ["correct", "correct", "incorrect", "unparsed", "unparsed"]
        second = ["correct", "incorrect", "correct", "correct"]
        kept.add(ONE, [(pair, verdict, "raw") for pair, verdict in zip(PAIRS, first, strict=True)])
        kept.add(TWO, [(pair, verdict, "raw") for pair, verdict in zip(PAIRS, second, strict=False)])
    return path


def listed(n_one: int = 5) -> list[str]:
    """The lines that list both judges."""
    return [f"{ONE}  {n_one} verdicts  openai org/one", f"{TWO}  4 verdicts  vllm org/two@abc"]


def test_judges_are_listed_and_the_ledger_is_left_as_it_is(command: Command, ledger: Path) -> None:
    before = ledger.read_bytes()
    assert command("judges", "demo") == (0, listed(), [])
    assert command("judges", "demo", "--compare", ONE, TWO)[0] == 0
    assert ledger.read_bytes() == before and [file.name for file in ledger.parent.iterdir()] == [ledger.name]


def test_two_judges_are_compared_pair_by_pair(command: Command, ledger: Path) -> None:
    status, out, told = command("judges", "demo", "--compare", ONE, TWO)
    assert (status, told, out[:3]) == (0, [], [*listed(), "1 pairs agree, 2 disagree, 1 unparsed by one of them"])
    assert [json.loads(line) for line in out[3:]] == [
        {"problem": "p1", "gold": "2", "answer": "a1", ONE: "correct", TWO: "incorrect"},
        {"problem": "p2", "gold": "2", "answer": "a2", ONE: "incorrect", TWO: "correct"},
    ]
    assert command("judges", "demo", "--compare", ONE, ONE)[1][2] == "3 pairs agree, 0 disagree, 2 unparsed by one of them"


def test_a_pair_of_control_characters_stays_one_line(command: Command, ledger: Path) -> None:
    odd = Pair("p\n\x1b[2J", "2", "\u202e\u2028é")
    with Ledger(ledger) as kept:
        kept.add(ONE, [(odd, "correct", "True")])
        kept.add(TWO, [(odd, "incorrect", "False")])
    line = next(line for line in command("judges", "demo", "--compare", ONE, TWO)[1] if "\\u001b" in line)
    assert line.isascii() and line.isprintable()
    assert json.loads(line)["answer"] == odd.answer


def test_what_is_unparsed_is_forgotten_once(command: Command, ledger: Path) -> None:
    status, out, told = command("judges", "demo", "--forget-unparsed", ONE)
    assert (status, told) == (0, [])
    assert out[0].startswith("2 unparsed verdicts forgotten") and out[1:] == listed(n_one=3)
    assert command("judges", "demo", "--forget-unparsed", ONE)[1][0].startswith("0 unparsed verdicts forgotten")
    assert command("judges", "demo") == (0, listed(n_one=3), [])


def counted(results: Path, benchmark: str, n_unparsed: int) -> Path:
    """The score of a cell with so many unparsed verdicts, beside its other files."""
    file = write_cell(results, (*CELL[:3], benchmark), [answer_row(i, "unparsed") for i in range(n_unparsed)])
    write_json(file, {**read_json(file), "n_unparsed": n_unparsed})
    return file


def left(results: Path) -> dict[str, bytes]:
    """Every file of a results folder with its content."""
    return {file.relative_to(results).as_posix(): file.read_bytes() for file in results.rglob("*") if file.is_file()}


def test_what_counted_unparsed_verdicts_is_taken_back(command: Command, results: Path, ledger: Path) -> None:
    stamped(results, {"engine": {"name": "openai"}})
    for benchmark, n_unparsed in (("k2", 2), ("k4", 0), ("k6", 1)):
        counted(results, benchmark, n_unparsed)
    before = left(results)
    assert command("judges", "demo", "--forget-unparsed", ONE)[0] == 0
    after = left(results)
    gone = {"judge/round.json", "score/xs/long/0/k2/score.json", "score/xs/long/0/k6/score.json"}
    assert before.keys() - after.keys() == gone
    del before["judge/verdicts.sqlite"]
    assert after.items() >= {name: content for name, content in before.items() if name not in gone}.items()
    assert command("judges", "demo", "--forget-unparsed", ONE)[0] == 0, "again, with all of it gone"


@pytest.mark.parametrize("more", [(), ("--compare", ONE, TWO)])
def test_an_empty_digest_to_forget_is_as_if_not_given(command: Command, results: Path, ledger: Path, more: tuple[str, ...]) -> None:
    stamped(results, {"engine": {"name": "openai"}})
    counted(results, "k2", 2)
    before = left(results)
    assert command("judges", "demo", "--forget-unparsed", "", *more) == command("judges", "demo", *more)
    assert command("judges", "demo", "--forget-unparsed", "", *more)[1][:2] == listed()
    assert left(results) == before


@pytest.mark.parametrize("arguments", [("--compare", ONE, "3" * 16), ("--compare", "3" * 16, TWO), ("--forget-unparsed", "3" * 16)])
def test_an_unknown_judge_is_named_with_the_known_ones(command: Command, ledger: Path, arguments: tuple[str, ...]) -> None:
    stamped(ledger.parent.parent, {"engine": {"name": "openai"}})
    score = counted(ledger.parent.parent, "k2", 2)
    before = {digest: n for digest, n, _ in judges(ledger)}
    expected = f"error: results/demo/judge/verdicts.sqlite: no judge '{'3' * 16}', expected one of {ONE}, {TWO}"
    assert command("judges", "demo", *arguments) == (1, [], [expected])
    assert {digest: n for digest, n, _ in judges(ledger)} == before
    assert score.exists() and (ledger.parent / "round.json").exists()


def judges(ledger: Path) -> list[tuple[str, int, str]]:
    """Who is in a ledger."""
    with Ledger(ledger, read_only=True) as kept:
        return kept.judges()


@pytest.mark.parametrize("arguments", [(), ("--compare", ONE, TWO), ("--forget-unparsed", ONE)])
def test_without_a_ledger_there_are_no_judges(command: Command, results: Path, arguments: tuple[str, ...]) -> None:
    assert command("judges", "demo", *arguments) == (1, [], ["error: results/demo/judge/verdicts.sqlite: no such verdict ledger"])
    assert not results.exists()


def test_an_empty_ledger_has_no_judges(command: Command, results: Path) -> None:
    with Ledger(results / "judge" / "verdicts.sqlite"):
        pass
    assert command("judges", "demo") == (0, [], [])
    assert command("judges", "demo", "--forget-unparsed", ONE)[2][0].endswith(f"no judge '{ONE}', expected one of none")


# ---- audit ----


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Have someone type these lines, then close the terminal."""
    return lambda lines: monkeypatch.setattr("sys.stdin", io.StringIO(lines))


def scored(results: Path) -> None:
    """A scored cell: two answers that rules accepted, two that the judge did, one without an answer."""
    rows = [answer_row(i, place, problem=f"p{i}") for i, place in enumerate(["rule_only"] * 2 + ["judge_only"] * 2 + ["no_answer"])]
    write_cell(results, CELL, rows)


def test_a_sample_is_labelled_and_goes_on_where_it_was_left(command: Command, results: Path, typed: Callable[[str], None]) -> None:
    scored(results)
    typed("y\nn\nq\n")
    status, out, told = command("audit", "sample", "demo", "-n", 3)
    assert (status, told) == (0, [])
    last = " ".join(" ".join(out).split())
    assert last.endswith("2 of 3 labelled; report with: gapgrid audit report GRID --labels labels/demo.jsonl")
    assert command(*last.rpartition("gapgrid ")[2].replace("GRID", "demo").split())[0] == 0, "what it names is a command"
    labels = Path("labels/demo.jsonl")
    assert [row["label"] for row in read_jsonl(labels)] == ["same", "different"]
    typed("u\n")
    assert "3 of 3 labelled; report" in " ".join(command("audit", "sample", "demo", "-n", 3)[1])
    assert [row["label"] for row in read_jsonl(labels)] == ["same", "different", "unsure"]
    typed("y\n")
    assert "4 of 4 labelled; report" in " ".join(command("audit", "sample", "demo")[1])


def test_a_sample_goes_where_it_is_told(command: Command, results: Path, typed: Callable[[str], None]) -> None:
    scored(results)
    results.parent.rename("elsewhere")
    typed("y\ny\ny\ny\n")
    assert command("audit", "sample", "demo", "--results", "elsewhere", "--labels", "mine/a.jsonl", "--seed", 7)[0] == 0
    assert {row["seed"] for row in read_jsonl("mine/a.jsonl")} == {7} and not Path("labels").exists()
    status, _, told = command("audit", "sample", "demo", "--results", "elsewhere", "--labels", "mine/a.jsonl")
    assert (status, told) == (1, ["error: mine/a.jsonl: has labels of a sample with another seed (0, 7); take another file"])


def test_without_scores_there_is_nothing_to_label(command: Command) -> None:
    assert command("audit", "sample", "demo") == (1, [], ["error: results/demo: no scored cells; run the grid first"])


@pytest.mark.parametrize("n", [0, -1])
def test_a_sample_has_pairs(command: Command, results: Path, n: int) -> None:
    scored(results)
    assert command("audit", "sample", "demo", "-n", n) == (1, [], [f"error: audit sample: {n} pairs asked for, expected 1 or more"])
    assert not Path("labels").exists()


def test_a_report_shows_the_rates_of_the_labels(command: Command, results: Path, typed: Callable[[str], None]) -> None:
    scored(results)
    typed("n\nn\nn\nn\n")
    command("audit", "sample", "demo")
    status, out, told = command("audit", "report", "demo")
    assert (status, told) == (0, [])
    text = " ".join(" ".join(out).split())
    assert "rules: false accept" in text and "judge: false accept" in text and "100.0 [" in text
    assert all(len(line) <= 100 for line in out)
    Path("labels/demo.jsonl").rename("mine.jsonl")
    assert command("audit", "report", "demo", "--labels", "mine.jsonl")[1] == out


def test_a_report_without_labels_is_one_message(command: Command) -> None:
    assert command("audit", "report", "demo") == (1, [], ["error: labels/demo.jsonl: no such file"])
    assert command("audit", "report", "demo", "--labels", "mine.jsonl") == (1, [], ["error: mine.jsonl: no such file"])


def test_a_label_that_is_none_is_named(command: Command) -> None:
    row: Row = dict.fromkeys(labelling.COLUMNS, "x") | {"stratum": "rejected/k2", "label": "maybe"}
    write_jsonl("labels/demo.jsonl", [row])
    status, _, told = command("audit", "report", "demo")
    assert (status, told) == (1, ["error: labels/demo.jsonl: label 1 is 'maybe', expected one of same, different, unsure"])


# ---- summary, verify ----


def stamped(results: Path, judge: dict[str, Any]) -> None:
    """The judge's stamp."""
    facts = {"n": 20, "n_accepted": 9, "n_no_answer": 2, "n_pending": 9, "n_asked": 6, "n_unique": 4}
    write_json(results / "judge" / "round.json", {"stage": "judge", "spec": {"judge": judge}, "inputs": {}, "outputs": {}, "facts": facts})


def test_a_summary_says_what_is_not_built(command: Command) -> None:
    status, out, told = command("summary", "demo")
    assert (status, told) == (0, [])
    assert out[:2] == ["long-gap: not built yet", "accuracy: not built yet"]
    assert all(line.endswith(": not built yet") for line in out[:-1]) and out[-1].startswith("results: ")


def test_a_summary_shows_accuracies_and_the_gap_of_all_that_a_table_holds(command: Command, results: Path) -> None:
    columns = ("quantity", "model", "mix", "minus", "benchmark", "estimate", "low", "high", "n_questions", "n_seeds")
    gap = ("0.1", "0.05", "0.2", "600", "1")
    rows = [
        ("accuracy", "xs", "long", "", "average", "0.5", "0.4", "0.6", "600", "1"),
        ("gap", "xs", "long", "short", "average", *gap),
        ("gain", "xs", "long", "none", "average", *gap),
        ("mix_minus_best", "xs", "mix-long", "long", "average", "", "", "", "", ""),
        ("sign_flip", "", "long", "short", "average", *gap),
        ("best_guess", "", "", "", "average", "0.083", "", "", "600", ""),
    ]
    file = results / "tables" / "long-gap.estimates.csv"
    file.parent.mkdir(parents=True)
    file.write_text("".join(",".join(row) + "\n" for row in (columns, *rows)))
    status, out, told = command("summary", "demo")
    text = " ".join(" ".join(out).split())
    assert (status, told) == (0, [])
    assert "50.0 [40.0, 60.0]" in text and text.count("+10.0 [+5.0, +20.0]") == 1
    assert "best constant guess 8.3 %; 1 training seed(s), 600 questions" in text


@pytest.mark.parametrize(("name", "judged"), [("openai", ["judge: 4 calls for 6 open answers, 2 saved as seen before"]), ("none", [])])
def test_a_summary_says_how_answers_were_graded(command: Command, results: Path, name: str, judged: list[str]) -> None:
    stamped(results, {"engine": {"name": name}})
    assert [line for line in command("summary", "demo")[1][:-1] if not line.endswith("not built yet")] == [
        "grading: 20 answers, 9 accepted by rules, 2 without an answer, 3 rejected decisively, 6 left open",
        *judged,
    ]


def test_results_that_are_not_there_cannot_be_verified(command: Command) -> None:
    assert command("verify", "demo") == (
        1,
        [],
        ["error: results/demo: no results yet; build them with: snakemake --config grid=demo"],
    )


def test_a_changed_output_and_a_changed_configuration_are_told(command: Command, results: Path) -> None:
    write_jsonl(results / "selftest" / "k2" / "rows.jsonl", [{"a": 1}])
    manifest.write(results / "selftest" / "k2" / "manifest.json", "selftest", {"stage": "selftest"}, {}, ["rows.jsonl"])
    status, out, _ = command("verify", "demo")
    assert status == 1 and len(out) == 2
    assert "selftest/k2/manifest.json: made under another configuration: " in out[0]
    assert out[1].startswith("1 manifests checked, 1 problems, ")
    write_jsonl(results / "selftest" / "k2" / "rows.jsonl", [{"a": 2}])
    assert "selftest/k2/rows.jsonl: sha256 " in command("verify", "demo")[1][0]

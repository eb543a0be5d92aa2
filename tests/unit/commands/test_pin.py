"""pin: every `main` becomes a commit, in place, and nothing else in the files changes."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from gapgrid.commands import pin
from gapgrid.config.checks import unpinned
from gapgrid.config.load import JUDGES, load_grid
from gapgrid.core.records import InputError

COMMIT = "0123456789abcdef0123456789abcdef01234567"
OTHER = "f" * 40
TWO_MODELS = "a: {hub: o/a, revision: main}\nb: {hub: o/b, revision: main}\n"


class Hub:
    """A made-up hub: the commit of a repository is its id, padded; it keeps its queries."""

    def __init__(self, *missing: str) -> None:
        self.queries: list[tuple[str, str, str]] = []
        self.missing = missing

    def __call__(self, kind: str, repository: str, revision: str) -> str:
        self.queries.append((kind, repository, revision))
        if repository in self.missing:
            raise InputError(f"{kind} {repository}: not found")
        return commit_of(repository)


def commit_of(repository: str) -> str:
    """The made-up commit of a repository."""
    return repository.encode().hex().rjust(40, "a")[-40:]


A, B, JUDGE = (commit_of(name) for name in ("o/a", "o/b", "o/judge"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A grid's folder with nothing to pin."""
    (tmp_path / "grid.yaml").write_text("seeds: [0]\ntokenizer: {builtin: arithmetic}\n")
    return tmp_path


def pinned(folder: Path, text: str, name: str = "models.yaml") -> str:
    """The text of one file after pinning."""
    (folder / name).write_text(text)
    pin.pin(folder, Hub())
    return (folder / name).read_text()


# ---- one file ----

# In each text, [before|after] shows what is written; A, B and JUDGE stand for commits.
CASES = {
    "a block entry": "a:\n  hub: o/a\n  revision: [main|A]\n  n: 1\n",
    "a flow entry": "a: {hub: o/a, revision: [main|A], n: 1}\n",
    "in quotes": "a: {hub: 'o/a', revision: [\"main\"|A]}\n",
    "no revision in a block": "a:\n  hub: o/a[|\n  revision: A]\n  n: 1\n",
    "no revision in a flow": "a: {hub: o/a[|, revision: A], n: 1}\n",
    "no revision, the last line": "a:\n  hub: o/a[|\n  revision: A]",
    "no revision, a comment behind": "a:\n  hub: o/a  # why[|\n  revision: A]\n  n: 1\n",
    "comments stay": "# top\na:  # entry\n  hub: o/a\n  revision: [main|A]  # why\n",
    "one inside another": "a:\n  data: {hub: o/a, revision: [main|A]}\n",
    "a merged repository": "a: &a {hub: o/a, revision: [main|A]}\nb: {<<: *a, n: 1}\n",
    "a merged revision is another repository's": (
        "a: &a {hub: o/a, revision: [main|A]}\nb: {<<: *a, hub: o/b[|, revision: B]}\n"
    ),
    "a merged commit is another repository's": (
        f"a: &a {{hub: o/a, revision: {OTHER}}}\nb: {{<<: *a, hub: o/b[|, revision: B]}}\n"
    ),
    "a revision to a merged repository": (
        f"a: &a {{hub: o/a, revision: {OTHER}}}\nb: {{<<: *a, revision: [main|A]}}\n"
    ),
    "a merge of a merge": (
        "a: &a {hub: o/a, revision: [main|A]}\nb: &b {<<: *a, n: 1}\n"
        "c: {<<: *b, hub: o/b[|, revision: B]}\n"
    ),
    "an alias is pinned once": "a: &a {hub: o/a, revision: [main|A]}\nb: *a\n",
    "a list of merges": (
        "a: &a {n: 1}\nb: &b {hub: o/b, revision: [main|B]}\n"
        "c: {<<: [*a, *b], revision: [main|B]}\n"
    ),
}
JUDGE_CASES = {
    "a main": "backend: hf\nmodel: o/judge\nrevision: [main|JUDGE]\n",
    "none": "backend: vllm\nmodel: o/judge  # why[|\nrevision: JUDGE]\n",
    "in one line": "{backend: hf, model: o/judge[|, revision: JUDGE]}\n",
    "a commit": f"backend: hf\nmodel: o/judge\nrevision: {OTHER}\n",
    "a server": "backend: openai\nmodel: o/judge\nbase_url: http://127.0.0.1/v1\n",
    "no judge": "backend: none\n",
}


def sides(case: str) -> tuple[str, str]:
    """The text of a case before pinning, and after it."""
    change = r"\[([^]|]*)\|([^]]*)\]"
    commits = {"A": A, "B": B, "JUDGE": JUDGE}

    def after(match: re.Match[str]) -> str:
        return re.sub(r"\b(A|B|JUDGE)\b", lambda name: commits[name[0]], match[2])

    return re.sub(change, r"\1", case), re.sub(change, after, case)


UNCHANGED = {
    "a commit": f"a: {{hub: o/a, revision: {COMMIT}}}\n",
    "a tag": "a: {hub: o/a, revision: v1.0}\n",
    "a local folder": "a: {kind: path, path: main}\n",
    "main elsewhere": "# revision: main\na: {label: main}\n",
    "an empty file": "",
}


@pytest.mark.parametrize("case", CASES)
def test_main_becomes_a_commit_and_the_rest_stays(folder: Path, case: str) -> None:
    before, after = sides(CASES[case])
    assert pinned(folder, before) == after
    assert pinned(folder, after) == after


@pytest.mark.parametrize("case", UNCHANGED)
def test_other_revisions_stay(folder: Path, case: str) -> None:
    hub = Hub()
    (folder / "models.yaml").write_text(UNCHANGED[case])
    assert pin.pin(folder, hub) == [] == hub.queries
    assert (folder / "models.yaml").read_text() == UNCHANGED[case]


def test_a_commit_that_looks_like_a_number_is_put_in_quotes(folder: Path) -> None:
    (folder / "models.yaml").write_text("a: {hub: o/a, revision: main}\n")
    pin.pin(folder, lambda kind, repository, revision: "1" * 40)
    entry = yaml.safe_load((folder / "models.yaml").read_text())["a"]
    assert entry == {"hub": "o/a", "revision": "1" * 40}


# ---- all files ----


def test_each_file_has_its_kind_and_each_repository_is_resolved_once(folder: Path) -> None:
    for name, text in {
        "grid": "tokenizer: {hub: o/model, revision: main}\n",
        "models": TWO_MODELS.replace("o/a", "o/model").replace("o/b", "o/model"),
        "sources": "a: {hub: o/rows, revision: main}\n",
        "benchmarks": "a:\n  data: {hub: o/problems, revision: main}\n",
        "judge": "backend: hf\nmodel: o/judge\nrevision: main\n",
    }.items():
        (folder / f"{name}.yaml").write_text(text)
    hub = Hub()
    lines = pin.pin(folder, hub)
    assert sorted(hub.queries) == [
        ("dataset", "o/problems", "main"),
        ("dataset", "o/rows", "main"),
        ("model", "o/judge", "main"),
        ("model", "o/model", "main"),
    ]
    files = [line.split(".yaml:")[0] for line in lines]
    assert files == ["benchmarks", "grid", "judge", "models", "models", "sources"]
    assert lines[0] == f"benchmarks.yaml: a.data: o/problems is pinned to {commit_of('o/problems')}"


@pytest.mark.parametrize("case", JUDGE_CASES)
def test_a_judge_is_pinned_if_the_job_loads_it(folder: Path, case: str) -> None:
    before, after = sides(JUDGE_CASES[case])
    assert pinned(folder, before, "judge.yaml") == after


def test_a_judge_of_a_preset_is_written_out_unless_the_preset_is_pinned(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    preset = yaml.safe_load((JUDGES / "paper.yaml").read_text())
    text = "backend: hf\npreset: paper\n"
    monkeypatch.setattr(pin, "judge_settings", lambda folder, given: {**preset, **given})
    preset["revision"] = OTHER
    assert pinned(folder, text, "judge.yaml") == text
    preset["revision"] = "main"
    lines = f"model: {preset['model']}\nrevision: {commit_of(preset['model'])}\n"
    assert pinned(folder, text, "judge.yaml") == f"backend: hf\n{lines}preset: paper\n"


def test_a_judge_in_a_local_folder_stays(folder: Path) -> None:
    (folder / "judge").mkdir()
    text = f"backend: hf\nmodel: {folder / 'judge'}\n"
    assert pinned(folder, text, "judge.yaml") == text


def test_a_repository_that_cannot_be_pinned_is_named_and_the_rest_is_pinned(folder: Path) -> None:
    (folder / "models.yaml").write_text(TWO_MODELS)
    with pytest.raises(InputError, match=r"could not be pinned:\nmodel o/a: not found$"):
        pin.pin(folder, Hub("o/a"))
    expected = f"a: {{hub: o/a, revision: main}}\nb: {{hub: o/b, revision: {B}}}\n"
    assert (folder / "models.yaml").read_text() == expected


# ---- the command ----


def test_without_the_hub_there_is_one_message_and_no_change(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "models.yaml").write_text(TWO_MODELS)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    assert pin.main([str(folder)]) == 1
    message = capsys.readouterr().err
    assert message.startswith("error: model o/b@main: cannot be had from the hub (")
    assert "HF_ENDPOINT" in message and message.count("\n") == 1
    assert (folder / "models.yaml").read_text() == TWO_MODELS


def test_a_folder_that_is_no_grid_is_one_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pin.main([str(tmp_path)]) == 1
    message = f"error: {tmp_path}: no grid.yaml; expected a grid's folder, such as config/paper\n"
    assert capsys.readouterr().err == message


def test_the_command_prints_what_it_pinned(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "models.yaml").write_text("a: {hub: o/a, revision: main}\n")
    monkeypatch.setattr(pin, "on_the_hub", Hub())
    for line in (f"models.yaml: a: o/a is pinned to {A}", f"{folder}: everything is pinned"):
        assert pin.main([str(folder)]) == 0
        assert capsys.readouterr().out == f"{line}\n"


# ---- the warning ----


def test_unpinned_repositories_are_named_by_file_and_key(demo: dict[str, Any]) -> None:
    assert unpinned(demo) == []
    demo["judge"] = {"backend": "openai", "model": "o/judge", "base_url": "http://127.0.0.1/v1"}
    assert unpinned(demo) == [], "a judge on a server"
    demo["judge"] = {"backend": "hf", "model": "o/judge", "size": "tiny"}
    demo["tokenizer"] = {"hub": "o/tokenizer"}
    for name, revision in (("new", "main"), ("old", COMMIT), ("tagged", "v1")):
        demo["models"][name] = {"kind": "hub", "hub": "o/a", "revision": revision}
    demo["sources"]["new"] = {"hub": "o/b"}
    demo["benchmarks"]["new"] = {"data": {"hub": "o/c", "revision": "main"}}
    matches = [re.match(r"(.*): (\S+) is not pinned", line) for line in unpinned(demo)]
    assert [match and match.groups() for match in matches] == [
        ("grid.yaml: tokenizer", "o/tokenizer"),
        ("models.yaml: new", "o/a"),
        ("sources.yaml: new", "o/b"),
        ("benchmarks.yaml: new.data", "o/c"),
        ("judge.yaml: judge", "o/judge"),
    ]


def test_pinning_leaves_nothing_of_the_paper_unpinned(tmp_path: Path, repository: Path) -> None:
    shutil.copytree(repository / "config" / "paper", tmp_path / "paper")
    before = load_grid("paper", root=tmp_path)
    pin.pin(tmp_path / "paper", Hub())
    after = load_grid("paper", root=tmp_path)
    assert unpinned(before) and unpinned(after) == []
    for kind in ("models", "sources"):
        for name, entry in after[kind].items():
            if "hub" in entry:
                revision = before[kind][name].get("revision")
                expected = commit_of(entry["hub"]) if revision == "main" else revision
                assert entry["revision"] == expected, name

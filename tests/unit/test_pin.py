"""pin: every `main` becomes a commit, in place, and nothing else in the files changes."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from gapgrid import config
from gapgrid.commands import pin
from gapgrid.records import InputError

COMMIT = "0123456789abcdef0123456789abcdef01234567"
OTHER = "f" * 40
Resolve = Callable[[str, str, str], str]


class Hub:
    """A made-up hub: the commit of a repository is its id, padded; it keeps what it was asked."""

    def __init__(self, *missing: str) -> None:
        self.asked: list[tuple[str, str, str]] = []
        self.missing = missing

    def __call__(self, kind: str, repository: str, revision: str) -> str:
        self.asked.append((kind, repository, revision))
        if repository in self.missing:
            raise InputError(f"{kind} {repository}: not found")
        return commit_of(repository)


def commit_of(repository: str) -> str:
    """The made-up commit of a repository."""
    return repository.encode().hex().rjust(40, "a")[-40:]


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

A, B = commit_of("o/a"), commit_of("o/b")

CASES = {
    "a block entry": ("a:\n  hub: o/a\n  revision: main\n  n: 1\n", f"a:\n  hub: o/a\n  revision: {A}\n  n: 1\n"),
    "a flow entry": ("a: {hub: o/a, revision: main, n: 1}\n", f"a: {{hub: o/a, revision: {A}, n: 1}}\n"),
    "in quotes": ("a: {hub: 'o/a', revision: \"main\"}\n", f"a: {{hub: 'o/a', revision: {A}}}\n"),
    "no revision in a block": ("a:\n  hub: o/a\n  n: 1\n", f"a:\n  hub: o/a\n  revision: {A}\n  n: 1\n"),
    "no revision in a flow": ("a: {hub: o/a, n: 1}\n", f"a: {{hub: o/a, revision: {A}, n: 1}}\n"),
    "no revision, the last line": ("a:\n  hub: o/a", f"a:\n  hub: o/a\n  revision: {A}"),
    "no revision, a comment behind": ("a:\n  hub: o/a  # why\n  n: 1\n", f"a:\n  hub: o/a  # why\n  revision: {A}\n  n: 1\n"),
    "comments stay": (
        "# top\na:  # entry\n  hub: o/a\n  revision: main  # why\n",
        f"# top\na:  # entry\n  hub: o/a\n  revision: {A}  # why\n",
    ),
    "one inside another": ("a:\n  data: {hub: o/a, revision: main}\n", f"a:\n  data: {{hub: o/a, revision: {A}}}\n"),
    "a merged repository": (
        "a: &a {hub: o/a, revision: main}\nb: {<<: *a, n: 1}\n",
        f"a: &a {{hub: o/a, revision: {A}}}\nb: {{<<: *a, n: 1}}\n",
    ),
    "a merged revision is another repository's": (
        "a: &a {hub: o/a, revision: main}\nb: {<<: *a, hub: o/b}\n",
        f"a: &a {{hub: o/a, revision: {A}}}\nb: {{<<: *a, hub: o/b, revision: {B}}}\n",
    ),
    "a merged commit is another repository's": (
        f"a: &a {{hub: o/a, revision: {OTHER}}}\nb: {{<<: *a, hub: o/b}}\n",
        f"a: &a {{hub: o/a, revision: {OTHER}}}\nb: {{<<: *a, hub: o/b, revision: {B}}}\n",
    ),
    "a revision to a merged repository": (
        f"a: &a {{hub: o/a, revision: {OTHER}}}\nb: {{<<: *a, revision: main}}\n",
        f"a: &a {{hub: o/a, revision: {OTHER}}}\nb: {{<<: *a, revision: {A}}}\n",
    ),
    "an alias is pinned once": ("a: &a {hub: o/a, revision: main}\nb: *a\n", f"a: &a {{hub: o/a, revision: {A}}}\nb: *a\n"),
    "a list of merges": (
        "a: &a {n: 1}\nb: &b {hub: o/b, revision: main}\nc: {<<: [*a, *b], revision: main}\n",
        f"a: &a {{n: 1}}\nb: &b {{hub: o/b, revision: {B}}}\nc: {{<<: [*a, *b], revision: {B}}}\n",
    ),
}
LEFT_ALONE = {
    "a commit": f"a: {{hub: o/a, revision: {COMMIT}}}\n",
    "a tag": "a: {hub: o/a, revision: v1.0}\n",
    "a local folder": "a: {kind: path, path: main}\n",
    "main elsewhere": "# revision: main\na: {label: main}\n",
    "an empty file": "",
}


@pytest.mark.parametrize("case", CASES)
def test_main_becomes_a_commit_and_the_rest_stays(folder: Path, case: str) -> None:
    before, after = CASES[case]
    assert pinned(folder, before) == after
    assert pinned(folder, after) == after


@pytest.mark.parametrize("case", LEFT_ALONE)
def test_what_is_no_main_is_left_alone(folder: Path, case: str) -> None:
    hub = Hub()
    (folder / "models.yaml").write_text(LEFT_ALONE[case])
    assert pin.pin(folder, hub) == []
    assert (folder / "models.yaml").read_text() == LEFT_ALONE[case]
    assert hub.asked == []


def test_a_commit_that_looks_like_a_number_is_put_in_quotes(folder: Path) -> None:
    (folder / "models.yaml").write_text("a: {hub: o/a, revision: main}\n")
    pin.pin(folder, lambda kind, repository, revision: "1" * 40)
    assert yaml.safe_load((folder / "models.yaml").read_text()) == {"a": {"hub": "o/a", "revision": "1" * 40}}


# ---- all files ----


def test_each_file_asks_for_its_kind_and_each_repository_is_asked_once(folder: Path) -> None:
    (folder / "grid.yaml").write_text("tokenizer: {hub: o/model, revision: main}\n")
    (folder / "models.yaml").write_text("a: {hub: o/model, revision: main}\nb: {hub: o/model, revision: main}\n")
    (folder / "sources.yaml").write_text("a: {hub: o/rows, revision: main}\n")
    (folder / "benchmarks.yaml").write_text("a:\n  data: {hub: o/problems, revision: main}\n")
    (folder / "judge.yaml").write_text("backend: hf\nmodel: o/judge\nrevision: main\n")
    hub = Hub()
    done = pin.pin(folder, hub)
    assert sorted(hub.asked) == sorted(
        [("model", "o/model", "main"), ("dataset", "o/rows", "main"), ("dataset", "o/problems", "main"), ("model", "o/judge", "main")]
    )
    assert [line.split(":")[0] for line in done] == [
        "benchmarks.yaml",
        "grid.yaml",
        "judge.yaml",
        "models.yaml",
        "models.yaml",
        "sources.yaml",
    ]
    assert f"benchmarks.yaml: a.data: o/problems is pinned to {commit_of('o/problems')}" in done
    assert yaml.safe_load((folder / "judge.yaml").read_text())["revision"] == commit_of("o/judge")


JUDGE = commit_of("o/judge")
PRESET = yaml.safe_load((config.JUDGES / "paper.yaml").read_text())
JUDGE_CASES = {
    "a main": ("backend: hf\nmodel: o/judge\nrevision: main\n", f"backend: hf\nmodel: o/judge\nrevision: {JUDGE}\n"),
    "none": ("backend: vllm\nmodel: o/judge  # why\n", f"backend: vllm\nmodel: o/judge  # why\nrevision: {JUDGE}\n"),
    "in one line": ("{backend: hf, model: o/judge}\n", f"{{backend: hf, model: o/judge, revision: {JUDGE}}}\n"),
    "a commit": (f"backend: hf\nmodel: o/judge\nrevision: {OTHER}\n", f"backend: hf\nmodel: o/judge\nrevision: {OTHER}\n"),
    "a server": ("backend: openai\nmodel: o/judge\nbase_url: http://127.0.0.1/v1\n",) * 2,
    "no judge": ("backend: none\n",) * 2,
}


@pytest.mark.parametrize("case", JUDGE_CASES)
def test_a_judge_is_pinned_if_the_job_loads_it(folder: Path, case: str) -> None:
    before, after = JUDGE_CASES[case]
    assert pinned(folder, before, "judge.yaml") == after


def test_a_judge_of_a_preset_is_written_out(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pin, "judge_settings", lambda folder, given: {**PRESET, "revision": "main", **given})
    lines = f"model: {PRESET['model']}\nrevision: {commit_of(PRESET['model'])}\n"
    assert pinned(folder, "backend: hf\npreset: paper\n", "judge.yaml") == f"backend: hf\n{lines}preset: paper\n"


def test_a_preset_that_is_pinned_needs_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pin, "judge_settings", lambda folder, given: {**PRESET, "revision": OTHER, **given})
    assert pinned(folder, "backend: hf\npreset: paper\n", "judge.yaml") == "backend: hf\npreset: paper\n"


def test_a_judge_in_a_local_folder_is_left_alone(folder: Path) -> None:
    (folder / "judge").mkdir()
    text = f"backend: hf\nmodel: {folder / 'judge'}\n"
    assert pinned(folder, text, "judge.yaml") == text


def test_what_cannot_be_pinned_is_named_and_the_others_are_pinned(folder: Path) -> None:
    (folder / "models.yaml").write_text("a: {hub: o/a, revision: main}\nb: {hub: o/b, revision: main}\n")
    with pytest.raises(InputError, match=r"could not be pinned:\nmodel o/a: not found$"):
        pin.pin(folder, Hub("o/a"))
    assert (folder / "models.yaml").read_text() == f"a: {{hub: o/a, revision: main}}\nb: {{hub: o/b, revision: {B}}}\n"


def test_no_hub_is_one_message_and_changes_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "models.yaml").write_text("a: {hub: o/a, revision: main}\nb: {hub: o/b, revision: main}\n")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    assert pin.main([str(folder)]) == 1
    message = capsys.readouterr().err
    assert message.startswith("error: model o/b@main: cannot be had from the hub (")
    assert "HF_ENDPOINT" in message
    assert message.count("\n") == 1
    assert COMMIT not in (folder / "models.yaml").read_text()


def test_a_folder_that_is_no_grid_is_one_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert pin.main([str(tmp_path)]) == 1
    assert capsys.readouterr().err == f"error: {tmp_path}: no grid.yaml; expected a grid's folder, such as config/paper\n"


def test_main_says_what_it_pinned(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "models.yaml").write_text("a: {hub: o/a, revision: main}\n")
    monkeypatch.setattr(pin, "on_the_hub", Hub())
    assert pin.main([str(folder)]) == 0
    assert capsys.readouterr().out == f"models.yaml: a: o/a is pinned to {A}\n"
    assert pin.main([str(folder)]) == 0
    assert capsys.readouterr().out == f"{folder}: everything is pinned\n"


# ---- the warning ----


def test_a_grid_with_nothing_from_the_hub_has_nothing_unpinned(demo: dict[str, Any]) -> None:
    assert pin.unpinned(demo) == []


def test_what_is_unpinned_is_named_by_file_key_and_repository(demo: dict[str, Any]) -> None:
    demo["tokenizer"] = {"hub": "o/tokenizer"}
    demo["models"]["new"] = {"kind": "hub", "hub": "o/a", "revision": "main"}
    demo["models"]["old"] = {"kind": "hub", "hub": "o/a", "revision": COMMIT}
    demo["models"]["tagged"] = {"kind": "hub", "hub": "o/a", "revision": "v1"}
    demo["sources"]["new"] = {"hub": "o/b"}
    demo["benchmarks"]["new"] = {"data": {"hub": "o/c", "revision": "main"}}
    demo["judge"] = {"backend": "hf", "model": "o/judge", "size": "tiny"}
    found = [re.match(r"(.*): (\S+) is not pinned", line) for line in pin.unpinned(demo)]
    assert [match and match.groups() for match in found] == [
        ("grid.yaml: tokenizer", "o/tokenizer"),
        ("models.yaml: new", "o/a"),
        ("sources.yaml: new", "o/b"),
        ("benchmarks.yaml: new.data", "o/c"),
        ("judge.yaml: judge", "o/judge"),
    ]


def test_a_judge_on_a_server_needs_no_pin(demo: dict[str, Any]) -> None:
    demo["judge"] = {"backend": "openai", "model": "o/judge", "base_url": "http://127.0.0.1/v1"}
    assert pin.unpinned(demo) == []


def test_pinning_leaves_nothing_of_the_paper_unpinned(tmp_path: Path, repository: Path) -> None:
    shutil.copytree(repository / "config" / "paper", tmp_path / "paper")
    before = config.load("paper", root=tmp_path)
    pin.pin(tmp_path / "paper", Hub())
    after = config.load("paper", root=tmp_path)
    assert pin.unpinned(before)
    assert pin.unpinned(after) == []
    for section in ("models", "sources"):
        for name, entry in after[section].items():
            if "hub" not in entry:
                continue
            known = before[section][name].get("revision")
            assert entry["revision"] == (commit_of(entry["hub"]) if known == "main" else known), name

"""Killed runs, full disks, two runs at once, altered stores: nothing is lost or faked."""

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gapgrid.core.records import sha256_file
from tests.workflow.conftest import REPOSITORY, SNAKEMAKE, Project

STUB = Path(__file__).parent / "stub"
VOLATILE = ("metrics.jsonl",)  # tokens per second differ from run to run


def fingerprint(project: Project) -> dict[str, str]:
    """Every result's digest but of stores and of the grid page, which shows times and logs."""
    root = project.result("")
    files = [
        file
        for file in root.rglob("*")
        if file.is_file() and file.suffix != ".sqlite" and file.name not in VOLATILE
    ]
    return {
        name: sha256_file(file)
        for file in files
        if not (name := file.relative_to(root).as_posix()).startswith(("grid.html", "cells/"))
    }


def start(project: Project) -> subprocess.Popen[str]:
    return subprocess.Popen(
        project.command(),
        cwd=project.folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )


def kill(run: subprocess.Popen[str]) -> None:
    """The whole session at once, as a power cut would."""
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()


@pytest.mark.parametrize("seed", [1, 2])
def test_killed_anywhere_ends_with_the_same_bytes(
    built_once: Project, tmp_path: Path, seed: int
) -> None:
    project = Project.create(tmp_path / "project", "stub", STUB)
    n_manifests = len(list(built_once.result("").rglob("*manifest.json")))
    random_moments = random.Random(seed)
    for moment in sorted(random_moments.uniform(0.05, 0.9) * n_manifests for _ in range(3)):
        run = start(project)
        while run.poll() is None and len(list(project.result("").rglob("*manifest.json"))) < moment:
            time.sleep(0.02)
        assert run.poll() is None, "the run ended before it could be killed"
        kill(run)
        project.snakemake("--unlock")
    assert project.snakemake().returncode == 0
    assert project.is_done()
    assert fingerprint(project) == fingerprint(built_once)
    assert not list(project.result("").rglob("*.part")), "a side file was left"


def test_two_runs_at_once(built_once: Project, tmp_path: Path) -> None:
    project = Project.create(tmp_path / "project", "stub", STUB)
    first = start(project)
    deadline = time.monotonic() + 30
    while not project.path("results/stub").exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    second = project.snakemake()
    assert second.returncode != 0
    assert "cannot be locked" in second.stdout + second.stderr
    first.wait(timeout=300)
    assert first.returncode == 0
    assert fingerprint(project) == fingerprint(built_once)


def small_files() -> None:
    """In the child: no file may grow past 900 bytes, which is how a full disk looks to a writer."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (900, 900))


STAGES = {
    "source": ["sources/short/rows.jsonl"],
    "mix": ["mixes/mixed/train.jsonl"],
    "problems": ["problems/hard/problems.jsonl"],
    "evaluate": ["evaluate/small/mixed/0/manifest.json", "evaluate/small/mixed/0/responses"],
    "grade": ["grade/small/mixed/0/hard/samples.jsonl"],
    "score": ["score/small/mixed/0/hard/verdicts.jsonl"],
    "table": ["tables/gap.csv"],
    "figure": ["figures/gap.pdf"],
}


@pytest.mark.parametrize("stage", STAGES)
def test_full_disk_in_a_stage(built: Project, stage: str) -> None:
    """The job fails with one message, and the next run ends with the same bytes."""
    before = fingerprint(built)
    target = built.result(STAGES[stage][0])
    for name in STAGES[stage]:
        path = built.result(name)
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    name = str(target.relative_to(built.folder))
    failed = built.snakemake("--", name, preexec_fn=small_files)
    assert failed.returncode != 0
    assert not target.exists()
    report = (
        failed.stdout
        + failed.stderr
        + "".join(log.read_text() for log in built.path("logs/stub").rglob("*.log"))
    )
    assert "File too large" in report or "disk" in report
    assert built.snakemake("--", name).returncode == 0
    assert built.snakemake().returncode == 0
    assert built.is_done()
    assert fingerprint(built) == before


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_really_full_file_system(built_once: Project, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=60k", "tmpfs", str(disk)],
        check=False,
        capture_output=True,
    ).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        spec = built_once.json("sources/corpus/manifest.json")["spec"]
        spec["source"]["builtin"]["rows"] = 2000
        files = [str(disk / "rows.jsonl"), str(disk / "manifest.json")]
        command = [
            sys.executable,
            "-m",
            "gapgrid.stages.source",
            "--spec",
            json.dumps(spec),
            *files,
        ]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        assert done.returncode == 1
        assert "No space left on device" in done.stderr and "Traceback" not in done.stderr
        assert list(disk.iterdir()) == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_missing_store_names_the_command_that_rebuilds_it(built: Project) -> None:
    shutil.rmtree(built.result("evaluate/small/short/0/responses"))
    built.result("grade/small/short/0/easy/samples.jsonl").unlink()
    failed = built.snakemake()
    log = built.log("grade/small/short/0/easy")
    assert failed.returncode != 0
    batch = "results/stub/evaluate/small/short/0/manifest.json"
    assert "no such response store" in log and f"snakemake --forcerun {batch} -- {batch}" in log
    assert built.snakemake("--forcerun", batch, "--", batch).returncode == 0
    assert built.snakemake().returncode == 0
    assert built.is_done()


def test_altered_store_is_noticed(built: Project) -> None:
    import sqlite3

    store = next(built.result("evaluate/small/short/0/responses").glob("*.sqlite"))
    with sqlite3.connect(store) as connection:
        connection.execute("update answers set response = 'Final Answer: \\boxed{ 1 }'")
    connection.close()
    built.result("grade/small/short/0/easy/samples.jsonl").unlink()
    assert built.snakemake().returncode != 0
    assert "differ from the batch manifest's checksum" in built.log("grade/small/short/0/easy")
    verified = built.gapgrid("verify")
    assert verified.returncode == 1
    assert "answers of easy differ from the batch manifest" in verified.stdout


def test_lost_verdicts_name_the_command(built: Project) -> None:
    built.result("judge/verdicts.sqlite").unlink()
    built.result("score/small/mixed/0/hard/score.json").unlink()
    assert built.snakemake().returncode != 0
    batch = "results/stub/judge/round.json"
    assert f"snakemake --forcerun {batch} -- {batch}" in built.log("score/small/mixed/0/hard")
    assert built.snakemake("--forcerun", batch, "--", batch).returncode == 0
    assert built.snakemake().returncode == 0
    assert built.is_done()


def test_verify(built: Project) -> None:
    fine = built.gapgrid("verify")
    assert fine.returncode == 0, fine.stdout
    assert ", 0 problems, 0 of the grid not built yet" in fine.stdout
    with built.result("grade/small/mixed/0/hard/graded.jsonl").open("a") as file:
        file.write("{}\n")
    built.result("mixes/mixed/card.json").unlink()
    found = built.gapgrid("verify")
    assert found.returncode == 1
    assert "graded.jsonl: sha256" in found.stdout and "card.json: missing" in found.stdout
    assert ", 2 problems, " in found.stdout


def test_verify_sees_what_snakemake_cannot(built: Project) -> None:
    """Without its own records Snakemake misses a changed setting; the manifests do not."""
    shutil.rmtree(built.path(".snakemake"))
    built.edit("recipes", lambda document: document["sft"].update(learning_rate=0.5))
    assert built.is_done()
    found = built.gapgrid("verify")
    assert found.returncode == 1
    assert (
        "train/small/mixed/0/manifest.json: made under another configuration: recipe.learning_rate "
        in found.stdout
    )


def bad_source(project: Project, lines: list[bytes]) -> None:
    project.path("mine.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    project.edit("sources", lambda document: document.update(long={"path": "mine.jsonl"}))


def test_bad_training_rows_name_file_and_line(built: Project) -> None:
    good = b'{"id": "p00000", "prompt": "1 + 1 ?", "response": "2"}'
    bad_source(
        built,
        [good, b'{"id": "b", "prompt": "x"}', b'{"id": "c", "prompt": "x", "response": " "}', good],
    )
    assert built.snakemake().returncode != 0
    log = built.log("source/long")
    assert "mine.jsonl:2: no column 'response'" in log
    assert "mine.jsonl:3: empty response" in log
    assert "mine.jsonl:4: id 'p00000' was already used at mine.jsonl:1" in log
    bad_source(built, [good, b'{"id": "b", "prompt": "\xff", "response": "y"}'])
    assert built.snakemake().returncode != 0
    assert "mine.jsonl:2: invalid UTF-8" in built.log("source/long")


def test_wrong_row_count_of_a_benchmark(built: Project) -> None:
    built.path("mine.jsonl").write_text('{"problem": "1 + 1 ?", "answer": "2"}\n')
    built.edit("benchmarks", lambda document: document["easy"].update(data={"path": "mine.jsonl"}))
    assert built.snakemake().returncode != 0
    assert "mine.jsonl: 1 rows, expected 10 (rows in benchmarks.yaml)" in built.log("problems/easy")


def test_model_folder_without_config(built: Project) -> None:
    built.path("folder").mkdir()
    entry = {"kind": "path", "path": "folder", "family": "x", "params_b": 1}
    entry |= {"recipe": "sft", "size": "tiny"}
    built.edit("models", lambda document: document.update(mine=entry))
    failed = built.snakemake("-n")
    assert failed.returncode != 0
    assert (
        "config/stub/models.yaml: mine.path: folder holds no config.json"
        in failed.stdout + failed.stderr
    )


def test_all_mistakes_of_the_configuration_at_once(built: Project) -> None:
    built.edit("mixes", lambda document: document["mixed"].update(parts={"long": 0.1, "shrt": 0.8}))
    built.edit("models", lambda document: document["small"].update(recipe="stf"))
    failed = built.snakemake("-n")
    report = failed.stdout + failed.stderr
    assert failed.returncode != 0 and "Traceback" not in report
    assert "mixes.yaml: mixed.parts: shares sum to 0.9, expected 1" in report
    assert "'shrt' is not in sources.yaml (did you mean 'short'?)" in report
    assert "'stf' is not in recipes.yaml (did you mean 'sft'?)" in report


def test_unknown_grid() -> None:
    done = subprocess.run(
        [SNAKEMAKE, "-n", "--config", "grid=dmeo"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "config/dmeo: no such grid (did you mean 'demo'?)" in done.stdout + done.stderr


def test_too_little_disk_stops_before_the_first_job(tmp_path: Path) -> None:
    project = Project.create(tmp_path / "project", "stub", Path(__file__).parent / "stub")
    project.edit("models", lambda document: document["large"].update(params_b=1e6))
    done = project.snakemake()
    assert done.returncode != 0
    assert "students to train need about" in done.stderr and "Traceback" not in done.stderr
    assert not list(project.result("").rglob("manifest.json"))
    assert project.plan()  # a plan asks for no room

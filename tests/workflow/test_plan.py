"""Planning: which cells, without torch, and every grid of the repository."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.workflow.conftest import REPOSITORY, SNAKEMAKE

HEAVY = ("torch", "transformers", "datasets", "lm_eval", "peft", "trl", "math_verify")


def plan(grid: str, tmp_path: Path, **environment: str) -> str:
    """The dry run of a grid with no results, whatever the repository holds."""
    command = [SNAKEMAKE, "-n", "--config", f"grid={grid}", f"results={tmp_path}"]
    done = subprocess.run(
        command,
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout + done.stderr


def counts(output: str) -> dict[str, int]:
    lines = output.split("Job stats:")[1].splitlines()[3:]
    return {
        name: int(number) for name, number in (line.split() for line in lines[: lines.index("")])
    }


def test_demo_plan_counts_and_imports(tmp_path: Path) -> None:
    watch = tmp_path / "sitecustomize.py"
    seen = tmp_path / "modules.json"
    watch.write_text(
        "import atexit, json, pathlib, sys\n"
        f"seen = pathlib.Path({str(seen)!r})\n"
        "atexit.register(lambda: seen.write_text(json.dumps(sorted(sys.modules))))\n"
    )
    found = counts(plan("demo", tmp_path / "results", PYTHONPATH=str(tmp_path)))
    modules = set(json.loads(seen.read_text()))
    assert "snakemake" in modules and "gapgrid.grid.specs" in modules
    assert not modules & set(HEAVY)
    models, mixes, benchmarks = 4, 3, 3
    cells = models * (mixes + 1) * benchmarks
    assert (
        found["base"] == models
        and found["train"] == models * mixes
        and found["evaluate"] == models * (mixes + 1)
    )
    assert found["grade"] == found["score"] == found["request"] == cells
    assert found["judge"] == 1


@pytest.mark.parametrize(
    "grid", sorted(folder.name for folder in (REPOSITORY / "config").iterdir() if folder.is_dir())
)
def test_every_grid_plans_the_cells_of_its_experiments(grid: str, tmp_path: Path) -> None:
    """Counted from the YAML by hand here, independently of the module that decides."""
    documents = {
        name: yaml.safe_load((REPOSITORY / f"config/{grid}/{name}.yaml").read_text())
        for name in ("grid", "models", "mixes")
    }
    documents |= {
        name: yaml.safe_load((REPOSITORY / f"config/{grid}/{name}.yaml").read_text())
        for name in ("benchmarks", "experiments")
    }
    cells = set()
    for entry in documents["experiments"].values():
        if entry.get("awaits_data"):  # of no grid here are the data there
            continue
        listed = {
            key: list(documents[key]) if entry[key] == "all" else entry[key]
            for key in ("models", "mixes", "benchmarks")
        }
        for model in listed["models"]:
            for mix in listed["mixes"]:
                one_state = mix == "none" and documents["models"][model]["kind"] != "tiny"
                for seed in [0] if one_state else documents["grid"]["seeds"]:
                    cells |= {(model, mix, seed, benchmark) for benchmark in listed["benchmarks"]}
    found = counts(plan(grid, tmp_path / "results"))
    assert found["score"] == len(cells)
    assert found["evaluate"] == len({cell[:3] for cell in cells})
    assert found["train"] == len({cell[:3] for cell in cells if cell[1] != "none"})


def test_interpreter_of_the_plan_runs_the_jobs(tmp_path: Path) -> None:
    """Without an activated environment too: jobs get the interpreter that plans them."""
    bare = {"PATH": "/usr/bin:/bin", "HOME": os.environ.get("HOME", "/tmp")}
    target = f"{tmp_path}/demo/tokenizer/manifest.json"
    done = subprocess.run(
        [
            SNAKEMAKE,
            "-c1",
            "--config",
            "grid=demo",
            f"results={tmp_path}",
            "--nolock",
            "--",
            target,
        ],
        cwd=REPOSITORY,
        env=bare,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert Path(target).is_file() and Path(sys.executable).parent.name == "bin"

"""jobs: every stage has an entry, a grid its jobs, and Snakemake's wildcards give their specs."""

from collections import Counter
from types import SimpleNamespace

import pytest

from gapgrid.core import layout
from gapgrid.grid import jobs
from gapgrid.grid.cells import Grid
from gapgrid.grid.specs import VERSIONS

# 4 students, 4 mixes with `none`, 1 seed, 3 benchmarks, 6 experiments; 2 cells are ranked.
DEMO = {
    "tokenizer": 1,
    "source": 3,
    "mix": 3,
    "problems": 3,
    "selftest": 3,
    "base": 4,
    "train": 12,
    "evaluate": 16,
    "grade": 48,
    "judge": 1,
    "score": 48,
    "audit": 1,
    "table": 6,
    "figure": 4,
    "shift": 2,
    "shift_figure": 1,
    "case": 1,
}


def test_every_stage_has_an_entry() -> None:
    assert jobs.STAGES.keys() == layout.PREFIXES.keys() == VERSIONS.keys()


def test_the_demo_has_its_jobs_each_once_and_in_the_order_of_the_flow(demo: Grid) -> None:
    rows = list(jobs.jobs(demo))
    assert Counter(stage for stage, _, _ in rows) == DEMO
    assert list(dict.fromkeys(stage for stage, _, _ in rows)) == list(DEMO)
    paths = {layout.path(stage, *names) for stage, names, _ in rows}
    assert len(paths) == len(rows)


def test_two_seeds_train_every_student_twice(demo: Grid) -> None:
    demo["seeds"] = [0, 1]
    counts = Counter(stage for stage, _, _ in jobs.jobs(demo))
    assert (counts["base"], counts["train"], counts["grade"]) == (8, 24, 96)
    assert (counts["mix"], counts["judge"], counts["table"]) == (3, 1, 6)


@pytest.mark.parametrize("stage", DEMO)
def test_wildcards_give_the_spec_of_each_job(demo: Grid, stage: str) -> None:
    for job_stage, names, spec in jobs.jobs(demo):
        if job_stage == stage:
            # Snakemake's wildcards are texts, so that the seed has to become a number.
            values = dict(zip(layout.wildcards(stage), map(str, names), strict=True))
            assert jobs.spec_by_wildcards(demo, stage, SimpleNamespace(**values)) == spec


def test_targets_are_files_of_the_grids_jobs(demo: Grid) -> None:
    targets = list(jobs.targets(demo))
    assert len(targets) == len(set(targets)) == 48 + 48 + 1 + 6 * 5 + 4 * 4 + 3 + 1
    assert {"score/xs/long/0/k2/score.json", "audit/audit.html", "cases/case-study.html"} <= {
        *targets
    }
    assert not any(target.startswith("train/") for target in targets)

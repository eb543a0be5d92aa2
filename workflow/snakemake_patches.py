"""Patches for what Snakemake 9.27 decides too early, or only partly.

Exact staleness needs two features that do not go together as they stand: `ancient()` inputs, which
make a job wait for another without re-running because of it, and checkpoints, after which all is
decided again. `tests/workflow/test_snakemake_patches.py` shows that each patch is still needed:
when a test of it fails, the patch can go.
"""

import functools
from collections import defaultdict

from snakemake.dag import DAG


def apply() -> None:
    """Apply the patches, once a process."""
    if not hasattr(DAG, "_gapgrid_patched"):
        DAG._gapgrid_patched = True
        DAG.update_needrun = _ancient_decides_nothing(DAG.update_needrun)
        DAG._ready = _not_before_checkpoints(DAG._ready)


def _ancient_decides_nothing(update_needrun):
    """Decide upon a job by itself if it waits for another through `ancient()` inputs alone.

    Snakemake skips all jobs below one that runs: they will run because their input will be new.
    Jobs that wait through `ancient()` will not, so a changed parameter or a new input of theirs
    went unseen until the next call. And it runs them needlessly while the ancient file is missing
    because its job runs.
    """

    @functools.wraps(update_needrun)
    async def patched(self, *args, **options):
        everything = self.depending
        self.depending = defaultdict(dict)
        for job, waiting in everything.items():
            self.depending[job] = {
                below: files
                for below, files in waiting.items()
                if not all(file.is_ancient for file in files)
            }
        try:
            return await update_needrun(self, *args, **options)
        finally:
            self.depending = everything

    return patched


def _not_before_checkpoints(ready):
    """Hold a job until it is known which jobs above it run.

    What lies below a checkpoint is decided when the checkpoint has run. A judge, a table or a
    grading that changed at the same time would run before that, on old inputs, and not again in
    the same call. A dry run decides nothing more.
    """

    @functools.wraps(ready)
    def patched(self, job):
        return ready(self, job) and (self.workflow.dryrun or not _is_undecided(self, job))

    return patched


def _is_undecided(dag, job):
    above = dag.bfs(dag._dependencies, job, stop=dag.finished)
    return any(_waits_for_checkpoint(dag, other) for other in above)


def _waits_for_checkpoint(dag, job):
    return not dag.finished(job) and any(file.flags.get("checkpoint_target") for file in job.input)

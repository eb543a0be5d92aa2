"""What Snakemake 9.27 decides too early, or by halves, mended for the Snakefile that imports this.

Exact staleness needs two things of it that do not go together as it stands: `ancient()` inputs, which make a job wait
for another without re-running because of it, and checkpoints, after which all is decided upon again. The tests in
`tests/workflow/test_repairs.py` show that each repair is still needed: when one fails, its repair can go.
"""

import functools
from collections import defaultdict

from snakemake.dag import DAG


def mend() -> None:
    """Apply the repairs, once a process."""
    if not hasattr(DAG, "_gapgrid_mended"):
        DAG._gapgrid_mended = True
        DAG.update_needrun = _ancient_decides_nothing(DAG.update_needrun)
        DAG._ready = _not_before_checkpoints(DAG._ready)


def _ancient_decides_nothing(update_needrun):
    """Decide upon a job by itself if it waits for another through `ancient()` inputs alone.

    Snakemake skips all jobs below one that runs: they will run because their input will be new. Those that wait
    through `ancient()` will not, so a changed parameter, or an input that is new and finished by now, went unseen until
    the next call. And it runs them needlessly if the ancient file is just not there, as while its job runs.
    """

    @functools.wraps(update_needrun)
    async def repaired(self, *args, **options):
        everything = self.depending
        self.depending = defaultdict(dict)
        for job, waiting in everything.items():
            self.depending[job] = {below: files for below, files in waiting.items() if not all(file.is_ancient for file in files)}
        try:
            return await update_needrun(self, *args, **options)
        finally:
            self.depending = everything

    return repaired


def _not_before_checkpoints(ready):
    """Hold a job until it is known which jobs above it run.

    What lies below a checkpoint that is to run is decided upon when it has. A judge, a table or a grading changed at
    the same time would run before that, on old inputs, and not again in the same call. A dry run decides nothing more.
    """

    @functools.wraps(ready)
    def repaired(self, job):
        return ready(self, job) and (self.workflow.dryrun or not _is_undecided(self, job))

    return repaired


def _is_undecided(dag, job):
    above = dag.bfs(dag._dependencies, job, stop=dag.finished)
    return any(_waits_for_checkpoint(dag, other) for other in above)


def _waits_for_checkpoint(dag, job):
    return not dag.finished(job) and any(file.flags.get("checkpoint_target") for file in job.input)

"""The executor `gapgrid-slurm`: the stock SLURM plugin with patches. It schedules nothing itself.

Snakemake finds it by its package name; `profiles/slurm` chooses it. Its options are those of the
stock plugin with another prefix (`--gapgrid-slurm-…`) and the few of `ExecutorSettings`. Each patch
has no effect where the stock plugin is right; `tests/slurm/test_patches.py` shows for each one
whether the stock plugin still needs it.
"""

import asyncio
import atexit
import json
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import snakemake_executor_plugin_slurm as stock
from snakemake_interface_common.exceptions import WorkflowError
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor

from .cluster import controller_answers, impossible_requests, read_nodes
from .folder import NoAnswerError, Record, state_of
from .states import Remembered, States

__all__ = ["Executor", "ExecutorSettings", "common_settings"]

common_settings = stock.common_settings
_query_job_status = stock.query_job_status
_get_min_job_age = stock.get_min_job_age
# Calls of Snakemake that run no job: they may be made beside orphaned jobs.
NO_RUN = {
    *("-n", "--dry-run", "--dryrun", "--unlock", "--report", "--lint"),
    *("--summary", "-S", "--rulegraph", "--dag"),
}


def _option(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text, "env_var": False, "required": False})


@dataclass
class ExecutorSettings(stock.ExecutorSettings):
    """The stock plugin's settings and those of the patches."""

    status_command: str = _option(
        "squeue",
        "The command that reports the states of jobs, 'squeue' or 'sacct'. Default: squeue, which "
        "needs no accounting.",
    )
    max_seconds_between_status_checks: int = _option(
        30, "The poll interval grows up to this (the stock plugin: 180 s)."
    )
    preempted_after: int = _option(
        120, "A job that is PREEMPTED for so many seconds is submitted again."
    )
    forgotten_after: int = _option(
        300,
        "A job that SLURM has not listed for so many seconds is over: its outputs decide how it "
        "ended.",
    )
    patience: int = _option(
        3600, "A submission waits so many seconds for a SLURM controller that does not answer."
    )

    def __post_init__(self) -> None:
        """Refuse options of another executor, and orphaned jobs.

        Snakemake creates its settings before it locks the folder, so a run beside orphaned jobs is
        refused here, before it can be stopped by their controller's lock.
        """
        super().__post_init__()
        for argument in sys.argv:
            if argument.startswith("--slurm-") and not argument.startswith("--slurm-jobstep"):
                own = f"--gapgrid-{argument.removeprefix('--')}"
                raise WorkflowError(
                    f"{argument} is an option of another executor; here it is {own}"
                )
        if not NO_RUN & {argument.split("=")[0] for argument in sys.argv}:
            refuse_beside_orphans()


def refuse_beside_orphans(has_lock: bool = False) -> None:
    """Raise `WorkflowError` if jobs of a dead controller still run here, or its lock is left.

    Otherwise two jobs could write the same output. If this process holds the lock itself
    (`has_lock`), it is not a dead controller's.
    """
    try:
        state = state_of(Path.cwd())
        message = (state._replace(is_locked=False) if has_lock else state).message()
    except NoAnswerError as error:
        text = f"cannot find out whether jobs of an earlier run are still running: {error}"
        raise WorkflowError(text) from None
    if message:
        raise WorkflowError(message)


class Executor(stock.Executor):
    """The stock executor, patched: it loses no job, and checks requests before it submits."""

    def __init__(self, workflow: Any, logger: Any) -> None:
        settings = workflow.executor_settings
        self._states = States(settings.preempted_after, settings.forgotten_after)
        self._active: list[str] = []
        self._record: Record | None = None
        # The stock constructor starts the polling thread, so these are set before it. There is one
        # executor a process.
        stock.get_min_job_age = Remembered(_get_min_job_age)
        stock.query_job_status = self._query_job_status
        super().__init__(workflow, logger)

    def __post_init__(self, test_mode: bool = False) -> None:
        if self.workflow.executor_settings.array_jobs:
            # https://github.com/snakemake/snakemake-executor-plugin-slurm/issues/447
            raise WorkflowError(
                "job arrays lose finished outputs (plugin issue 447): leave "
                "--gapgrid-slurm-array-jobs out"
            )
        refuse_beside_orphans(has_lock=True)
        self._check_requests()
        self._record_finished_jobs()
        super().__post_init__(test_mode)
        # Without an account SLURM chooses one. The stock plugin guesses it by a command that
        # always fails.
        self._fallback_account_arg = ""
        self._record = Record.write(Path.cwd(), self.run_uuid, sys.argv[1:])
        atexit.register(self._record.remove)

    def _check_requests(self) -> None:
        """Compare the resources of jobs with those of partitions, before anything is queued."""
        nodes = read_nodes()
        if nodes is None:
            text = "the SLURM controller does not answer (sinfo): try again when it does"
            raise WorkflowError(text)
        requests = [
            (job.rule.name, job.resources, job.threads)
            for job in self.workflow.dag.needrun_jobs()
            if not job.is_local and not job.is_group()
        ]
        problems = impossible_requests(nodes, requests)
        if problems:
            raise WorkflowError("these jobs could never start:\n  " + "\n  ".join(problems))

    def _record_finished_jobs(self) -> None:
        """Record the params of jobs whose controller died before it could.

        A job that ends after its controller leaves good outputs, but no record of its params:
        Snakemake would not notice a later change of them. The manifest holds the spec of the job.
        """
        dag, persistence = self.workflow.dag, self.workflow.persistence
        jobs_to_run = set(dag.needrun_jobs())
        for job in dag.jobs:
            if (
                job in jobs_to_run
                or job.is_local
                or job.is_group()
                or persistence.has_metadata(job)
            ):
                continue
            files = [Path(file) for file in job.output if str(file).endswith(".json")]
            if not files or not files[0].is_file():
                continue
            manifest = files[0]
            spec = json.loads(job.params.get("spec", "null"))
            if json.loads(manifest.read_text()).get("spec") == spec:
                self.workflow.async_run(persistence.finished(job))
            else:
                self.logger.warning(
                    f"{manifest} was made under another configuration; "
                    f"to make it anew: --forcerun {manifest}"
                )

    def run_job(self, job: Any) -> None:
        """Submit a job once slurmctld answers.

        A submission without it fails after 9 s and uses up a retry: three are gone in 40 s.
        """
        deadline = time.monotonic() + self.workflow.executor_settings.patience
        while not controller_answers() and self.wait and time.monotonic() < deadline:
            self.logger.warning("the SLURM controller does not answer; the submission waits")
            time.sleep(5)
        super().run_job(job)

    async def check_active_jobs(self, active_jobs: list[Any]) -> AsyncIterator[Any]:
        """Yield the jobs that are still active, also every job that the stock method drops.

        When all queries of a poll fail, the stock method ends without yielding, and its caller has
        dropped the list: the jobs run on, unknown, and the workflow waits for ever (plugin issue
        207).
        """
        if self._record:
            self._record.touch()
        self._active = [job.external_jobid for job in active_jobs]
        handled: set[int] = set()
        self.report_job_success = _noting(handled, self.report_job_success)
        self.report_job_error = _noting(handled, self.report_job_error)
        try:
            async for job in super().check_active_jobs(active_jobs):
                handled.add(id(job))
                yield job
        finally:
            del self.report_job_success, self.report_job_error
        dropped = [job for job in active_jobs if id(job) not in handled]
        if dropped:
            self.logger.warning(
                f"SLURM does not report the states of {len(dropped)} jobs; they are queried again"
            )
        for job in dropped:
            yield job

    async def _query_job_status(
        self, command: str, logger: Any
    ) -> tuple[dict[str, str] | None, float | None]:
        states, seconds = await _query_job_status(command, logger)
        return (None if states is None else self._states.read(states, self._active)), seconds

    @property
    def next_seconds_between_status_checks(self) -> float:
        """The poll interval: the stock one, bounded by a setting.

        The stock interval grows by 10 s at every poll without an ended job, up to 180 s (plugin
        issue 319).
        """
        stock_seconds = RemoteExecutor.next_seconds_between_status_checks.fget(self)
        return min(stock_seconds, self.workflow.executor_settings.max_seconds_between_status_checks)

    @next_seconds_between_status_checks.setter
    def next_seconds_between_status_checks(self, value: float) -> None:
        RemoteExecutor.next_seconds_between_status_checks.fset(self, value)

    async def sleep(self) -> None:
        """Sleep until the next poll; unlike the stock executor, stop when all jobs are done."""
        end = time.monotonic() + self.next_seconds_between_status_checks
        while self.wait and (remaining := end - time.monotonic()) > 0:
            await asyncio.sleep(min(remaining, 0.5))


def _noting(handled: set[int], report: Any) -> Any:
    """Return `report`, which now adds its job's id to `handled`."""

    def wrapper(job: Any, *arguments: Any, **options: Any) -> Any:
        handled.add(id(job))
        return report(job, *arguments, **options)

    return wrapper

"""The executor `gapgrid-slurm`: the stock SLURM plugin, with what it gets wrong repaired. It schedules nothing itself.

Snakemake finds it by its package name; `profiles/slurm` chooses it. Its options are those of the stock plugin with
another prefix (`--gapgrid-slurm-…`) and the few of `ExecutorSettings`. Each repair stands aside where the stock plugin
does the right thing; `tests/slurm/test_repairs.py` says for each one whether the stock plugin still needs it.
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

from .cluster import answers, complaints, offers
from .folder import NoAnswerError, Record, look
from .states import Remembered, States

__all__ = ["Executor", "ExecutorSettings", "common_settings"]

common_settings = stock.common_settings
_query_job_status = stock.query_job_status
_get_min_job_age = stock.get_min_job_age
# Calls that run no job: they may be made beside orphans.
NO_RUN = {"-n", "--dry-run", "--dryrun", "--unlock", "--report", "--lint", "--summary", "-S", "--rulegraph", "--dag"}


def _option(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text, "env_var": False, "required": False})


@dataclass
class ExecutorSettings(stock.ExecutorSettings):
    """The stock plugin's settings and the repairs' own."""

    status_command: str = _option("squeue", "How jobs are asked for, 'squeue' or 'sacct'. Default: squeue, which needs no accounting.")
    max_seconds_between_status_checks: int = _option(30, "The poll interval grows up to this (the stock plugin: 180 s).")
    preempted_after: int = _option(120, "A job PREEMPTED for so many seconds will not come back: it is submitted anew.")
    forgotten_after: int = _option(300, "A job that SLURM has not listed for so many seconds is over: its outputs decide how it ended.")
    patience: int = _option(3600, "For so many seconds a submission waits for a SLURM controller that does not answer.")

    def __post_init__(self) -> None:
        """Snakemake makes its settings before it takes the folder's lock: the place to say who else is at work here."""
        super().__post_init__()
        wrong = [argument for argument in sys.argv if argument.startswith("--slurm-") and not argument.startswith("--slurm-jobstep")]
        if wrong:
            raise WorkflowError(f"{wrong[0]} is an option of another executor; here it is --gapgrid-{wrong[0].removeprefix('--')}")
        if not NO_RUN & {argument.split("=")[0] for argument in sys.argv}:
            refuse_beside_orphans()


def refuse_beside_orphans(has_lock: bool = False) -> None:
    """Raise `WorkflowError` if jobs of a dead controller still run here (never two writers on one output), or its lock is left.

    Once we have the lock ourselves (`has_lock`) it is not a dead controller's.
    """
    try:
        state = look(Path.cwd())
        message = (state._replace(is_locked=False) if has_lock else state).message()
    except NoAnswerError as error:
        raise WorkflowError(f"whether jobs of an earlier run are still there cannot be known: {error}") from None
    if message:
        raise WorkflowError(message)


class Executor(stock.Executor):
    """The stock executor that forgets no job, waits no longer than it must and asks before it submits."""

    def __init__(self, workflow: Any, logger: Any) -> None:
        settings = workflow.executor_settings
        self._states = States(settings.preempted_after, settings.forgotten_after)
        self._asked: list[str] = []
        self._record: Record | None = None
        # The polling thread starts in the constructor above this one, so these stand before it. There is one executor a process.
        stock.get_min_job_age = Remembered(_get_min_job_age)
        stock.query_job_status = self._query_job_status
        super().__init__(workflow, logger)

    def __post_init__(self, test_mode: bool = False) -> None:
        if self.workflow.executor_settings.array_jobs:
            # https://github.com/snakemake/snakemake-executor-plugin-slurm/issues/447
            raise WorkflowError("job arrays lose finished outputs (plugin issue 447): leave --gapgrid-slurm-array-jobs out")
        refuse_beside_orphans(has_lock=True)
        self._check_requests()
        self._adopt_results()
        super().__post_init__(test_mode)
        # Left out, the account is SLURM's to choose. The stock plugin guesses one by a command that always fails.
        self._fallback_account_arg = ""
        self._record = Record.write(Path.cwd(), self.run_uuid, sys.argv[1:])
        atexit.register(self._record.remove)

    def _check_requests(self) -> None:
        """Compare what jobs ask for with what partitions have, before anything is queued."""
        nodes = offers()
        if nodes is None:
            raise WorkflowError("the SLURM controller does not answer (sinfo): try again when it does")
        jobs = [job for job in self.workflow.dag.needrun_jobs() if not job.is_local and not job.is_group()]
        found = complaints(nodes, [(job.rule.name, job.resources, job.threads) for job in jobs])
        if found:
            raise WorkflowError("these jobs could never start:\n  " + "\n  ".join(found))

    def _adopt_results(self) -> None:
        """Record how results were made whose controller died before it could.

        A job that ends after its controller leaves good outputs, but no record of its params: Snakemake would not notice
        a later change of them. The manifest says under which spec the job ran.
        """
        dag, kept = self.workflow.dag, self.workflow.persistence
        todo = set(dag.needrun_jobs())
        for job in dag.jobs:
            if job in todo or job.is_local or job.is_group() or not job.output or kept.has_metadata(job):
                continue
            manifest = next((Path(file) for file in job.output if str(file).endswith(".json")), None)
            if manifest is None or not manifest.is_file():
                continue
            if json.loads(manifest.read_text()).get("spec") == json.loads(job.params.get("spec", "null")):
                self.workflow.async_run(kept.finished(job))
            else:
                self.logger.warning(f"{manifest} was made under another configuration; to make it anew: --forcerun {manifest}")

    def run_job(self, job: Any) -> None:
        """A submission while slurmctld is away fails after 9 s and costs a retry: three are gone in 40 s. So wait for it."""
        deadline = time.monotonic() + self.workflow.executor_settings.patience
        while not answers() and self.wait and time.monotonic() < deadline:
            self.logger.warning("the SLURM controller does not answer; the submission waits")
            time.sleep(5)
        super().run_job(job)

    async def check_active_jobs(self, active_jobs: list[Any]) -> AsyncIterator[Any]:
        """Every job that a poll neither reports nor yields is yielded again.

        When all queries of a poll fail, the stock method ends without yielding, and its caller has dropped the list:
        the jobs run on, unknown, and the workflow waits for ever (plugin issue 207).
        """
        if self._record:
            self._record.beat()
        self._asked = [job.external_jobid for job in active_jobs]
        settled: set[int] = set()
        self.report_job_success = _noting(settled, self.report_job_success)
        self.report_job_error = _noting(settled, self.report_job_error)
        try:
            async for job in super().check_active_jobs(active_jobs):
                settled.add(id(job))
                yield job
        finally:
            del self.report_job_success, self.report_job_error
        lost = [job for job in active_jobs if id(job) not in settled]
        if lost:
            self.logger.warning(f"SLURM does not say how its {len(lost)} jobs are; they are asked for again")
        for job in lost:
            yield job

    async def _query_job_status(self, command: str, logger: Any) -> tuple[dict[str, str] | None, float | None]:
        states, seconds = await _query_job_status(command, logger)
        return (states if states is None else self._states.read(states, self._asked)), seconds

    @property
    def next_seconds_between_status_checks(self) -> float:
        """The stock interval grows by 10 s at every poll without an ended job, up to 180 s; here up to a setting (issue 319)."""
        stock_seconds = RemoteExecutor.next_seconds_between_status_checks.fget(self)
        return min(stock_seconds, self.workflow.executor_settings.max_seconds_between_status_checks)

    @next_seconds_between_status_checks.setter
    def next_seconds_between_status_checks(self, value: float) -> None:
        RemoteExecutor.next_seconds_between_status_checks.fset(self, value)

    async def sleep(self) -> None:
        """Sleep until the next poll; the stock executor also waits that long when everything is done."""
        end = time.monotonic() + self.next_seconds_between_status_checks
        while self.wait and (left := end - time.monotonic()) > 0:
            await asyncio.sleep(min(left, 0.5))


def _noting(settled: set[int], report: Any) -> Any:
    def wrapper(job: Any, *arguments: Any, **options: Any) -> Any:
        settled.add(id(job))
        return report(job, *arguments, **options)

    return wrapper

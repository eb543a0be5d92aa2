"""Each repair of the executor plugin, and beside it that the stock plugin still needs it. No SLURM here.

When a test `stock_…` fails, upstream has mended it: that repair can go.
"""

import asyncio
import logging
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

stock = pytest.importorskip("snakemake_executor_plugin_slurm")
plugin = pytest.importorskip("snakemake_executor_plugin_gapgrid_slurm")

from snakemake_executor_plugin_gapgrid_slurm.states import Remembered, States  # noqa: E402


class Job(SimpleNamespace):
    """A submitted job, as far as a poll looks at it."""

    def __init__(self, job_id: str) -> None:
        super().__init__(external_jobid=job_id, aux={"slurm_logfile": None})


class Limiter:
    async def __aenter__(self) -> None: ...
    async def __aexit__(self, *_: Any) -> None: ...


SETTINGS = {
    "init_seconds_before_status_checks": 10,
    "max_seconds_between_status_checks": 30,
    "status_attempts": 2,
    "status_command": "squeue",
    "keep_successful_logs": True,
    "requeue": False,
}


class Poll:
    """One executor without its thread: what a poll does with what SLURM says."""

    def __init__(self, cls: Any, monkeypatch: pytest.MonkeyPatch, *answers: dict[str, str] | None) -> None:
        left = list(answers)

        async def answer(command: str, logger: Any) -> tuple[dict[str, str] | None, float | None]:
            self.commands.append(command.split()[0])
            states = left.pop(0) if len(left) > 1 else left[0]
            return states, (None if states is None else 0.1)

        self.commands: list[str] = []
        self.errors: list[str] = []
        self.successes: list[str] = []
        monkeypatch.setattr(stock, "get_min_job_age", lambda: 3600)
        monkeypatch.setattr(stock, "query_job_status", answer)
        monkeypatch.setattr(plugin, "_query_job_status", answer)
        poll = self

        class Fake(cls):  # type: ignore[misc]
            status_rate_limiter = Limiter()
            logger = logging.getLogger("test")
            workflow = SimpleNamespace(executor_settings=SimpleNamespace(**SETTINGS))
            run_uuid = "run"
            wait = True
            _record = None
            _asked: ClassVar[list[str]] = []
            _next_seconds_between_status_checks = 10
            _preemption_warning = False
            _status_query_calls = _status_query_failures = 0
            _status_query_total_seconds = _status_query_max_seconds = 0.0
            _status_query_min_seconds = None
            _status_query_cycle_rows: ClassVar[list[Any]] = []

            def __init__(self) -> None:
                self._states = States(0, 0)
                if cls is plugin.Executor:
                    monkeypatch.setattr(stock, "query_job_status", self._query_job_status)

            def report_job_success(self, job: Any) -> None:
                poll.successes.append(job.external_jobid)

            def report_job_error(self, job: Any, **_: Any) -> None:
                poll.errors.append(job.external_jobid)

        self.executor = Fake()

    def __call__(self, *job_ids: str) -> list[str]:
        """The jobs still active after a poll."""

        async def poll() -> list[str]:
            return [job.external_jobid async for job in self.executor.check_active_jobs([Job(job_id) for job_id in job_ids])]

        return asyncio.run(poll())


def test_no_answer_forgets_no_job(monkeypatch: pytest.MonkeyPatch) -> None:
    poll = Poll(plugin.Executor, monkeypatch, None)
    assert poll("1", "2") == ["1", "2"]


def test_stock_forgets_all_jobs_when_there_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    poll = Poll(stock.Executor, monkeypatch, None)
    assert poll("1", "2") == [] == poll.errors == poll.successes


def test_jobs_are_reported_once(monkeypatch: pytest.MonkeyPatch) -> None:
    poll = Poll(plugin.Executor, monkeypatch, {"1": "COMPLETED", "2": "FAILED", "3": "RUNNING", "4": "PENDING", "5": "TIMEOUT"})
    assert poll("1", "2", "3", "4", "5") == ["3", "4"]
    assert (poll.successes, poll.errors) == (["1"], ["2", "5"])


def test_the_words_of_sacct(monkeypatch: pytest.MonkeyPatch) -> None:
    poll = Poll(plugin.Executor, monkeypatch, {"1": "CANCELLED by 0", "2": "CANCELLED+"})
    assert poll("1", "2") == []
    assert poll.errors == ["1", "2"]


def test_stock_takes_a_cancelled_job_for_a_running_one(monkeypatch: pytest.MonkeyPatch) -> None:
    poll = Poll(stock.Executor, monkeypatch, {"1": "CANCELLED by 0"})
    assert poll("1") == ["1"] and not poll.errors


def test_preempted_for_good(monkeypatch: pytest.MonkeyPatch) -> None:
    poll = Poll(plugin.Executor, monkeypatch, {"1": "PREEMPTED"})
    assert poll("1") == ["1"], "SLURM may requeue it: given a while"
    assert poll("1") == [] and poll.errors == ["1"]


def test_stock_waits_for_a_preempted_job_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    poll = Poll(stock.Executor, monkeypatch, {"1": "PREEMPTED"})
    assert all(poll("1") == ["1"] for _ in range(3))


def test_a_job_that_slurm_lists_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    poll = Poll(plugin.Executor, monkeypatch, {"2": "RUNNING"})
    assert poll("1", "2") == ["1", "2"], "perhaps it is not listed yet"
    assert poll("1", "2") == ["2"] and poll.successes == ["1"], "over; its outputs decide"


def test_stock_waits_for_an_unlisted_job_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    poll = Poll(stock.Executor, monkeypatch, {"2": "RUNNING"})
    assert all(poll("1", "2") == ["1", "2"] for _ in range(3))


def test_states_come_and_go() -> None:
    now = 0.0
    states = States(100, 200, clock=lambda: now)
    assert states.read({"1": "PREEMPTED"}, ["1"]) == {"1": "PREEMPTED"}
    now = 90
    assert states.read({"1": "PENDING"}, ["1"]) == {"1": "PENDING"}
    now = 150
    assert states.read({"1": "PREEMPTED"}, ["1"]) == {"1": "PREEMPTED"}, "preempted again: counted from now"
    now = 251
    assert states.read({"1": "PREEMPTED"}, ["1"]) == {"1": "CANCELLED"}
    assert states.read({"9": "RUNNING"}, ["1"]) == {"9": "RUNNING"}
    now = 452
    assert states.read({"9": "RUNNING"}, ["1"]) == {"9": "RUNNING", "1": "UNKNOWN"}


@pytest.mark.parametrize("cls, first", [(plugin.Executor, "squeue"), (stock.Executor, "sacct")])
def test_squeue_stays_squeue_while_slurmctld_is_silent(monkeypatch: pytest.MonkeyPatch, cls: Any, first: str) -> None:
    """The stock one turns to sacct, which says nothing where accounting is off."""
    poll = Poll(cls, monkeypatch, {"1": "RUNNING"})
    ages = iter([3600, *[None] * 9])
    silent = Remembered(lambda: next(ages))
    monkeypatch.setattr(stock, "get_min_job_age", silent if cls is plugin.Executor else lambda: None)
    monkeypatch.setattr(stock, "is_query_tool_available", lambda tool: True)
    poll("1")
    assert poll.commands == [first]


@pytest.mark.parametrize("cls, most", [(plugin.Executor, 30), (stock.Executor, 180)])
def test_the_poll_interval_has_a_bound(monkeypatch: pytest.MonkeyPatch, cls: Any, most: int) -> None:
    poll = Poll(cls, monkeypatch, {"1": "RUNNING"})
    for _ in range(30):
        poll("1")
    assert poll.executor.next_seconds_between_status_checks == most


def test_the_end_does_not_wait_for_a_poll(monkeypatch: pytest.MonkeyPatch) -> None:
    poll = Poll(plugin.Executor, monkeypatch, {})
    poll.executor.wait = False
    asyncio.run(asyncio.wait_for(poll.executor.sleep(), 5))
    stock_poll = Poll(stock.Executor, monkeypatch, {})
    stock_poll.executor.wait = False
    with pytest.raises(TimeoutError):
        asyncio.run(asyncio.wait_for(stock_poll.executor.sleep(), 1))


def test_a_submission_waits_for_slurm(monkeypatch: pytest.MonkeyPatch) -> None:
    poll = Poll(plugin.Executor, monkeypatch, {})
    poll.executor.workflow.executor_settings.patience = 100
    answers, submitted = iter([False, False, True]), []
    monkeypatch.setattr(plugin, "answers", lambda: next(answers))
    monkeypatch.setattr(plugin.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(stock.Executor, "run_job", lambda self, job: submitted.append(job))
    poll.executor.run_job("job")
    assert submitted == ["job"] and next(answers, None) is None

"""Each patch of the executor plugin, and beside it that the stock plugin still needs it.

No SLURM here. When a test `stock_…` fails, the stock plugin is fixed: that patch can be removed.
"""

import asyncio
import logging
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

stock = pytest.importorskip("snakemake_executor_plugin_slurm")
plugin = pytest.importorskip("snakemake_executor_plugin_gapgrid_slurm")

from snakemake_executor_plugin_gapgrid_slurm.states import Remembered, States  # noqa: E402


class Job(SimpleNamespace):
    """A submitted job, as far as a poll reads it."""

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
    """An executor without its thread; a call polls once, and returns the jobs still active."""

    def __init__(
        self, cls: Any, monkeypatch: pytest.MonkeyPatch, *results: dict[str, str] | None
    ) -> None:
        self.commands: list[str] = []
        self.errors: list[str] = []
        self.successes: list[str] = []
        unread = list(results)

        async def query(command: str, logger: Any) -> tuple[dict[str, str] | None, float | None]:
            self.commands.append(command.split()[0])
            states = unread.pop(0) if len(unread) > 1 else unread[0]
            return states, (None if states is None else 0.1)

        monkeypatch.setattr(stock, "get_min_job_age", lambda: 3600)
        monkeypatch.setattr(stock, "query_job_status", query)
        monkeypatch.setattr(plugin, "_query_job_status", query)
        poll = self

        class Fake(cls):  # type: ignore[misc]
            status_rate_limiter = Limiter()
            logger = logging.getLogger("test")
            workflow = SimpleNamespace(executor_settings=SimpleNamespace(**SETTINGS))
            run_uuid = "run"
            wait = True
            _record = None
            _active: ClassVar[list[str]] = []
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
        async def poll() -> list[str]:
            jobs = self.executor.check_active_jobs([Job(job_id) for job_id in job_ids])
            return [job.external_jobid async for job in jobs]

        return asyncio.run(poll())


Polls = Callable[..., Poll]


@pytest.fixture
def patched(monkeypatch: pytest.MonkeyPatch) -> Polls:
    """A poll of the plugin, with these results of the queries."""
    return lambda *results: Poll(plugin.Executor, monkeypatch, *results)


@pytest.fixture
def unpatched(monkeypatch: pytest.MonkeyPatch) -> Polls:
    """A poll of the stock plugin, with these results of the queries."""
    return lambda *results: Poll(stock.Executor, monkeypatch, *results)


def test_failed_queries_lose_no_job(patched: Polls) -> None:
    assert patched(None)("1", "2") == ["1", "2"]


def test_stock_loses_all_jobs_when_queries_fail(unpatched: Polls) -> None:
    poll = unpatched(None)
    assert poll("1", "2") == [] == poll.errors == poll.successes


def test_jobs_are_reported_once(patched: Polls) -> None:
    states = ["COMPLETED", "FAILED", "RUNNING", "PENDING", "TIMEOUT"]
    poll = patched({str(number): state for number, state in enumerate(states, 1)})
    assert poll("1", "2", "3", "4", "5") == ["3", "4"]
    assert (poll.successes, poll.errors) == (["1"], ["2", "5"])


def test_the_states_of_sacct(patched: Polls) -> None:
    poll = patched({"1": "CANCELLED by 0", "2": "CANCELLED+"})
    assert poll("1", "2") == [] and poll.errors == ["1", "2"]


def test_preempted_for_good(patched: Polls) -> None:
    poll = patched({"1": "PREEMPTED"})
    assert poll("1") == ["1"], "SLURM may requeue it"
    assert poll("1") == [] and poll.errors == ["1"]


def test_a_job_that_slurm_no_longer_lists(patched: Polls) -> None:
    poll = patched({"2": "RUNNING"})
    assert poll("1", "2") == ["1", "2"], "perhaps it is not listed yet"
    assert poll("1", "2") == ["2"] and poll.successes == ["1"], "over; its outputs decide"


@pytest.mark.parametrize(
    ("states", "jobs"),
    [
        pytest.param({"1": "CANCELLED by 0"}, ["1"], id="cancelled"),
        pytest.param({"1": "PREEMPTED"}, ["1"], id="preempted"),
        pytest.param({"2": "RUNNING"}, ["1", "2"], id="not listed"),
    ],
)
def test_stock_waits_for_ever(unpatched: Polls, states: dict[str, str], jobs: list[str]) -> None:
    poll = unpatched(states)
    assert all(poll(*jobs) == jobs for _ in range(3)) and not poll.errors


def test_limits_count_from_the_last_change_of_state() -> None:
    now = 0.0
    states = States(100, 200, clock=lambda: now)
    preempted, running = {"1": "PREEMPTED"}, {"9": "RUNNING"}
    assert states.read(preempted, ["1"]) == preempted
    now = 90
    assert states.read({"1": "PENDING"}, ["1"]) == {"1": "PENDING"}
    now = 150
    assert states.read(preempted, ["1"]) == preempted, "preempted again: counted from now"
    now = 251
    assert states.read(preempted, ["1"]) == {"1": "CANCELLED"}
    assert states.read(running, ["1"]) == running
    now = 452
    assert states.read(running, ["1"]) == {**running, "1": "UNKNOWN"}


@pytest.mark.parametrize(("cls", "first"), [(plugin.Executor, "squeue"), (stock.Executor, "sacct")])
def test_squeue_stays_squeue_while_slurmctld_is_silent(
    monkeypatch: pytest.MonkeyPatch, cls: Any, first: str
) -> None:
    """The stock plugin turns to sacct, which knows nothing where accounting is off."""
    poll = Poll(cls, monkeypatch, {"1": "RUNNING"})
    ages = iter([3600, *[None] * 9])
    remembered = Remembered(lambda: next(ages))
    age = remembered if cls is plugin.Executor else lambda: None
    monkeypatch.setattr(stock, "get_min_job_age", age)
    monkeypatch.setattr(stock, "is_query_tool_available", lambda tool: True)
    poll("1")
    assert poll.commands == [first]


@pytest.mark.parametrize(("cls", "most"), [(plugin.Executor, 30), (stock.Executor, 180)])
def test_the_poll_interval_is_bounded(monkeypatch: pytest.MonkeyPatch, cls: Any, most: int) -> None:
    poll = Poll(cls, monkeypatch, {"1": "RUNNING"})
    for _ in range(30):
        poll("1")
    assert poll.executor.next_seconds_between_status_checks == most


def test_the_end_does_not_wait_for_a_poll(patched: Polls, unpatched: Polls) -> None:
    def sleep(poll: Poll, seconds: float) -> None:
        poll.executor.wait = False
        asyncio.run(asyncio.wait_for(poll.executor.sleep(), seconds))

    sleep(patched({}), 5)
    with pytest.raises(TimeoutError):
        sleep(unpatched({}), 1)


def test_a_submission_waits_for_slurm(patched: Polls, monkeypatch: pytest.MonkeyPatch) -> None:
    poll = patched({})
    poll.executor.workflow.executor_settings.patience = 100
    answers, submitted = iter([False, False, True]), []
    monkeypatch.setattr(plugin, "controller_answers", lambda: next(answers))
    monkeypatch.setattr(plugin.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(stock.Executor, "run_job", lambda self, job: submitted.append(job))
    poll.executor.run_job("job")
    assert submitted == ["job"] and next(answers, None) is None

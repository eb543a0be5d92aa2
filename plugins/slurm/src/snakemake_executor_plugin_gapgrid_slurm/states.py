"""The states of jobs as SLURM reports them, in the words that the stock plugin understands."""

import time
from collections.abc import Callable


class States:
    """Reads the result of one poll; remembers since when a job is preempted or not listed."""

    def __init__(
        self,
        preempted_after: float,
        forgotten_after: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limits = {"PREEMPTED": preempted_after, "": forgotten_after}
        self._clock = clock
        self._since: dict[tuple[str, str], float] = {}

    def read(self, states: dict[str, str], active: list[str]) -> dict[str, str]:
        """Return the state of each job, by id.

        - sacct reports `CANCELLED by 0`, and states cut short end in `+`. The stock plugin compares
          whole words and takes such a job for a running one, for ever. So only the first word
          counts.
        - PREEMPTED is the last state where PreemptMode is CANCEL; the stock plugin waits for SLURM
          to requeue the job (plugin issue 109: elsewhere it does). After a while it counts as
          CANCELLED, and is submitted again. A requeued job is PENDING at once, so none is submitted
          twice; the lock on its output would stop it.
        - The stock plugin waits for ever for a job that SLURM no longer lists (older than
          MinJobAge, for instance after a controller was away). After a while it is UNKNOWN, which
          the stock plugin takes for ended: Snakemake checks its outputs.
        """
        result = {job: (state.split() or [""])[0].rstrip("+") for job, state in states.items()}
        for job in active:
            state = result.get(job, "")
            if self._lasts(job, state):
                result[job] = "CANCELLED" if state else "UNKNOWN"
        return result

    def _lasts(self, job: str, state: str) -> bool:
        """Return whether a job has been in a state with a limit for longer than that."""
        for other in self._limits:
            if other != state:
                self._since.pop((job, other), None)
        if state not in self._limits:
            return False
        now = self._clock()
        return now - self._since.setdefault((job, state), now) > self._limits[state]


class Remembered:
    """A query that returns its last result while there is none.

    The stock plugin queries MinJobAge at every poll. When slurmctld does not answer just then, it
    turns from squeue to sacct, which knows nothing where accounting is off.
    """

    def __init__(self, query: Callable[[], int | None]) -> None:
        self._query, self._last = query, query()

    def __call__(self) -> int | None:
        result = self._query()
        self._last = self._last if result is None else result
        return self._last

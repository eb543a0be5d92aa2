"""What SLURM says about jobs, put into the words that the stock plugin understands."""

import time
from collections.abc import Callable


class States:
    """Reads one poll's answer; remembers since when a job is preempted or unheard of."""

    def __init__(self, preempted_after: float, forgotten_after: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = {"PREEMPTED": preempted_after, "": forgotten_after}
        self._clock = clock
        self._since: dict[tuple[str, str], float] = {}

    def read(self, states: dict[str, str], asked: list[str]) -> dict[str, str]:
        """The state of each job, by id.

        - sacct says `CANCELLED by 0`, and states cut short end in `+`. The stock plugin compares whole words and takes
          such a job for a running one, for ever. So only the first word counts.
        - PREEMPTED is the last state where PreemptMode is CANCEL; the stock plugin waits for SLURM to requeue the job
          (plugin issue 109: elsewhere it does). After a while it counts as CANCELLED, which has it submitted anew. A
          requeued job is PENDING at once, so none is submitted twice; the lock on its output would stop it.
        - A job that SLURM lists no longer (older than MinJobAge, for instance after a controller was away) is waited for
          for ever. After a while it is UNKNOWN, which the stock plugin takes for ended: Snakemake looks at its outputs.
        """
        plain = {job: (state.split() or [""])[0].rstrip("+") for job, state in states.items()}
        for job in asked:
            state = plain.get(job, "")
            if self._lasts(job, state):
                plain[job] = "CANCELLED" if state else "UNKNOWN"
        return plain

    def _lasts(self, job: str, state: str) -> bool:
        """Whether a job has been in a state with a limit for longer than that."""
        for other in self._limits:
            if other != state:
                self._since.pop((job, other), None)
        if state not in self._limits:
            return False
        now = self._clock()
        return now - self._since.setdefault((job, state), now) > self._limits[state]


class Remembered:
    """A question whose last answer stands while there is none.

    The stock plugin asks for MinJobAge at every poll. When slurmctld is silent just then it turns from squeue to sacct,
    which knows nothing where accounting is off.
    """

    def __init__(self, ask: Callable[[], int | None]) -> None:
        self._ask, self._last = ask, ask()

    def __call__(self) -> int | None:
        answer = self._ask()
        self._last = self._last if answer is None else answer
        return self._last

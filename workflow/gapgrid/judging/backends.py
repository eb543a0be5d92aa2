"""What a backend of the judge is: it sends prompts and returns replies."""

from typing import Protocol

from gapgrid.core.records import InputError

Prompt = list[dict[str, str]]  # chat messages: role and content


class Backend(Protocol):
    """Sends prompts to a judge.

    `batch_pairs` is how many prompts one `ask` should get; a kill loses at most their replies.
    """

    batch_pairs: int

    def ask(self, prompts: list[Prompt]) -> list[str]:
        """Return the judge's reply to each prompt, in order."""


class JudgeError(InputError):
    """The judge gives no more replies.

    `replies` maps the index of a prompt in this `ask` to a reply that came back before.
    """

    def __init__(self, message: str, replies: dict[int, str] | None = None) -> None:
        super().__init__(message)
        self.replies = replies or {}


class JudgeUnreachable(JudgeError):  # noqa: N818 - what happened, not that it did
    """The judge's server is down, busy or broken after all retries: a later run may succeed."""

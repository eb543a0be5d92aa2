"""How many sequences a device takes at once: the split of a global batch, and the one retry when memory runs out.

None of this changes a result beyond the order of floating-point sums: the loss of a step is the mean over all its
trained tokens (transformers' `num_items_in_batch`), however the step is cut into passes.
"""

import gc
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from gapgrid.records import InputError

log = logging.getLogger(__name__)
Result = TypeVar("Result")
_SHORT = ("out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "can't allocate memory")


@dataclass(frozen=True)
class Hardware:
    """What a machine lets a run do; never part of a spec.

    `micro_batch`: most sequences per device and pass; `tokens_per_device`: a budget of padded tokens per device and
    pass that takes its place; `zero`: DeepSpeed's ZeRO stage (0: none, else 2 or 3); `checkpointing`: recompute
    activations in the backward pass (None: on GPUs); `report_to`: a tracker beside metrics.jsonl, or none.
    """

    micro_batch: int = 1
    tokens_per_device: int | None = None
    zero: int = 0
    checkpointing: bool | None = None
    report_to: str = "none"

    def most(self, longest: int) -> int:
        """Most sequences per device and pass, the longest of them `longest` tokens long."""
        return self.micro_batch if self.tokens_per_device is None else max(1, self.tokens_per_device // longest)


class ShortOfMemoryError(Exception):
    """A device ran out of memory with `per_device` sequences in a pass."""

    def __init__(self, per_device: int) -> None:
        super().__init__(f"out of memory with {per_device} sequences per device and pass")
        self.per_device = per_device


def split_batch(global_batch: int, devices: int, most_per_device: int) -> tuple[int, int]:
    """Sequences per device and pass, and passes per step, whose product over all devices is the global batch.

    The most that fits, as hardware never changes the result. Raises `InputError` if the devices do not divide it.
    """
    if global_batch % devices:
        raise InputError(f"global_batch {global_batch} cannot be split over {devices} devices")
    per_step = global_batch // devices
    per_device = max(size for size in range(1, min(most_per_device, per_step) + 1) if per_step % size == 0)
    passes = per_step // per_device
    assert per_device * passes * devices == global_batch
    return per_device, passes


def is_shortage(error: BaseException) -> bool:
    """Whether an error says that memory ran out: torch's own class, or what CUDA's libraries raise instead."""
    return isinstance(error, torch.OutOfMemoryError) or (isinstance(error, RuntimeError) and any(text in str(error) for text in _SHORT))


def watched(run: Callable[[], Any], per_device: int) -> None:
    """Run; a shortage of memory becomes `ShortOfMemoryError`, which holds no frame, so that all tensors can go."""
    try:
        run()
        return
    except Exception as error:
        if not is_shortage(error):
            raise
        log.warning("%s", str(error).splitlines()[0])
    raise ShortOfMemoryError(per_device)


def halved_once(attempt: Callable[[int | None], Result]) -> Result:
    """`attempt(None)`; if it runs out of memory, once more with at most half as many sequences per device and pass.

    Raises `InputError` if there is nothing to halve or the second attempt runs out too.
    """
    try:
        return attempt(None)
    except ShortOfMemoryError as short:
        per_device = short.per_device
    if per_device > 1:
        gc.collect()
        torch.cuda.empty_cache()
        per_device //= 2
        log.warning("out of memory: once more from the last checkpoint, %d sequences per device and pass", per_device)
        try:
            return attempt(per_device)
        except ShortOfMemoryError as short:
            per_device = short.per_device
    raise InputError(f"out of memory with {per_device} sequences per device and pass: needs more devices, or ZeRO 3 (--zero 3)")

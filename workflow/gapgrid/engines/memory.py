"""How many sequences a device takes at once: the split of a global batch, and one retry on OOM.

None of this changes a result beyond the order of floating-point sums: the loss of a step is the
mean over all its trained tokens (transformers' `num_items_in_batch`), whatever the micro-batch.
"""

import gc
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from gapgrid.core.records import InputError

log = logging.getLogger(__name__)
Result = TypeVar("Result")
_OOM_TEXTS = ("out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "can't allocate memory")


@dataclass(frozen=True)
class Hardware:
    """What a machine lets a run do; never part of a spec.

    `micro_batch`: most sequences per device and forward pass; `tokens_per_device`: a budget of
    padded tokens per device and forward pass that replaces it; `zero`: DeepSpeed's ZeRO stage (0:
    none, else 2 or 3); `checkpointing`: recompute activations in the backward pass (None: on GPUs);
    `report_to`: a tracker beside metrics.jsonl, or none.
    """

    micro_batch: int = 1
    tokens_per_device: int | None = None
    zero: int = 0
    checkpointing: bool | None = None
    report_to: str = "none"

    def max_micro_batch(self, longest: int) -> int:
        """Return how many sequences of up to `longest` tokens fit a device at once, at least 1."""
        if self.tokens_per_device is None:
            return self.micro_batch
        return max(1, self.tokens_per_device // longest)


class DeviceOutOfMemoryError(Exception):
    """A device ran out of memory with a micro-batch of `per_device` sequences."""

    def __init__(self, per_device: int) -> None:
        super().__init__(f"out of memory with a micro-batch of {per_device} sequences per device")
        self.per_device = per_device


def split_batch(global_batch: int, devices: int, max_per_device: int) -> tuple[int, int]:
    """Return the micro-batch per device and the number of gradient accumulation steps.

    Their product over all devices is the global batch, as hardware never changes the result; the
    micro-batch is the largest that is allowed. Raises `InputError` if the devices do not divide it.
    """
    if global_batch % devices:
        raise InputError(f"global_batch {global_batch} cannot be split over {devices} devices")
    per_step = global_batch // devices
    sizes = range(1, min(max_per_device, per_step) + 1)
    per_device = max(size for size in sizes if per_step % size == 0)
    return per_device, per_step // per_device


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether memory ran out: torch's own class, or what CUDA's libraries raise instead."""
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(text in str(error) for text in _OOM_TEXTS)
    )


def raise_on_oom(run: Callable[[], Any], per_device: int) -> None:
    """Call `run`; raise `DeviceOutOfMemoryError` if it runs out of memory.

    That error holds no frame of `run`, so that all its tensors can be freed.
    """
    try:
        run()
        return
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        log.warning("%s", str(error).splitlines()[0])
    raise DeviceOutOfMemoryError(per_device)


def retry_with_half_batch(attempt: Callable[[int | None], Result]) -> Result:
    """Return `attempt(None)`; on OOM, `attempt(n)` with half as many sequences per device.

    Raises `InputError` if there is nothing to halve or the second attempt runs out of memory too.
    """
    try:
        return attempt(None)
    except DeviceOutOfMemoryError as error:
        per_device = error.per_device
    if per_device > 1:
        gc.collect()
        torch.cuda.empty_cache()
        per_device //= 2
        log.warning(
            "out of memory: retrying from the last checkpoint with %d sequences per device",
            per_device,
        )
        try:
            return attempt(per_device)
        except DeviceOutOfMemoryError as error:
            per_device = error.per_device
    raise InputError(
        f"out of memory with a micro-batch of {per_device} sequences per device: "
        "needs more devices, or ZeRO 3 (--zero 3)"
    )

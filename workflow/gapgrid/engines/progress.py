"""What a training run reports: metrics rows, speed against the device's peak, whole checkpoints."""

import json
import logging
import math
import time
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from gapgrid.core.records import (
    InputError,
    Row,
    discard,
    read_jsonl,
    to_disk,
    write_json,
    write_jsonl,
)

log = logging.getLogger(__name__)
COMPLETE = "complete"  # a file that marks a checkpoint as whole
# Dense bf16 peak in FLOP/s by a part of the device's name, from the makers' data sheets; the first
# that fits counts.
PEAKS = (
    ("H100 PCIe", 756e12),
    ("H100 NVL", 835e12),
    ("H100", 989e12),
    ("H200", 989e12),
    ("A100", 312e12),
    ("L40S", 362e12),
    ("A40", 150e12),
)


def peak_flops(device_name: str) -> float | None:
    """Return the dense bf16 FLOP/s of a GPU by its name, or None if it is not in the table."""
    return next((peak for part, peak in PEAKS if part in device_name), None)


def flops_per_token(n_parameters: int, n_trained: int) -> float:
    """Return the floating-point operations to train on one token.

    2 N forward, 2 N back through activations, 2 per trained weight; with all weights trained the
    6 N of Kaplan et al. 2020 (arXiv 2001.08361, section 2.1). Attention's own products are left
    out, so a share of the peak made from it is too low for long sequences; recomputed activations
    do not count (MFU as in Chowdhery et al. 2022, arXiv 2204.02311, appendix B).
    """
    return 4.0 * n_parameters + 2.0 * n_trained


class Progress(TrainerCallback):
    """Logs one row per logged step, keeps the rows over a resume, and marks whole checkpoints.

    A row: step, epoch, tokens (no padding, so far, all devices), tokens_per_s, loss, grad_norm,
    learning_rate, mfu (share of the devices' peak, null on a CPU or an unknown GPU), memory_mb
    (peak on the first device, null on a CPU).
    """

    def __init__(self, path: Path, per_token: float, layout: dict[str, int]) -> None:
        self.path = path
        self.per_token = per_token
        self.layout = layout
        self.rows: list[Row] = []
        self.clock = (time.perf_counter(), 0)

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Read the rows up to the checkpoint that is resumed from."""
        if state.global_step and self.path.is_file():
            self.rows = [row for row in read_jsonl(self.path) if row["step"] <= state.global_step]
        self.clock = (time.perf_counter(), state.num_input_tokens_seen)

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any
    ) -> None:
        """Keep and log the row of a step; raise `InputError` when training has diverged."""
        if not logs or "loss" not in logs:
            return
        now, tokens = time.perf_counter(), state.num_input_tokens_seen
        speed = (tokens - self.clock[1]) / max(now - self.clock[0], 1e-9)
        self.clock = (now, tokens)
        row = {
            "step": state.global_step,
            "epoch": round(float(logs["epoch"]), 4),
            "tokens": tokens,
            "tokens_per_s": round(speed),
        }
        measured = ("loss", "grad_norm", "learning_rate")
        row.update({key: float(logs[key]) for key in measured if key in logs})
        if not all(math.isfinite(value) for value in row.values()):
            raise InputError(
                f"training diverged: loss {row['loss']} at step {state.global_step}; "
                "lower the recipe's learning_rate"
            )
        self.rows.append({**row, **self._of_device(speed)})
        log.info(
            "step %d/%d  loss %.4f  lr %.2e  %d tokens/s",
            *(state.global_step, state.max_steps, row["loss"], row["learning_rate"], speed),
        )

    def _of_device(self, speed: float) -> dict[str, float | None]:
        if not torch.cuda.is_available():
            return {"mfu": None, "memory_mb": None}
        peak = peak_flops(torch.cuda.get_device_name())
        mfu = None
        if peak is not None:
            mfu = round(self.per_token * speed / (peak * self.layout["devices"]), 4)
        return {"mfu": mfu, "memory_mb": round(torch.cuda.max_memory_allocated() / 2**20)}

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Mark the checkpoint whole once all processes' parts are on the disk; delete older ones.

        One without the mark was cut off and is never resumed from.
        """
        whole = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        _wait_for_all()
        to_disk(whole)  # on each machine: what it wrote may still be in its memory alone
        _wait_for_all()
        if state.is_world_process_zero:
            write_jsonl(self.path, self.rows)
            write_json(whole / COMPLETE, self.layout)
            for other in Path(args.output_dir).glob("checkpoint-*"):
                if other != whole:
                    discard(other)


def _wait_for_all() -> None:
    if torch.distributed.is_initialized():
        torch.distributed.barrier()


def last_complete(scratch: Path, layout: dict[str, int], clean: bool = True) -> str | None:
    """Return the newest whole checkpoint that fits the layout, or None.

    Others are removed (by one process: `clean`). ZeRO's states are split by stage and number of
    devices, so only the same layout can read them; without ZeRO any number of devices can.
    """
    fitting: list[Path] = []
    for folder in scratch.glob("checkpoint-*"):
        mark = folder / COMPLETE
        # An empty mark is of an earlier version, which had no ZeRO.
        if mark.is_file() and _fits(json.loads(mark.read_text() or '{"zero": 0}'), layout):
            fitting.append(folder)
        elif clean:
            log.info("%s is cut off or of another layout: not resumed from", folder.name)
            discard(folder)
    if not fitting:
        return None
    newest = max(fitting, key=lambda folder: int(folder.name.split("-")[1]))
    log.info("resuming from %s", newest.name)
    return str(newest)


def _fits(saved: dict[str, int], layout: dict[str, int]) -> bool:
    return saved == layout or (saved["zero"] == layout["zero"] == 0)

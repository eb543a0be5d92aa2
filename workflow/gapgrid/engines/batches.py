"""Rows into batches: padded, bucketed by length, laid end to end, or packed; a library's collators and packer do the work."""

from collections.abc import Iterator
from typing import Any

import torch
from accelerate.data_loader import SeedableRandomSampler
from torch.utils.data import Dataset, Sampler
from transformers import DataCollatorForSeq2Seq, DataCollatorWithFlattening

from gapgrid.engines.tokens import IGNORED

POOL = 8  # batches per bucketing pool


def laid_out(examples: list[dict[str, list[int]]], recipe: dict[str, Any]) -> Any:
    """The examples as the trainer takes them: one by one, or, for batching packed, packs of whole documents."""
    if recipe.get("batching") != "packed":
        return examples
    from datasets import Dataset
    from trl.data_utils import pack_dataset

    # Best fit decreasing, whole documents; the collator restarts positions at each, which keeps them apart. The packer
    # would cut what is longer than a pack, so a kept over-long row widens all packs.
    length = max(recipe["max_length"], *(len(example["input_ids"]) for example in examples))
    return pack_dataset(Dataset.from_list(examples), length, "bfd")


def order(examples: Any, recipe: dict[str, Any], seed: int, devices: int) -> "Sampler[int] | None":
    """In which order the rows are seen, the same for any number of devices; None: the trainer's own random order.

    `examples` come from `filled`. Which rows make up a global batch is random; within it, rows of like length share a pass.
    """
    rows = examples.rows if isinstance(examples, Filled) else examples
    kind, batch = recipe.get("batching", "padded"), recipe["global_batch"]
    if devices == 1 and kind in ("padding_free", "packed"):
        return None
    lengths = [len(example["input_ids"]) for example in rows]
    # The very sampler that the data loader of a single process makes out of None.
    chosen: Any = SeedableRandomSampler(range(len(rows)), data_seed=seed)
    if kind == "bucketed":
        chosen = Bucketed(lengths, batch, seed)
    elif kind == "padded":
        chosen = Neighbours(chosen, lengths, batch)
    return chosen if devices == 1 else ThenBlanks(chosen, len(rows), len(examples))


def filled(examples: Any, recipe: dict[str, Any], devices: int) -> Any:
    """The examples, with blanks up to whole global batches where several devices share them.

    A data loader would repeat rows to give each device as many; a blank has no trained token, so it adds nothing.
    """
    lacking = -len(examples) % recipe["global_batch"]
    return Filled(examples, lacking) if devices > 1 and lacking else examples


def collator(tokenizer: Any, recipe: dict[str, Any]) -> Any:
    """The collator of a recipe's batching."""
    kind = recipe.get("batching", "padded")
    if kind == "packed":
        return Unpacked(DataCollatorWithFlattening())
    if kind == "padding_free":
        return DataCollatorWithFlattening()  # takes input_ids and labels alone
    return Padded(tokenizer)


class Padded:
    """Right padding without an attention mask: under causal attention no real token sees a padded one."""

    def __init__(self, tokenizer: Any) -> None:
        self.collate = DataCollatorForSeq2Seq(tokenizer, label_pad_token_id=IGNORED, padding=True)

    def __call__(self, features: list[dict[str, Any]]) -> dict[str, Any]:
        batch = dict(self.collate([{key: feature[key] for key in ("input_ids", "labels")} for feature in features]))
        batch.pop("attention_mask", None)
        return batch


class Unpacked:
    """A pack back into its documents, so that the flattening collator restarts positions at each."""

    def __init__(self, collate: Any) -> None:
        self.collate = collate

    def __call__(self, features: list[dict[str, Any]]) -> dict[str, Any]:
        documents = []
        for pack in features:
            start = 0
            for length in pack["seq_lengths"]:
                documents.append({key: pack[key][start : start + length] for key in ("input_ids", "labels")})
                start += length
        return self.collate(documents)


class Filled(Dataset[dict[str, Any]]):
    """Examples and then blanks: two tokens without a label."""

    def __init__(self, rows: Any, n_blanks: int) -> None:
        self.rows, self.n_blanks = rows, n_blanks

    def __len__(self) -> int:
        return len(self.rows) + self.n_blanks

    def __getitem__(self, index: int) -> dict[str, Any]:
        if index < len(self.rows):
            return self.rows[index]
        return {"input_ids": [0, 0], "labels": [IGNORED, IGNORED], "seq_lengths": [2]}


def _is_blank(feature: dict[str, Any]) -> bool:
    return all(label == IGNORED for label in feature["labels"])


class Counting:
    """Adds the number of real tokens to a batch."""

    def __init__(self, collate: Any) -> None:
        self.collate = collate

    def __call__(self, features: list[dict[str, Any]]) -> dict[str, Any]:
        n_tokens = sum(len(feature["input_ids"]) for feature in features if not _is_blank(feature))
        return {**self.collate(features), "n_tokens": n_tokens}


class Bucketed(Sampler[int]):
    """A random order in which each batch holds rows of like length: random pools of batches, each sorted, batches shuffled.

    A pure function of the seed and the epoch, so that a resumed run sees the same batches.
    """

    def __init__(self, lengths: list[int], batch: int, seed: int) -> None:
        self.lengths, self.batch, self.seed, self.epoch = lengths, batch, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the data loader at the start of each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        random = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        order = torch.randperm(len(self.lengths), generator=random).tolist()
        batches: list[list[int]] = []
        for start in range(0, len(order), POOL * self.batch):
            pool = sorted(order[start : start + POOL * self.batch], key=self.lengths.__getitem__)
            batches.extend(pool[first : first + self.batch] for first in range(0, len(pool), self.batch))
        # The one short batch stays last: a short one in the middle would shift all that follow.
        short = [batches.pop(index) for index, batch in enumerate(batches) if len(batch) < self.batch]
        for index in torch.randperm(len(batches), generator=random).tolist():
            yield from batches[index]
        for batch in short:
            yield from batch


class Neighbours(Sampler[int]):
    """Another sampler's order, each global batch of it sorted by length: the same rows in each step, with less padding in its passes."""

    def __init__(self, rows: Any, lengths: list[int], batch: int) -> None:
        self.rows, self.lengths, self.batch = rows, lengths, batch

    def set_epoch(self, epoch: int) -> None:
        """Called by the data loader at the start of each epoch."""
        self.rows.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        order = list(self.rows)
        for start in range(0, len(order), self.batch):
            yield from sorted(order[start : start + self.batch], key=self.lengths.__getitem__)


class ThenBlanks(Sampler[int]):
    """Another sampler's order of the first `n_rows`, then the blanks behind them."""

    def __init__(self, rows: Any, n_rows: int, n_all: int) -> None:
        self.rows, self.n_rows, self.n_all = rows, n_rows, n_all

    def set_epoch(self, epoch: int) -> None:
        """Called by the data loader at the start of each epoch."""
        self.rows.set_epoch(epoch)

    def __len__(self) -> int:
        return self.n_all

    def __iter__(self) -> Iterator[int]:
        yield from self.rows
        yield from range(self.n_rows, self.n_all)

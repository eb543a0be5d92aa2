"""Rows into batches: padded, bucketed by length, padding-free, or packed.

Libraries' packer and flattening collator do the work. Padding is our own: how a tokenizer pads,
and whether it can at all, decides nothing.
"""

from collections.abc import Iterator
from typing import Any

import torch
from accelerate.data_loader import SeedableRandomSampler
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset, Sampler
from transformers import DataCollatorWithFlattening

from gapgrid.core.spec_types import Recipe
from gapgrid.engines.tokens import IGNORED

BUCKET_POOL = 8  # batches per bucketing pool
PADDING = {"input_ids": 0, "labels": IGNORED}  # the id may be any: nothing sees it


def to_dataset(examples: list[dict[str, list[int]]], recipe: Recipe) -> Any:
    """Return the examples, or, for batching packed, packs of whole documents."""
    if recipe["batching"] != "packed":
        return examples
    from datasets import Dataset as ArrowDataset
    from trl.data_utils import pack_dataset

    # Best fit decreasing, whole documents; the collator restarts positions at each, which keeps
    # them apart. The packer would cut what is longer than a pack, so a kept over-long row widens
    # all packs.
    length = max(recipe["max_length"], *(len(example["input_ids"]) for example in examples))
    return pack_dataset(ArrowDataset.from_list(examples), length, "bfd")


def pad_dataset(dataset: Any, recipe: Recipe, devices: int) -> Any:
    """Return the data set, for several devices with padding rows up to whole global batches.

    A data loader would repeat rows to give each device as many; a padding row has no trained
    token, so it adds nothing.
    """
    n_padding = -len(dataset) % recipe["global_batch"]
    return PaddedDataset(dataset, n_padding) if devices > 1 and n_padding else dataset


def sampler_of(dataset: Any, recipe: Recipe, seed: int, devices: int) -> Any:
    """Return the order in which rows are seen, the same for any number of devices.

    `dataset` comes from `pad_dataset`. None stands for the trainer's own random order. Which rows
    make up a global batch is random; within it, rows of like length share a micro-batch.
    """
    rows = dataset.rows if isinstance(dataset, PaddedDataset) else dataset
    kind, batch = recipe["batching"], recipe["global_batch"]
    if devices == 1 and kind in ("padding_free", "packed"):
        return None
    lengths = [len(example["input_ids"]) for example in rows]
    # The very sampler that the data loader of a single process makes out of None.
    sampler: Any = SeedableRandomSampler(range(len(rows)), data_seed=seed)
    if kind == "bucketed":
        sampler = BucketedSampler(lengths, batch, seed)
    elif kind == "padded":
        sampler = LengthSortedSampler(sampler, lengths, batch)
    return sampler if devices == 1 else PaddingSampler(sampler, len(rows), len(dataset))


def collator(recipe: Recipe) -> Any:
    """Return the collator of a recipe's batching."""
    if recipe["batching"] == "packed":
        return UnpackingCollator()
    if recipe["batching"] == "padding_free":
        return DataCollatorWithFlattening()  # takes input_ids and labels alone
    return pad


def pad(features: list[dict[str, Any]]) -> dict[str, Any]:
    """Return rows as one batch, padded on the right.

    There is no attention mask: under causal attention padding is not seen, and no label is on it.
    """
    return {
        key: pad_sequence([torch.tensor(row[key]) for row in features], True, value)
        for key, value in PADDING.items()
    }


class UnpackingCollator:
    """Splits packs into documents, so that the flattening collator restarts positions at each."""

    def __init__(self) -> None:
        self.collate = DataCollatorWithFlattening()

    def __call__(self, features: list[dict[str, Any]]) -> dict[str, Any]:
        documents = []
        for pack in features:
            start = 0
            for length in pack["seq_lengths"]:
                end = start + length
                documents.append({key: pack[key][start:end] for key in ("input_ids", "labels")})
                start = end
        return self.collate(documents)


class CountingCollator:
    """Adds `n_tokens`, the number of tokens that are no padding, to another collator's batch."""

    def __init__(self, collate: Any) -> None:
        self.collate = collate

    def __call__(self, features: list[dict[str, Any]]) -> dict[str, Any]:
        n_tokens = sum(
            len(feature["input_ids"])
            for feature in features
            if any(label != IGNORED for label in feature["labels"])
        )
        return {**self.collate(features), "n_tokens": n_tokens}


class PaddedDataset(Dataset[dict[str, Any]]):
    """Rows, then `n_padding` padding rows: two tokens without a label."""

    def __init__(self, rows: Any, n_padding: int) -> None:
        self.rows, self.n_padding = rows, n_padding

    def __len__(self) -> int:
        return len(self.rows) + self.n_padding

    def __getitem__(self, index: int) -> dict[str, Any]:
        if index < len(self.rows):
            return self.rows[index]
        return {"input_ids": [0, 0], "labels": [IGNORED, IGNORED], "seq_lengths": [2]}


class BucketedSampler(Sampler[int]):
    """A random order in which each batch holds rows of like length.

    Rows are drawn into random pools of batches, each pool is sorted by length, and the batches are
    shuffled: a pure function of seed and epoch, so that a resumed run sees the same batches.
    """

    def __init__(self, lengths: list[int], batch: int, seed: int) -> None:
        self.lengths, self.batch, self.seed, self.epoch = lengths, batch, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Called at the start of each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        random = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        order = torch.randperm(len(self.lengths), generator=random).tolist()
        batches: list[list[int]] = []
        for start in range(0, len(order), BUCKET_POOL * self.batch):
            pool = order[start : start + BUCKET_POOL * self.batch]
            pool.sort(key=self.lengths.__getitem__)
            batches.extend(pool[i : i + self.batch] for i in range(0, len(pool), self.batch))
        # A short batch stays last: in the middle it would shift all that follow.
        short = [batches.pop()] if batches and len(batches[-1]) < self.batch else []
        for index in torch.randperm(len(batches), generator=random).tolist():
            yield from batches[index]
        for batch in short:
            yield from batch


class _WrappingSampler(Sampler[int]):
    """What the two samplers below share: another sampler, whose epoch is theirs."""

    def __init__(self, inner: Any, length: int) -> None:
        self.inner, self.length = inner, length

    def set_epoch(self, epoch: int) -> None:
        """Called at the start of each epoch."""
        self.inner.set_epoch(epoch)

    def __len__(self) -> int:
        return self.length


class LengthSortedSampler(_WrappingSampler):
    """Another sampler's order, each global batch of it sorted by length.

    Each step has the same rows, with less padding in its micro-batches.
    """

    def __init__(self, inner: Any, lengths: list[int], batch: int) -> None:
        super().__init__(inner, len(lengths))
        self.lengths, self.batch = lengths, batch

    def __iter__(self) -> Iterator[int]:
        order = list(self.inner)
        for start in range(0, len(order), self.batch):
            yield from sorted(order[start : start + self.batch], key=self.lengths.__getitem__)


class PaddingSampler(_WrappingSampler):
    """Another sampler's order of the first `n_rows` of `n_all`, then the padding rows."""

    def __init__(self, inner: Any, n_rows: int, n_all: int) -> None:
        super().__init__(inner, n_all)
        self.n_rows = n_rows

    def __iter__(self) -> Iterator[int]:
        yield from self.inner
        yield from range(self.n_rows, self.length)

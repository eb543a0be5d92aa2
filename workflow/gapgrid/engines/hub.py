"""Everything that comes from the Hugging Face hub, pinned by revision."""

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from gapgrid.core.records import InputError, Row

SECONDS = 30  # to wait for one reply of the hub
LEFT_OUT = ["*.bin", "*.pth", "original/*"]  # the same weights in other formats


def _explained(what: str, error: Exception) -> InputError:
    first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return InputError(f"{what}: cannot be had from the hub ({type(error).__name__}: {first_line})")


@contextlib.contextmanager
def _reading(repository: str, revision: str | None, part: str = "") -> Iterator[None]:
    """Raise `InputError` for whatever fails: each of the hub's clients has its own errors."""
    try:
        yield
    except Exception as error:
        raise _explained(f"{repository}@{revision or 'main'}{part}", error) from error


def cache() -> Path:
    """Return the hub's cache folder, which is created if it does not exist."""
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def missing_bytes(repository: str, revision: str | None) -> int:
    """Return how many bytes of a model repository are still to be downloaded."""
    from huggingface_hub import snapshot_download

    with _reading(repository, revision):
        planned: Any = snapshot_download(
            repository, revision=revision, ignore_patterns=LEFT_OUT, dry_run=True
        )
    return sum(file.file_size for file in planned if file.will_download)


def snapshot(repository: str, revision: str | None) -> Path:
    """Return the folder of a model repository's files in the hub's cache, downloaded if missing."""
    from huggingface_hub import snapshot_download

    with _reading(repository, revision):
        return Path(snapshot_download(repository, revision=revision, ignore_patterns=LEFT_OUT))


def files(repository: str, revision: str | None, names: Iterable[str]) -> dict[str, Path]:
    """Return single files of a model repository by name, downloaded if missing."""
    from huggingface_hub import hf_hub_download

    with _reading(repository, revision):
        return {name: Path(hf_hub_download(repository, name, revision=revision)) for name in names}


class NoHubError(InputError):
    """The hub itself does not answer, so asking for another repository is of no use."""


def commit(kind: str, repository: str, revision: str) -> str:
    """Return the commit of a branch or tag; `kind` is model or dataset.

    Raises `NoHubError` if no hub answers, and `InputError` for a repository that it does not have
    or does not give.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    what = f"{kind} {repository}@{revision}"
    try:
        info = HfApi().repo_info(repository, revision=revision, repo_type=kind, timeout=SECONDS)
        return str(info.sha)
    except (HfHubHTTPError, HFValidationError) as error:
        raise _explained(what, error) from error
    # No network, no such host, a timeout, offline mode: each client library has its own error.
    except Exception as error:
        raise NoHubError(
            f"{_explained(what, error)}; run this where the hub can be reached, "
            "set HF_ENDPOINT to a mirror, and unset HF_HUB_OFFLINE"
        ) from error


def dataset_rows(
    repository: str, revision: str | None, split: str, configs: list[str] | None
) -> list[Row]:
    """Return all rows of a data set's split, its configurations one after the other."""
    from datasets import load_dataset

    rows: list[Row] = []
    names: list[str | None] = [*configs] if configs else [None]
    for config in names:
        with _reading(repository, revision, f" ({config or 'default'}, {split})"):
            data: Any = load_dataset(repository, config, revision=revision, split=split)
        rows.extend(dict(row) for row in data)
    return rows

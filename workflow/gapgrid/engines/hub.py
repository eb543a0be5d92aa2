"""Everything that comes from the Hugging Face hub, pinned by revision."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from gapgrid.records import InputError, Row

SECONDS = 30  # to wait for one reply of the hub


def _explained(what: str, error: Exception) -> InputError:
    first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return InputError(f"{what}: cannot be had from the hub ({type(error).__name__}: {first_line})")


LEFT_OUT = ["*.bin", "*.pth", "original/*"]  # the same weights in other formats


def cache() -> Path:
    """The hub's cache folder, made if need be."""
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def missing_bytes(repository: str, revision: str | None) -> int:
    """How many bytes of a model repository are still to be downloaded."""
    from huggingface_hub import snapshot_download

    try:
        planned: Any = snapshot_download(repository, revision=revision, ignore_patterns=LEFT_OUT, dry_run=True)
    except Exception as error:
        raise _explained(f"{repository}@{revision or 'main'}", error) from error
    return sum(file.file_size for file in planned if file.will_download)


def snapshot(repository: str, revision: str | None) -> Path:
    """Folder of a model repository's files in the hub's own cache, downloaded if need be."""
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(repository, revision=revision, ignore_patterns=LEFT_OUT))
    except Exception as error:
        raise _explained(f"{repository}@{revision or 'main'}", error) from error


def files(repository: str, revision: str | None, names: Iterable[str]) -> dict[str, Path]:
    """Single files of a model repository, by name."""
    from huggingface_hub import hf_hub_download

    try:
        return {name: Path(hf_hub_download(repository, name, revision=revision)) for name in names}
    except Exception as error:
        raise _explained(f"{repository}@{revision or 'main'}", error) from error


class NoHubError(InputError):
    """The hub itself does not answer, so asking for another repository is of no use."""


def commit(kind: str, repository: str, revision: str) -> str:
    """The commit of a branch or tag; `kind` is model or dataset.

    Raises `NoHubError` where no hub answers, and an `InputError` for a repository that it does not have or not give.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        return str(HfApi().repo_info(repository, revision=revision, repo_type=kind, timeout=SECONDS).sha)
    except (HfHubHTTPError, HFValidationError) as error:
        raise _explained(f"{kind} {repository}@{revision}", error) from error
    except Exception as error:  # no network, no such host, a timeout, offline mode: each client library has its own
        raise NoHubError(
            f"{_explained(f'{kind} {repository}@{revision}', error)}; run this where the hub can be reached, "
            "set HF_ENDPOINT to a mirror, and unset HF_HUB_OFFLINE"
        ) from error


def dataset_rows(repository: str, revision: str | None, split: str, configs: list[str] | None) -> list[Row]:
    """All rows of a data set's split, its configurations one after the other."""
    from datasets import load_dataset

    rows: list[Row] = []
    names: list[str | None] = [*configs] if configs else [None]
    for config in names:
        try:
            data: Any = load_dataset(repository, config, revision=revision, split=split)
        except Exception as error:
            raise _explained(f"{repository}@{revision or 'main'} ({config or 'default'}, {split})", error) from error
        rows.extend(dict(row) for row in data)
    return rows

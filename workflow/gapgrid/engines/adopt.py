"""A published checkpoint instead of a trained student: linked if full, merged if an adapter."""

import math
from pathlib import Path
from typing import Any

from gapgrid.core.records import InputError, atomic, read_json
from gapgrid.engines.tokens import copy_tokenizer

_SETTINGS = ("config.json", "generation_config.json")


def adopt(
    source: str,
    revision: str | None,
    base_folder: Path,
    out: Path,
    base_names: tuple[str, ...] = (),
) -> dict[str, Any]:
    """Put the checkpoint `source` (a folder, or a hub id at `revision`) at `out`; return facts.

    A full checkpoint must have the weights' names and shapes of the base; its files are linked, and
    its tokenizer is copied if it has one. A PEFT adapter must name the base in its
    adapter_config.json (one of `base_names`, the hub ids or paths it goes by, or the folder
    itself); it is merged in the base's dtype, with the base's tokenizer. Raises `InputError` for
    what is neither, belongs to another base, or does not read back.
    """
    folder = Path(source)
    if not folder.is_dir():
        from gapgrid.engines import hub

        folder = hub.snapshot(source, revision)
    if (folder / "adapter_config.json").is_file():
        return _adapter(folder, source, base_folder, out, base_names)
    return _full(folder, source, base_folder, out)


def _adapter(
    folder: Path, source: str, base: Path, out: Path, base_names: tuple[str, ...]
) -> dict[str, Any]:
    from gapgrid.engines import saving

    named = read_json(folder / "adapter_config.json").get("base_model_name_or_path") or ""
    if named not in base_names and Path(named).resolve() != base.resolve():
        expected = " or ".join(base_names) or base
        raise InputError(
            f"{source}: an adapter of '{named}', expected one of {expected}; its base differs"
        )
    if not (folder / "adapter_model.safetensors").is_file():
        raise InputError(f"{source}: no adapter_model.safetensors")
    try:
        model = saving.merged(base, folder)
    except (RuntimeError, ValueError) as error:
        raise InputError(f"{source}: does not fit {base}: {str(error).splitlines()[0]}") from error
    saving.save(model, base, out)
    return {"adopted": "adapter", "n_parameters": model.num_parameters(), "tokenizer": "base"}


def _full(folder: Path, source: str, base: Path, out: Path) -> dict[str, Any]:
    if not (folder / "config.json").is_file():
        raise InputError(
            f"{source}: neither config.json nor adapter_config.json; "
            "expected a model or a PEFT adapter"
        )
    shapes, expected = _shapes(folder, source), _shapes(base, str(base))
    names = sorted(shapes.keys() | expected.keys())
    if differing := [name for name in names if shapes.get(name) != expected.get(name)]:
        first = differing[0]
        raise InputError(
            f"{source}: not of its base: {len(differing)} tensors differ, first {first}: "
            f"{shapes.get(first, 'missing')}, expected {expected.get(first, 'none such')}"
        )
    own = (folder / "tokenizer_config.json").is_file()
    with atomic(out) as side:
        side.mkdir()
        weights = [*folder.glob("*.safetensors"), *folder.glob("*.safetensors.index.json")]
        settings = [folder / name for name in _SETTINGS if (folder / name).is_file()]
        for file in [*weights, *settings]:
            (side / file.name).symlink_to(file.resolve())
        copy_tokenizer(folder if own else base, side)
        _check_finite(side, source)
    n_parameters = sum(math.prod(shape) for shape in shapes.values())
    return {"adopted": "full", "n_parameters": n_parameters, "tokenizer": "own" if own else "base"}


def _shapes(folder: Path, source: str) -> dict[str, list[int]]:
    """Return the shape of each tensor by name, from the files' headers.

    A tied output layer counts once, as the input's.
    """
    from safetensors import safe_open

    shapes: dict[str, list[int]] = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118
                shapes[name] = list(tensors.get_slice(name).get_shape())
    if not shapes:
        raise InputError(f"{source}: no *.safetensors weights")
    if read_json(folder / "config.json").get("tie_word_embeddings"):
        shapes.pop("lm_head.weight", None)
    return shapes


def _check_finite(folder: Path, source: str) -> None:
    """Read every tensor of a folder back, one at a time; raise `InputError` for NaN or infinity."""
    import torch
    from safetensors import safe_open

    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118
                if not torch.isfinite(tensors.get_tensor(name)).all():
                    raise InputError(f"{source}: tensor {name} is not finite")

"""A published checkpoint in the place of a trained student: linked if it is a full model, merged if it is an adapter."""

from pathlib import Path
from typing import Any

from gapgrid.engines.tokens import copy_tokenizer
from gapgrid.records import InputError, atomic, read_json

_SETTINGS = ("config.json", "generation_config.json")


def adopt(source: str, revision: str | None, base_folder: Path, out: Path, base_names: tuple[str, ...] = ()) -> dict[str, Any]:
    """Put the checkpoint `source` (a local folder, or a hub id at `revision`) at `out`; returns facts for the manifest.

    A full checkpoint must have the weights' names and shapes of the base; its files are linked, and its tokenizer's
    where it brings one. A PEFT adapter must name the base (`base_names`: the hub ids or paths it goes by; or the folder
    itself) in its adapter_config.json; it is merged in the base's number format, with the base's tokenizer.
    Raises `InputError` for what is neither, belongs to another base, or does not read back.
    """
    folder = Path(source)
    if not folder.is_dir():
        from gapgrid.engines import hub

        folder = hub.snapshot(source, revision)
    if (folder / "adapter_config.json").is_file():
        return _adapter(folder, source, base_folder, out, base_names)
    return _full(folder, source, base_folder, out)


def _adapter(folder: Path, source: str, base: Path, out: Path, base_names: tuple[str, ...]) -> dict[str, Any]:
    from gapgrid.engines import saving

    settings = read_json(folder / "adapter_config.json")
    named = settings.get("base_model_name_or_path") or ""
    if named not in base_names and Path(named).resolve() != base.resolve():
        raise InputError(f"{source}: an adapter of '{named}', expected one of {' or '.join(base_names) or base}; its base differs")
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
        raise InputError(f"{source}: neither config.json nor adapter_config.json; expected a model or a PEFT adapter")
    sizes = _shapes(folder, source)
    others = _shapes(base, str(base))
    if differing := sorted(name for name in sizes.keys() | others.keys() if sizes.get(name) != others.get(name)):
        first = differing[0]
        found, expected = sizes.get(first, "missing"), others.get(first, "none such")
        raise InputError(f"{source}: not of its base: {len(differing)} tensors differ, first {first}: {found}, expected {expected}")
    own = (folder / "tokenizer_config.json").is_file()
    with atomic(out) as side:
        side.mkdir()
        for file in [*folder.glob("*.safetensors"), *folder.glob("*.safetensors.index.json")]:
            (side / file.name).symlink_to(file.resolve())
        for name in _SETTINGS:
            if (folder / name).is_file():
                (side / name).symlink_to((folder / name).resolve())
        copy_tokenizer(folder if own else base, side)
        _check_finite(side, source)
    n_parameters = sum(_product(shape) for shape in sizes.values())
    return {"adopted": "full", "n_parameters": n_parameters, "tokenizer": "own" if own else "base"}


def _shapes(folder: Path, source: str) -> dict[str, list[int]]:
    """Name and shape of each tensor, from the files' headers. A tied output layer counts once, as the input's."""
    from safetensors import safe_open

    found: dict[str, list[int]] = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as tensors:
            found.update({name: list(tensors.get_slice(name).get_shape()) for name in tensors.keys()})  # noqa: SIM118
    if not found:
        raise InputError(f"{source}: no *.safetensors weights")
    if read_json(folder / "config.json").get("tie_word_embeddings"):
        found.pop("lm_head.weight", None)
    return found


def _check_finite(folder: Path, source: str) -> None:
    """Read back every tensor of a folder, one at a time."""
    import torch
    from safetensors import safe_open

    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118
                if not torch.isfinite(tensors.get_tensor(name)).all():
                    raise InputError(f"{source}: tensor {name} is not finite")


def _product(shape: list[int]) -> int:
    product = 1
    for size in shape:
        product *= size
    return product

"""Stage `tokenizer`: the files of the tokenizer that counts tokens and that tiny students use."""

import shutil
from argparse import Namespace
from pathlib import Path
from typing import Any

from gapgrid import manifest
from gapgrid.command import run_stage, stage_parser
from gapgrid.records import InputError, write_json

FILES = ("tokenizer.json", "tokenizer_config.json")


def make(choice: dict[str, Any], folder: Path) -> None:
    """Write tokenizer.json and tokenizer_config.json of the chosen tokenizer into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    if "builtin" in choice:
        from gapgrid.demo import arithmetic

        for name, content in arithmetic.tokenizer_files().items():
            write_json(folder / name, content)
        return
    if "hub" in choice:
        from gapgrid.engines import hub

        found = hub.files(choice["hub"], choice.get("revision"), FILES)
    else:
        found = {name: Path(choice["path"]) / name for name in FILES}
    for name, file in found.items():
        if not file.is_file():
            raise InputError(f"{file}: no such file; the tokenizer of grid.yaml needs {' and '.join(FILES)}")
        shutil.copyfile(file, folder / name)


def work(args: Namespace) -> None:
    """Make the files, then the manifest."""
    make(args.spec["tokenizer"], args.manifest.parent)
    manifest.write(args.manifest, "tokenizer", args.spec, {}, list(FILES))


def main(argv: list[str] | None = None) -> int:
    """`python -m gapgrid.tokenizer --spec … MANIFEST`; the files go beside the manifest."""
    parser = stage_parser("tokenizer", __doc__)
    parser.add_argument("manifest", type=Path)
    return run_stage(parser, work, argv)


if __name__ == "__main__":
    raise SystemExit(main())

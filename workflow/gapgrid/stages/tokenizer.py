"""Stage `tokenizer`: the files of the tokenizer that counts tokens and that tiny students use."""

import shutil
from argparse import Namespace
from pathlib import Path
from typing import Any

from gapgrid.core import manifest
from gapgrid.core.records import InputError, write_json
from gapgrid.core.spec_types import TokenizerSpec
from gapgrid.core.stage_cli import run_stage, stage_parser

FILES = ("tokenizer.json", "tokenizer_config.json")


def make(entry: dict[str, Any], folder: Path) -> None:
    """Write tokenizer.json and tokenizer_config.json of grid.yaml's tokenizer into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    if "builtin" in entry:
        from gapgrid.demo import arithmetic

        for name, content in arithmetic.tokenizer_files().items():
            write_json(folder / name, content)
        return
    if "hub" in entry:
        from gapgrid.engines import hub

        files = hub.files(entry["hub"], entry.get("revision"), FILES)
    else:
        files = {name: Path(entry["path"]) / name for name in FILES}
    for name, file in files.items():
        if not file.is_file():
            needed = " and ".join(FILES)
            raise InputError(f"{file}: no such file; the tokenizer of grid.yaml needs {needed}")
        shutil.copyfile(file, folder / name)


def work(args: Namespace) -> None:
    """Write the files, then the manifest."""
    spec: TokenizerSpec = args.spec
    make(spec["tokenizer"], args.manifest.parent)
    manifest.write(args.manifest, "tokenizer", spec, {}, list(FILES))


def main(argv: list[str] | None = None) -> int:
    """`python -m gapgrid.stages.tokenizer --spec … MANIFEST`; the files go beside the manifest."""
    parser = stage_parser("tokenizer", __doc__)
    parser.add_argument("manifest", type=Path)
    return run_stage(parser, work, argv)


if __name__ == "__main__":
    raise SystemExit(main())

"""Stage `fetch`: a model of the hub into the hub's own cache, on a machine that reaches it; jobs then run offline."""

import logging
import shutil
from argparse import Namespace
from pathlib import Path

from gapgrid import manifest
from gapgrid.command import run_stage, stage_parser
from gapgrid.records import InputError

log = logging.getLogger(__name__)
GB = 1e9


def check_room(what: str, needed: int, free: int) -> None:
    """Raise an `InputError` unless `needed` bytes go into `free` ones."""
    log.info("%s: %.2f GB to fetch, %.1f GB free", what, needed / GB, free / GB)
    if needed > free:
        raise InputError(f"{what}: {needed / GB:.2f} GB to fetch, but {free / GB:.1f} GB free; make room, or set HF_HOME to another disk")


def work(args: Namespace) -> None:
    """Say how large it is, fetch it, write down which commit came and how much."""
    from gapgrid.engines import hub

    repository, revision = args.spec["hub"], args.spec.get("revision")
    cache = hub.cache()
    check_room(f"{repository}@{revision or 'main'}", hub.missing_bytes(repository, revision), shutil.disk_usage(cache).free)
    folder = hub.snapshot(repository, revision)
    files = [file for file in folder.rglob("*") if file.is_file()]
    facts = {"commit": folder.name, "n_files": len(files), "n_bytes": sum(file.stat().st_size for file in files)}
    manifest.write(args.manifest, "fetch", args.spec, {}, [], facts=facts)


def main(argv: list[str] | None = None) -> int:
    """`python -m gapgrid.fetch --spec … MANIFEST`."""
    parser = stage_parser("fetch", __doc__)
    parser.add_argument("manifest", type=Path)
    return run_stage(parser, work, argv)


if __name__ == "__main__":
    raise SystemExit(main())

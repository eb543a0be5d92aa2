"""Stage `fetch`: a model of the hub into the hub's own cache, on a machine with network access.

The jobs then run offline.
"""

import logging
import shutil
from argparse import Namespace
from pathlib import Path

from gapgrid.core import manifest
from gapgrid.core.records import InputError
from gapgrid.core.spec_types import FetchSpec
from gapgrid.core.stage_cli import run_stage, stage_parser

log = logging.getLogger(__name__)
GB = 1e9


def work(args: Namespace) -> None:
    """Check the free disk space, fetch the model, record its commit and size in the manifest."""
    from gapgrid.engines import hub

    spec: FetchSpec = args.spec
    repository, revision = spec["hub"], spec.get("revision")
    what = f"{repository}@{revision or 'main'}"
    needed = hub.missing_bytes(repository, revision) / GB
    free = shutil.disk_usage(hub.cache()).free / GB
    log.info("%s: %.2f GB to fetch, %.1f GB free", what, needed, free)
    if needed > free:
        raise InputError(
            f"{what}: {needed:.2f} GB to fetch, but {free:.1f} GB free; "
            "free some space, or set HF_HOME to another disk"
        )
    folder = hub.snapshot(repository, revision)
    sizes = [file.stat().st_size for file in folder.rglob("*") if file.is_file()]
    facts = {"commit": folder.name, "n_files": len(sizes), "n_bytes": sum(sizes)}
    manifest.write(args.manifest, "fetch", spec, {}, [], facts=facts)


def main(argv: list[str] | None = None) -> int:
    """`python -m gapgrid.stages.fetch --spec … MANIFEST`."""
    parser = stage_parser("fetch", __doc__)
    parser.add_argument("manifest", type=Path)
    return run_stage(parser, work, argv)


if __name__ == "__main__":
    raise SystemExit(main())

"""The shell in which jobs run: interpreter, code and environment, before each rule's command."""

import shlex
from pathlib import Path


def prefix(python: Path, heavy_python: Path | None, code: Path) -> str:
    """Return what stands before each job's command; any of the paths may hold spaces.

    `python` plans and runs light jobs, `heavy_python`, if given, the heavy ones; `code` is the
    folder of the package. Compute nodes ask no hub.
    """
    heavy, folder, modules = (
        shlex.quote(str(path)) for path in (heavy_python or "python", python.parent, code)
    )
    return (
        f'[ -z "$SLURM_JOB_ID" ] || export HF_HUB_OFFLINE=1; HEAVY_PYTHON={heavy}; '
        f'set -euo pipefail; export PATH={folder}:"$PATH" PYTHONPATH={modules} '
        "PYTHONUNBUFFERED=1 HF_HUB_DISABLE_PROGRESS_BARS=1 TRANSFORMERS_VERBOSITY=error "
        "TOKENIZERS_PARALLELISM=false; "
    )

"""Installs Debian packages that tests need: a browser, SLURM."""

import os
import shutil
import subprocess
from typing import NoReturn

import pytest

LOCK_SECONDS = 300  # another apt, such as that of the other tests, may be at work


class UnavailableError(Exception):
    """What this machine lacks, and why it cannot be installed."""


def skip(reason: str) -> NoReturn:
    """Skip the tests, saying why; in CI, where all of them have to run, fail them."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def install(*packages: str) -> None:
    """Install packages by apt-get. Raises `UnavailableError` with the reason if that fails."""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise UnavailableError(f"no {' '.join(packages)}, and no apt-get as root to install them")
    install = ("install", "-y", "--no-install-recommends", *packages)
    done = _apt_get(*install)
    if done.returncode:
        _apt_get("update")
        done = _apt_get(*install)
    if done.returncode:
        reason = done.stderr.strip()[-200:]
        raise UnavailableError(f"apt-get cannot install {' '.join(packages)}: {reason}")


def _apt_get(*arguments: str) -> subprocess.CompletedProcess[str]:
    wait = f"DPkg::Lock::Timeout={LOCK_SECONDS}"
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    command = ["apt-get", "-qq", "-o", wait, *arguments]
    try:
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=2 * LOCK_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UnavailableError(f"apt-get: {error}") from None

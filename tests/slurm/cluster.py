"""A real SLURM on this machine: Debian's daemons, virtual nodes, GPUs that are only counted.

Two nodes without and two with four GPUs each (partitions `cpu`, `gpu`, and `spot`, whose jobs
`urgent` ones preempt), on the loopback interface alone. The configuration has to be /etc/slurm: the
job step plugin drops SLURM_CONF from the environment. All else lies in one folder.
`python -m tests.slurm.cluster up|down` starts and stops it by hand.
"""

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests import apt

PACKAGES = ("munge", "slurmctld", "slurmd", "slurm-client")
ETC = Path("/etc/slurm")
HOME = Path("/var/lib/gapgrid-slurm")
TEMPLATES = Path(__file__).parent / "conf"
MARK = "# written by GapGrid's tests"
NODES = ("c1", "c2", "g1", "g2")
FIRST_PORT = 26810
TIMEOUT = 30  # seconds for any daemon to start or stop
NODE_TIMEOUT = 120  # seconds for all nodes to be idle or all jobs gone: a busy machine is slow


def run(*command: str, check: bool = True) -> str:
    """Return a SLURM command's output; raise `CalledProcessError` if it fails and `check`."""
    done = subprocess.run(command, capture_output=True, text=True, check=check, timeout=120)
    return done.stdout.strip()


def wait_for(condition: Callable[[], object], what: str, seconds: float = TIMEOUT) -> None:
    """Wait until `condition()` is true; a `TimeoutError` names `what` did not happen."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds} s")
        time.sleep(0.2)


def install_packages() -> None:
    """Install the packages where needed; raise `apt.UnavailableError` where that is impossible."""
    if os.geteuid() != 0:
        raise apt.UnavailableError("a SLURM of our own needs root")
    own = ETC / "slurm.conf"
    if own.exists() and MARK not in own.read_text():
        raise apt.UnavailableError(f"{own} is not ours: this machine has its own SLURM")
    missing = [name for name in PACKAGES if not is_installed(name)]
    if missing:
        install(missing)


def is_installed(package: str) -> bool:
    if shutil.which("dpkg-query") is None:
        raise apt.UnavailableError("no dpkg here: SLURM comes from Debian's packages")
    return run("dpkg-query", "-W", "-f", "${db:Status-Status}", package, check=False) == "installed"


def install(packages: list[str]) -> None:
    """Install by apt-get; a policy keeps the packages' own services from starting."""
    policy = Path("/usr/sbin/policy-rc.d")
    is_ours = not policy.exists()
    if is_ours:
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    try:
        apt.install(*packages)
    finally:
        if is_ours:
            policy.unlink()


# ---- daemons ----


def pid_of(name: str) -> int | None:
    """Return the process of a pid file of ours, if it lives; a zombie does not."""
    try:
        pid = int((HOME / "run" / f"{name}.pid").read_text())
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1]
        comm = Path(f"/proc/{pid}/comm").read_text().strip()
    except (OSError, ValueError):
        return None
    return pid if not state.startswith("Z") and comm == name.split("-")[0] else None


def launch(name: str, *command: str) -> None:
    """Start a daemon unless it runs, away from this session and its terminal."""
    if pid_of(name) is None:
        with (HOME / "log" / "start.log").open("a") as log:
            subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                check=True,
                start_new_session=True,
                timeout=TIMEOUT,
            )
        wait_for(lambda: pid_of(name), f"{name} (see {HOME}/log)")


def end(name: str, how: signal.Signals = signal.SIGTERM) -> None:
    """Stop a daemon; kill it if it does not stop."""
    pid = pid_of(name)
    if pid is None:
        return
    os.kill(pid, how)
    try:
        wait_for(lambda: pid_of(name) is None, name, 15)
    except TimeoutError:
        os.kill(pid, signal.SIGKILL)


def write_configuration() -> None:
    for folder in ("run", "log", "state"):
        (HOME / folder).mkdir(parents=True, exist_ok=True)
    HOME.chmod(0o755)
    for index in range(4):
        # /dev/null under another name: slurmd drops GPUs without a device file.
        device = HOME / "run" / f"gpu{index}"
        if not device.exists():
            os.mknod(device, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    ETC.mkdir(exist_ok=True)
    host = socket.gethostname().split(".")[0]
    ports = {f"port_{name}": str(FIRST_PORT + 1 + index) for index, name in enumerate(NODES)}
    values = {"mark": MARK, "home": str(HOME), "host": host, "port": str(FIRST_PORT), **ports}
    for name in ("slurm.conf", "gres.conf", "cgroup.conf"):
        text = (TEMPLATES / name).read_text()
        for key, value in values.items():
            text = text.replace(f"@{key}@", value)
        (ETC / name).write_text(text)


def start_munge() -> None:
    key, socket_file = HOME / "munge.key", HOME / "run" / "munge.socket"
    if not key.exists():
        key.touch(mode=0o400)
        key.write_bytes(os.urandom(128))
    files = [
        f"--key-file={key}",
        f"--pid-file={HOME}/run/munged.pid",
        f"--log-file={HOME}/log/munged.log",
        f"--seed-file={HOME}/munge.seed",
    ]
    launch("munged", "munged", "--force", f"--socket={socket_file}", *files)


def up() -> None:
    """Start what does not run yet and make every node idle again. Raises `apt.UnavailableError`."""
    install_packages()
    write_configuration()
    start_munge()
    start_controller()
    for node in NODES:
        launch(f"slurmd-{node}", "slurmd", "-N", node)
    try:
        wait_for(are_idle, "all nodes idle", NODE_TIMEOUT)
    except TimeoutError as error:
        reasons = run("sinfo", "-R", "-h", check=False)
        raise TimeoutError(f"{error}; {states()}; {reasons}") from None


def states() -> dict[str, str]:
    """Return each node's state in SLURM's words; none while the controller does not answer."""
    lines = run("sinfo", "-h", "-N", "-p", "all", "-o", "%N %T", check=False).splitlines()
    return dict(line.split() for line in lines)


def are_idle() -> bool:
    """Return whether every node is idle; resume those that are down or drained.

    At every call: a node may be set down or drained only after its daemon has reported its devices.
    """
    by_node = states()
    for node, state in by_node.items():
        if state.startswith(("down", "drain", "fail", "unknown")):
            run("scontrol", "update", f"NodeName={node}", "State=RESUME", check=False)
    return set(by_node) == set(NODES) and set(by_node.values()) == {"idle"}


def start_controller() -> None:
    launch("slurmctld", "slurmctld")
    wait_for(lambda: "UP" in run("scontrol", "ping", check=False), "slurmctld answers")


def down() -> None:
    """Cancel all jobs, stop every daemon, leave nothing behind."""
    if pid_of("slurmctld") is not None:
        clear()
    for name in [*(f"slurmd-{node}" for node in NODES), "slurmctld", "munged"]:
        end(name)
    shutil.rmtree(HOME, ignore_errors=True)
    for name in ("slurm.conf", "gres.conf", "cgroup.conf"):
        file = ETC / name
        if file.exists() and MARK in file.read_text():
            file.unlink()


def clear() -> None:
    """Cancel every job and wait until all are gone."""
    if ids := jobs():
        run("scancel", *ids, check=False)
    wait_for(lambda: not jobs(), "no jobs", NODE_TIMEOUT)


def jobs(field: str = "%A") -> list[str]:
    """Return one field of each job that has not ended."""
    return run("squeue", "-h", "-o", field, check=False).splitlines()


if __name__ == "__main__":
    {"up": up, "down": down}[sys.argv[1]]()

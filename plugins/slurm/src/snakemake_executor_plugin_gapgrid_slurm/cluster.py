"""What a cluster offers, and which requests no node of it could ever meet."""

import re
import subprocess
from typing import Any, NamedTuple


class Node(NamedTuple):
    """A node in one partition: its size whether or not it is up; minutes is the partition's limit, None without one."""

    partition: str
    is_default: bool
    cpus: int
    mem_mb: int
    minutes: int | None
    gpus: dict[str, int]
    features: list[str]


def answers() -> bool:
    """Whether a SLURM controller answers."""
    try:
        return "UP" in subprocess.run(["scontrol", "ping"], capture_output=True, text=True, check=False, timeout=30).stdout
    except subprocess.TimeoutExpired:
        return False


def offers() -> list[Node] | None:
    """Every node of every partition; None if SLURM does not answer."""
    try:
        command = ["sinfo", "-h", "-N", "-o", "%P|%c|%m|%l|%G|%f"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return [parse(line) for line in done.stdout.splitlines() if line] if done.returncode == 0 else None


def parse(line: str) -> Node:
    """One line of sinfo."""
    partition, cpus, mem_mb, limit, gres, features = line.split("|")
    gpus: dict[str, int] = {}
    for model, count in re.findall(r"gpu(?::([^:(,\d][^:(,]*))?:(\d+)", gres):
        gpus[model] = gpus.get(model, 0) + int(count)
    name, is_default = partition.rstrip("*"), partition.endswith("*")
    return Node(name, is_default, int(cpus.rstrip("+")), int(mem_mb.rstrip("+")), minutes(limit), gpus, features.split(","))


def minutes(limit: str) -> int | None:
    """`2-00:30:00` as minutes; None for `infinite`."""
    match = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", limit)
    if match is None:
        return None
    days, hours, mins, _ = (int(part or 0) for part in match.groups())
    return (days * 24 + hours) * 60 + mins


def complaints(nodes: list[Node], requests: list[tuple[str, Any, int]]) -> list[str]:
    """One line for each different request (rule, resources, threads) that can never start."""
    found: dict[str, None] = {}
    for rule, resources, threads in requests:
        text = complaint(nodes, resources, threads)
        if text:
            found[f"{rule}: {text}"] = None
    return list(found)


def complaint(nodes: list[Node], resources: Any, threads: int) -> str | None:
    """Why no node of the asked partition can ever meet a request; None if one can, or if it cannot be known."""
    name = resources.get("slurm_partition") or ",".join(sorted({node.partition for node in nodes if node.is_default}))
    if not name or resources.get("slurm_cluster") or resources.get("clusters"):
        return None
    names = str(name).split(",")
    unknown = [part for part in names if part not in {node.partition for node in nodes}]
    if unknown:
        return f"there is no partition {unknown[0]!r}; there are {', '.join(sorted({node.partition for node in nodes}))}"
    here = [node for node in nodes if node.partition in names]
    asked, best = _number(resources, "runtime"), [node.minutes for node in here]
    if None not in best and asked > max(limit for limit in best if limit is not None):
        return f"runtime {asked} minutes, but partition {name} allows {max(limit for limit in best if limit is not None)}"
    return _too_big(here, str(name), resources, threads)


def _too_big(here: list[Node], name: str, resources: Any, threads: int) -> str | None:
    """Each number on its own first, for a plain message; then all of them together on one node."""
    n_nodes = max(_number(resources, "nodes"), 1)
    model, constraint = resources.get("gpu_model") or "", resources.get("constraint") or ""
    gpus = -(-_number(resources, "gpu") // n_nodes)
    wants = {"GPUs" if not model else f"{model} GPUs": gpus, "MB of memory": _number(resources, "mem_mb"), "CPUs": threads}
    rows = []
    for node in here:
        cards = node.gpus.get(model, 0) if model else sum(node.gpus.values())
        rows.append(dict(zip(wants, (cards, node.mem_mb, node.cpus), strict=True)))
    for what, asked in wants.items():
        most = max(row[what] for row in rows)
        if asked > most:
            return f"{asked} {what}, but no node of partition {name} has more than {most}"
    if re.fullmatch(r"[\w.-]+", constraint):
        rows = [row for row, node in zip(rows, here, strict=True) if constraint in node.features]
        if not rows:
            return f"no node of partition {name} has the feature {constraint!r}"
    if not any(all(row[what] >= asked for what, asked in wants.items()) for row in rows):
        asked_for = ", ".join(f"{asked} {what}" for what, asked in wants.items())
        return f"no node of partition {name} has {asked_for} together"
    return None


def _number(resources: Any, name: str) -> int:
    """A resource that is known already, else 0: some depend on files that are not there yet."""
    value = resources.get(name)
    return value if isinstance(value, int) else 0

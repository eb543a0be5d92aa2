"""What the nodes of a cluster have, and which requests none of them could ever meet."""

import re
import subprocess
from typing import Any, NamedTuple


class Node(NamedTuple):
    """A node in one partition: its size, whether or not it is up.

    `minutes` is the partition's time limit, None without one; `gpus` counts GPUs by model, "" where
    the model is not known.
    """

    partition: str
    is_default: bool
    cpus: int
    mem_mb: int
    minutes: int | None
    gpus: dict[str, int]
    features: list[str]


def _run(*command: str) -> "subprocess.CompletedProcess[str] | None":
    """Run a command of SLURM's; None if there is no such command or it does not end."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None


def controller_answers() -> bool:
    """Return whether a SLURM controller answers."""
    done = _run("scontrol", "ping")
    return done is not None and "UP" in done.stdout


def read_nodes() -> list[Node] | None:
    """Return every node of every partition; None if SLURM does not answer."""
    done = _run("sinfo", "-h", "-N", "-o", "%P|%c|%m|%l|%G|%f")
    if done is None or done.returncode:
        return None
    return [parse(line) for line in done.stdout.splitlines() if line]


def parse(line: str) -> Node:
    """Return the node of one line of sinfo."""
    partition, cpus, mem_mb, limit, gres, features = line.split("|")
    gpus: dict[str, int] = {}
    for model, count in re.findall(r"gpu(?::([^:(,\d][^:(,]*))?:(\d+)", gres):
        gpus[model] = gpus.get(model, 0) + int(count)
    return Node(
        partition.rstrip("*"),
        partition.endswith("*"),
        int(cpus.rstrip("+")),
        int(mem_mb.rstrip("+")),
        minutes(limit),
        gpus,
        features.split(","),
    )


def minutes(limit: str) -> int | None:
    """Return a limit such as `2-00:30:00` in minutes; None for `infinite`."""
    match = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", limit)
    if match is None:
        return None
    days, hours, mins, _ = (int(part or 0) for part in match.groups())
    return (days * 24 + hours) * 60 + mins


def impossible_requests(nodes: list[Node], requests: list[tuple[str, Any, int]]) -> list[str]:
    """Return a line for each different request (rule, resources, threads) that can never start."""
    problems = [(rule, problem(nodes, *request)) for rule, *request in requests]
    return list(dict.fromkeys(f"{rule}: {text}" for rule, text in problems if text))


def problem(nodes: list[Node], resources: Any, threads: int) -> str | None:
    """Return why no node of the partition can ever meet a request.

    None if one can, or if it cannot be known.
    """
    defaults = ",".join(sorted({node.partition for node in nodes if node.is_default}))
    name = str(resources.get("slurm_partition") or defaults)
    if not name or resources.get("slurm_cluster") or resources.get("clusters"):
        return None
    partitions = {node.partition for node in nodes}
    for part in name.split(","):
        if part not in partitions:
            return f"there is no partition {part!r}; there are {', '.join(sorted(partitions))}"
    of_partition = [node for node in nodes if node.partition in name.split(",")]
    runtime = _number(resources, "runtime")
    limits = [node.minutes for node in of_partition if node.minutes is not None]
    if len(limits) == len(of_partition) and runtime > max(limits):
        return f"runtime {runtime} minutes, but partition {name} allows {max(limits)}"
    return _too_large(of_partition, name, resources, threads)


def _too_large(nodes: list[Node], name: str, resources: Any, threads: int) -> str | None:
    """Return which number is too large for every node, or that all together are too much."""
    model, constraint = resources.get("gpu_model") or "", resources.get("constraint") or ""
    gpus = f"{model} GPUs" if model else "GPUs"
    requested = {
        gpus: -(-_number(resources, "gpu") // max(_number(resources, "nodes"), 1)),
        "MB of memory": _number(resources, "mem_mb"),
        "CPUs": threads,
    }
    offers = []
    for node in nodes:
        n_gpus = node.gpus.get(model, 0) if model else sum(node.gpus.values())
        offers.append({gpus: n_gpus, "MB of memory": node.mem_mb, "CPUs": node.cpus})
    for what, number in requested.items():
        most = max(offer[what] for offer in offers)
        if number > most:
            return f"{number} {what}, but no node of partition {name} has more than {most}"
    if re.fullmatch(r"[\w.-]+", constraint):
        pairs = zip(offers, nodes, strict=True)
        offers = [offer for offer, node in pairs if constraint in node.features]
        if not offers:
            return f"no node of partition {name} has the feature {constraint!r}"
    if not any(all(offer[what] >= requested[what] for what in requested) for offer in offers):
        numbers = ", ".join(f"{number} {what}" for what, number in requested.items())
        return f"no node of partition {name} has {numbers} together"
    return None


def _number(resources: Any, name: str) -> int:
    """Return a resource, or 0 if it is not known yet: some depend on files of earlier jobs."""
    value = resources.get(name)
    return value if isinstance(value, int) else 0

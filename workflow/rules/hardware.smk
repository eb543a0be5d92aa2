# Resource functions: what jobs ask for, by size of student. None of it decides a result.


def hardware(key, default=None):
    """A resource function: what jobs of a student of this size ask for."""

    def of_student(wildcards):
        return GRID["hardware"][GRID["models"][wildcards.model]["size"]].get(key, default)

    return of_student


def gpus_of_all_nodes(wildcards):
    """A resource function: the GPUs of a training job, on all its nodes together."""
    return hardware("gpus")(wildcards) * hardware("nodes", 1)(wildcards)


def srun_on_several_nodes(wildcards):
    """A resource function: in a SLURM job of several nodes, `srun`, which starts a step on all.

    Without it the job would be a step of one node that asks for the GPUs of all. It has no
    meaning when the job is submitted.
    """
    return "srun" if "SLURM_JOB_ID" in os.environ and hardware("nodes", 1)(wildcards) > 1 else None


def growing(key):
    """A resource function: the same, and as much again with each attempt after a failed one."""

    def of_attempt(wildcards, attempt):
        return attempt * hardware(key)(wildcards)

    return of_attempt


def pretraining(key, linked):
    """A resource function: what pretraining a tiny student asks for.

    Any other student is only linked into place.
    """

    def of_attempt(wildcards, attempt):
        if GRID["models"][wildcards.model]["kind"] != "tiny":
            return linked
        return (attempt if key in ("mem_mb", "runtime") else 1) * hardware(key)(wildcards)

    return of_attempt


def tensor_parallel(wildcards):
    return hardware("tensor_parallel")(wildcards) or max(1, hardware("gpus")(wildcards))


def judge_hardware(key):
    """A resource function: what the judge's job asks for.

    That is its size of hardware.yaml, or a core where it loads no judge itself.
    """
    light = {"gpus": 0, "cpus": 1, "mem_mb": 1000, "runtime": 60}
    is_loaded = GRID["judge"]["backend"] in specs.LOADING_BACKENDS
    size = GRID["judge"]["size"] if is_loaded else None
    needed = GRID["hardware"][size][key] if size else light[key]

    def of_attempt(wildcards, attempt):
        return attempt * needed if key in ("mem_mb", "runtime") else needed

    return of_attempt

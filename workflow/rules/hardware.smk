# Resource functions: what jobs ask for, by size of student. None of it decides a result.


def hardware(key, default=None):
    """A resource function: what jobs of a student of this size ask for."""

    def of_student(wildcards):
        return GRID["hardware"][GRID["models"][wildcards.model]["size"]].get(key, default)

    return of_student


def all_cards(wildcards):
    """A resource function: the GPUs of a training job, on all its machines together."""
    return hardware("gpus")(wildcards) * hardware("nodes", 1)(wildcards)


def across_machines(wildcards):
    """A resource function: within a SLURM job of several machines, that its own command starts the step on all of them.

    Without it the job would run as a step of one machine that asks for the GPUs of all. When submitting it has no meaning.
    """
    return "srun" if "SLURM_JOB_ID" in os.environ and hardware("nodes", 1)(wildcards) > 1 else None


def growing(key):
    """A resource function: the same, and as much again with each attempt after a failed one."""

    def of_attempt(wildcards, attempt):
        return attempt * hardware(key)(wildcards)

    return of_attempt


def pretraining(key, linked):
    """A resource function: what a tiny student's pretraining asks for; any other student is only linked into place."""

    def of_attempt(wildcards, attempt):
        if GRID["models"][wildcards.model]["kind"] != "tiny":
            return linked
        return (attempt if key in ("mem_mb", "runtime") else 1) * hardware(key)(wildcards)

    return of_attempt


def tensor_parallel(wildcards):
    return hardware("tensor_parallel")(wildcards) or max(1, hardware("gpus")(wildcards))

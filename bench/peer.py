"""Compare training here with LLaMA-Factory: token ids, label masks, losses, tokens per second.

    python bench/peer.py --peer PATH_TO_VENV_PYTHON --tokenizer FOLDER --rows FILE…

peer.md says how to make the peer's environment, and shows the results. Each side is one process of
one thread that takes jobs from here in turn, so that speeds are measured side by side: real
(non-padding) tokens per second inside the training loop, checkpoints not counted. `--runs 0` leaves
the speeds out.
"""

import argparse
import gc
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

DONE = "=== done"
LOGGED = ("loss", "grad_norm", "learning_rate")
COLUMNS = {  # ours -> columns of the rows
    "prompt": ("prompt", "problem"),
    "response": ("response", "solution", "generated_solution"),
}
SEED = 7
MICRO = 2  # sequences per forward pass, as in the paper; the rest of the batch is accumulated
RECIPE = {
    "method": "full",
    "learning_rate": 2e-3,
    "epochs": 1,
    "global_batch": 8,
    "warmup_ratio": 0.1,
    "weight_decay": 0.01,
    "adam_betas": [0.9, 0.98],
}
# The same in the peer's options; all others are left at their defaults.
PEER = """stage: sft, do_train: true, finetuning_type: full, dataset: rows, template: qwen,
    overwrite_cache: true, use_cpu: true, logging_steps: 1, save_strategy: "no", report_to: none,
    disable_tqdm: true, lr_scheduler_type: cosine, warmup_steps: {warmup_steps},
    model_name_or_path: {model}, dataset_dir: {scratch}, output_dir: {scratch}/out,
    cutoff_len: {max_length}, seed: {seed}, data_seed: {seed},
    per_device_train_batch_size: {micro}, gradient_accumulation_steps: {accumulation},
    num_train_epochs: {epochs}, learning_rate: {learning_rate}, weight_decay: {weight_decay},
    adam_beta1: {adam_betas[0]}, adam_beta2: {adam_betas[1]}"""
# What makes the peer like ours, which recomputes nothing.
PLAIN = {"disable_gradient_checkpointing": True}

# ---- what a side does, in its own process ----


def make_ours(job: dict[str, Any]) -> dict[str, Any]:
    """Write a tiny Qwen2 with the tokenizer's whole vocabulary, from a seed."""
    from transformers import AutoModelForCausalLM

    from gapgrid.engines import tiny

    hidden, layers = job["hidden"], job["layers"]
    shape = {"hidden_size": hidden, "layers": layers, "heads": 2, "ffn": 4 * hidden}
    tiny.build(shape, Path(job["tokenizer"]), SEED, Path(job["model"]))
    model = AutoModelForCausalLM.from_pretrained(job["model"])
    return {"parameters": model.num_parameters(), **shape}


def clock() -> Any:
    """Return a callback that keeps each step's loss and the loop's seconds without checkpoints."""
    import transformers.trainer
    from transformers import TrainerCallback

    class Clock(TrainerCallback):
        def __init__(self) -> None:
            self.rows: list[dict[str, float]] = []
            self.wall = self.cpu = 0.0
            self.last = (0.0, 0.0)

        def on_train_begin(self, *_: Any, **__: Any) -> None:
            self.last = (time.perf_counter(), time.process_time())

        on_save = on_train_begin

        def on_step_end(self, *_: Any, **__: Any) -> None:
            wall, cpu = time.perf_counter(), time.process_time()
            self.wall += wall - self.last[0]
            self.cpu += cpu - self.last[1]
            self.last = (wall, cpu)

        def on_log(
            self, args: Any, state: Any, control: Any, logs: dict[str, float], **_: Any
        ) -> None:
            if "loss" in logs:
                self.rows.append({key: logs[key] for key in LOGGED})

    timed = Clock()
    callbacks = transformers.trainer.DEFAULT_CALLBACKS
    callbacks[:] = [*callbacks[:1], timed]
    return timed


def our_rows(job: dict[str, Any]) -> list[dict[str, str]]:
    """Return the job's rows as our stages pass them on."""
    rows = json.loads(Path(job["rows"]).read_text())
    return [{"id": str(index), **row} for index, row in enumerate(rows)]


def encode_ours(job: dict[str, Any]) -> list[dict[str, list[int]]]:
    """Return token ids and labels as our engine makes them."""
    from gapgrid.core.spec_types import with_defaults
    from gapgrid.engines.tokens import encode, load_tokenizer

    recipe = with_defaults("recipe", job["recipe"])
    return encode(our_rows(job), load_tokenizer(job["model"]), recipe).examples


def train_ours(job: dict[str, Any]) -> dict[str, Any]:
    """Fine-tune with our engine, as the stage does."""
    from gapgrid.engines import trainer

    timed, out = clock(), Path(job["scratch"])
    spec = {"recipe": job["recipe"], "seed": SEED}
    files = [out / name for name in ("model", "metrics.jsonl", "scratch")]
    trainer.fine_tune(Path(job["model"]), our_rows(job), spec, *files, job["micro"])
    return vars(timed)


def peer_arguments(job: dict[str, Any]) -> dict[str, Any]:
    """Return the job's recipe and data as the peer takes them."""
    import yaml

    recipe, folder = job["recipe"], Path(job["scratch"])
    folder.mkdir(parents=True, exist_ok=True)
    entry = {"file_name": job["rows"], "columns": {"prompt": "prompt", "response": "response"}}
    (folder / "dataset_info.json").write_text(json.dumps({"rows": entry}))
    steps = max(1, int(job["n_rows"] / recipe["global_batch"] * recipe["epochs"]))
    counts = {
        "warmup_steps": int(recipe["warmup_ratio"] * steps),
        "accumulation": recipe["global_batch"] // job["micro"],
        "seed": SEED,
    }
    options = yaml.safe_load("{" + PEER.format(**job, **recipe, **counts) + "}")
    return {**options, **job.get("peer", {})}


def encode_peer(job: dict[str, Any]) -> list[dict[str, list[int]]]:
    """Return token ids and labels as the peer passes them to its trainer."""
    from llamafactory.data import get_dataset, get_template_and_fix_tokenizer
    from llamafactory.hparams import get_train_args
    from llamafactory.model import load_tokenizer

    model, data, training, _, _ = get_train_args(peer_arguments(job))
    module = load_tokenizer(model)
    template = get_template_and_fix_tokenizer(module["tokenizer"], data)
    dataset = get_dataset(template, model, data, training, stage="sft", **module)["train_dataset"]
    return [{"input_ids": row["input_ids"], "labels": row["labels"]} for row in dataset]


def train_peer(job: dict[str, Any]) -> dict[str, Any]:
    """Fine-tune with the peer, by the function that its command line calls."""
    from llamafactory.train.tuner import run_exp

    timed = clock()
    run_exp(peer_arguments(job))
    return vars(timed)


def serve() -> None:
    """Run the jobs on standard input, one a line; write each result to its file."""
    import torch

    torch.set_num_threads(1)
    for line in sys.stdin:
        job = json.loads(line)
        Path(job["out"]).write_text(json.dumps(globals()[job["do"]](job)))
        gc.collect()
        print(DONE, flush=True)


# ---- the two sides, from here ----


class Side:
    """One side's process."""

    def __init__(self, name: str, python: str, folder: Path) -> None:
        self.name, self.folder, self.n = name, folder / name, 0
        self.folder.mkdir()
        variables = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        variables["HF_DATASETS_CACHE"] = str(self.folder / "cache")
        self.log = (self.folder / "log").open("w", buffering=1)
        self.process = subprocess.Popen(
            [python, __file__, "--serve"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            env={**os.environ, **variables},
        )

    def do(self, what: str, **job: Any) -> Any:
        """Run one job and return its result."""
        self.n, start = self.n + 1, time.perf_counter()
        out, scratch = self.folder / f"{self.n}.json", self.folder / f"scratch-{self.n}"
        job |= {"do": f"{what}_{self.name}", "out": str(out), "scratch": str(scratch)}
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            if line.rstrip() == DONE:
                print(f"[{what} {self.name}: {time.perf_counter() - start:.0f} s]", file=sys.stderr)
                return json.loads(out.read_text())
            self.log.write(line)
        log = (self.folder / "log").read_text()
        raise SystemExit(f"the {self.name} side stopped:\n{log[-3000:]}")


def read_rows(files: list[Path]) -> list[dict[str, str]]:
    """Return prompt and response of all rows, from the files in turn, so that kinds are mixed."""
    tables = [
        [json.loads(line) for line in file.read_text().splitlines() if line.strip()]
        for file in files
    ]
    rows = filter(None, chain(*zip_longest(*tables)))
    return [
        {key: next(row[name] for name in names if name in row) for key, names in COLUMNS.items()}
        for row in rows
    ]


def rows_part(ours: Side, peer: Side, job: dict[str, Any], cutoff: int) -> list[int]:
    """Print whether rows are equal in full and at the cutoff; return our rows' lengths."""
    whole, cut = (
        {"recipe": {**RECIPE, "max_length": length}, "micro": 1, "n_rows": 8, **job}
        for length in (1 << 15, cutoff)
    )
    our_whole, peer_whole, our_cut, peer_cut = (
        side.do("encode", **encoded) for encoded in (whole, cut) for side in (ours, peer)
    )
    pairs = list(zip(our_whole, peer_whole, strict=True))
    lengths = [len(row["input_ids"]) for row in our_whole]
    for name in ("input_ids", "labels"):
        different = [index for index, (a, b) in enumerate(pairs) if a[name] != b[name]]
        counts = f"{len(pairs)} rows, {sum(lengths)} tokens"
        n_equal = len(pairs) - len(different)
        print(f"{counts}: {name} equal in {n_equal}, different: {different}")
    endings = sorted({tuple(row["labels"][-2:]) for row in our_whole + peer_whole})
    print(f"the last two labels of every row: {endings}")
    longer = [index for index, length in enumerate(lengths) if length > cutoff]
    is_equal = our_cut == [row for index, row in enumerate(peer_cut) if index not in {*longer}]
    dropped = f"{len(longer)} over-long ones are dropped here and cut there"
    print(f"at {cutoff}: {len(our_cut)} rows fit, equal: {is_equal}; {dropped}:")
    longer_pairs = [(our_whole[index], peer_cut[index]) for index in longer]
    starts = sum(b["input_ids"] == a["input_ids"][:cutoff] for a, b in longer_pairs)
    ends = sum(b["labels"][-2:] == a["labels"][-2:] for a, b in longer_pairs)
    first = f"{starts} are the first {cutoff} tokens of the row"
    print(f"  {first}, {ends} still end with the end-of-text token")
    return lengths


def largest(a: list[dict[str, float]], b: list[dict[str, float]]) -> str:
    """Return the largest difference of two curves, in what is logged at each step."""
    pairs = list(zip(a, b, strict=True))
    differences = {key: max(abs(x[key] - y[key]) for x, y in pairs) for key in LOGGED}
    return ", ".join(f"{key} {value:.1e}" for key, value in differences.items())


def padding_part(lengths: list[int]) -> None:
    """Print the positions computed per real token: the cost of padding over many random orders."""

    def cost(order: list[int], micro: int) -> float:
        passes = [order[start : start + micro] for start in range(0, len(order), micro)]
        return sum(len(rows) * max(rows) for rows in passes) / sum(order)

    rng, costs = random.Random(SEED), []
    for micro in (1, 2, 4, 8):
        order = list(chain(*(rng.sample(lengths, len(lengths)) for _ in range(20))))
        batches = [sorted(order[start : start + 8]) for start in range(0, len(order), 8)]
        costs.append(f"{micro}: {cost(order, micro):.2f} ({cost([*chain(*batches)], micro):.2f})")
    print(f"positions per real token if {len(lengths)} rows are padded, by sequences a pass:")
    print(", ".join(costs))
    print("(in brackets: each global batch of 8 is sorted by length before it is split, as here)")


def losses_part(ours: Side, peer: Side, job: dict[str, Any]) -> None:
    """Print per-step losses side by side, and ours with another micro-batch."""
    curves = {
        "here": ours.do("train", micro=MICRO, **job)["rows"],
        "there": peer.do("train", micro=MICRO, peer=PLAIN, **job)["rows"],
        "here, 4 a pass": ours.do("train", micro=2 * MICRO, **job)["rows"],
    }
    print("step   learning rate  " + "".join(f"{name:>17}" for name in curves))
    for step, rows in enumerate(zip(*curves.values(), strict=True), 1):
        losses = "".join(f"{row['loss']:17.7f}" for row in rows)
        print(f"{step:4}   {rows[0]['learning_rate']:13.3e}  {losses}")
    for name in list(curves)[1:]:
        print(f"largest difference, here and {name}: {largest(curves['here'], curves[name])}")
    # All rows in one step.
    recipe = {**job["recipe"], "global_batch": 1000, "batching": "packed"}
    packed = {**job, "micro": 1, "recipe": recipe}
    ours_packed = ours.do("train", **packed)["rows"]
    peer_packed = peer.do("train", **packed, peer={"neat_packing": True, **PLAIN})["rows"]
    loss = f"loss {ours_packed[0]['loss']:.7f} here"
    difference = largest(ours_packed, peer_packed)
    print(f"all rows packed into one step: {loss}; largest difference: {difference}")


BATCHINGS = ("padded", "bucketed", "padding_free", "packed")
# Name -> micro-batch, changes of our recipe, options of the peer.
VARIANTS: dict[str, tuple[int, dict[str, Any], dict[str, Any]]] = {
    "there, like for like": (MICRO, {}, PLAIN),
    "there, defaults": (8, {}, {}),  # eight sequences a pass, activations recomputed
    "there, packed": (1, {}, {"neat_packing": True, **PLAIN}),
    **{f"here, {kind}": (MICRO, {"batching": kind}, {}) for kind in BATCHINGS},
}


def speeds_part(sides: dict[str, Side], job: dict[str, Any], runs: int) -> None:
    """Print real tokens per second.

    Each round runs every variant once, every other round backwards; ratios are taken in a round.
    """
    results: dict[str, list[Any]] = {name: [] for name in VARIANTS}
    for number in range(runs):
        for name in list(VARIANTS)[:: -1 if number % 2 else 1]:
            micro, changes, options = VARIANTS[name]
            recipe = {**job["recipe"], **changes}
            variant = {**job, "recipe": recipe, "micro": micro, "peer": options}
            results[name].append(sides[name.split(",")[0]].do("train", **variant))
    for name, rounds in results.items():
        wall, cpu = (
            job["n_tokens"] / statistics.median(result[measure] for result in rounds)
            for measure in ("wall", "cpu")
        )
        speeds = f"{wall:6.0f} tokens/s, {cpu:6.0f} tokens per CPU-second"
        print(f"{name:21} {speeds}, {len(rounds[0]['rows'])} steps")
    for name in ("there, like for like", "there, defaults"):
        difference = largest(results["here, padded"][0]["rows"], results[name][0]["rows"])
        print(f"largest difference, here, padded and {name}: {difference}")
    pairs = [("padded", "like for like"), ("packed", "packed")]
    for ours, other in [*pairs, *((kind, "defaults") for kind in BATCHINGS)]:
        rounds = list(zip(results[f"here, {ours}"], results[f"there, {other}"], strict=True))
        for measure in ("wall", "cpu"):
            ratios = [b[measure] / a[measure] for a, b in rounds]
            median, low, high = statistics.median(ratios), min(ratios), max(ratios)
            line = f"{ours:12} / {other:13} {measure:4} {median:.2f} [{low:.2f}, {high:.2f}]"
            print(line, flush=True)


def main() -> None:
    """Compare rows, losses and speeds."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    text = "The Python of the peer's environment."
    parser.add_argument("--peer", required=True, help=text)
    text = "A folder with tokenizer.json and tokenizer_config.json."
    parser.add_argument("--tokenizer", required=True, type=Path, help=text)
    text = "JSON lines with problem and response."
    parser.add_argument("--rows", required=True, type=Path, nargs="+", help=text)
    counts = {"cutoff": 2048, "loss-rows": 40, "loss-longest": 512, "speed-rows": 32}
    counts |= {"speed-longest": 512, "runs": 3, "hidden": 64, "layers": 2}
    for name, value in counts.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        ours, peer = Side("ours", sys.executable, folder), Side("peer", args.peer, folder)
        model = {
            "model": str(folder / "model"),
            "tokenizer": str(args.tokenizer.resolve()),
            "hidden": args.hidden,
            "layers": args.layers,
        }
        (folder / "rows.json").write_text(json.dumps(rows := read_rows(args.rows)))
        print(ours.do("make", **model))
        lengths = rows_part(ours, peer, {**model, "rows": str(folder / "rows.json")}, args.cutoff)
        padding_part([length for length in lengths if length <= args.cutoff])

        def job(name: str, n: int, longest: int, batch: int) -> dict[str, Any]:
            chosen = [index for index, length in enumerate(lengths) if length <= longest][:n]
            (folder / name).write_text(json.dumps([rows[index] for index in chosen]))
            recipe = {**RECIPE, "max_length": longest, "global_batch": batch}
            counts = {"n_rows": len(chosen), "n_tokens": sum(lengths[index] for index in chosen)}
            print(f"{name}: {counts}, longest {longest}, global batch {batch}")
            return {**model, "rows": str(folder / name), "recipe": recipe, **counts}

        losses_part(ours, peer, job("losses.json", args.loss_rows, args.loss_longest, 4))
        if args.runs:
            speeds = job("speeds.json", args.speed_rows, args.speed_longest, 8)
            speeds_part({"here": ours, "there": peer}, speeds, args.runs)
        ours.process.communicate()
        peer.process.communicate()


if __name__ == "__main__":
    serve() if "--serve" in sys.argv else main()

"""Does it train the same as LLaMA-Factory, and how fast? Token ids, label masks, losses and tokens per second of both.

    python bench/peer.py --peer PATH_TO_VENV_PYTHON --tokenizer FOLDER --rows FILE…

peer.md says how to make the peer's environment and what was found. Each side is one process of one thread that takes jobs
from here in turn, so that speeds are measured side by side: real (non-padding) tokens per second inside the training
loop, checkpoints not counted. `--runs 0` leaves the speeds out.
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
NAMES = {"prompt": ("prompt", "problem"), "response": ("response", "solution", "generated_solution")}  # columns of the rows
SEED = 7
MICRO = 2  # sequences a pass, as in the paper; the rest of the global batch is accumulated
RECIPE = {"method": "full", "learning_rate": 2e-3, "epochs": 1, "global_batch": 8, "warmup_ratio": 0.1}
RECIPE |= {"weight_decay": 0.01, "adam_betas": [0.9, 0.98]}
# The same in the peer's words. What is not here is left at its default.
PEER = """stage: sft, do_train: true, finetuning_type: full, dataset: rows, template: qwen, overwrite_cache: true, use_cpu: true,
    logging_steps: 1, save_strategy: "no", report_to: none, disable_tqdm: true, lr_scheduler_type: cosine, warmup_steps: {warmup_steps},
    model_name_or_path: {model}, dataset_dir: {scratch}, output_dir: {scratch}/out, cutoff_len: {max_length}, seed: {seed},
    data_seed: {seed}, per_device_train_batch_size: {micro}, gradient_accumulation_steps: {passes}, num_train_epochs: {epochs},
    learning_rate: {learning_rate}, weight_decay: {weight_decay}, adam_beta1: {adam_betas[0]}, adam_beta2: {adam_betas[1]}"""
PLAIN = {"disable_gradient_checkpointing": True}  # what makes the peer like ours, which recomputes nothing

# ---- what a side does, in its own process ----


def make_ours(job: dict[str, Any]) -> dict[str, Any]:
    """A tiny Qwen2 with the tokenizer's whole vocabulary, from a seed."""
    from transformers import AutoModelForCausalLM

    from gapgrid.engines import tiny

    shape = {"hidden_size": job["hidden"], "layers": job["layers"], "heads": 2, "ffn": 4 * job["hidden"]}
    tiny.build(shape, Path(job["tokenizer"]), SEED, Path(job["model"]))
    return {"parameters": AutoModelForCausalLM.from_pretrained(job["model"]).num_parameters(), **shape}


def clock() -> Any:
    """A callback that keeps each step's loss and adds up the loop's seconds without the writing of checkpoints."""
    import transformers.trainer
    from transformers import TrainerCallback

    class Clock(TrainerCallback):
        def __init__(self) -> None:
            self.rows: list[dict[str, float]] = []
            self.wall, self.cpu, self.mark = 0.0, 0.0, (0.0, 0.0)

        def on_train_begin(self, *_: Any, **__: Any) -> None:
            self.mark = (time.perf_counter(), time.process_time())

        on_save = on_train_begin

        def on_step_end(self, *_: Any, **__: Any) -> None:
            now = (time.perf_counter(), time.process_time())
            self.wall, self.cpu = self.wall + now[0] - self.mark[0], self.cpu + now[1] - self.mark[1]
            self.mark = now

        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **_: Any) -> None:
            if "loss" in logs:
                self.rows.append({key: logs[key] for key in ("loss", "grad_norm", "learning_rate")})

    made = Clock()
    transformers.trainer.DEFAULT_CALLBACKS[:] = [*transformers.trainer.DEFAULT_CALLBACKS[:1], made]
    return made


def our_rows(job: dict[str, Any]) -> list[dict[str, str]]:
    """The job's rows as our stages hand them on."""
    return [{"id": str(index), **row} for index, row in enumerate(json.loads(Path(job["rows"]).read_text()))]


def encode_ours(job: dict[str, Any]) -> list[dict[str, list[int]]]:
    """Token ids and labels as our engine makes them."""
    from gapgrid.engines.tokens import encode, load_tokenizer

    return encode(our_rows(job), load_tokenizer(job["model"]), job["recipe"]).examples


def train_ours(job: dict[str, Any]) -> dict[str, Any]:
    """Fine-tune with our engine, as the stage does."""
    from gapgrid.engines import trainer

    timed, out, spec = clock(), Path(job["scratch"]), {"recipe": job["recipe"], "seed": SEED}
    trainer.fine_tune(Path(job["model"]), our_rows(job), spec, out / "model", out / "metrics.jsonl", out / "scratch", job["micro"])
    return vars(timed)


def peer_arguments(job: dict[str, Any]) -> dict[str, Any]:
    """The job's recipe and data as the peer takes them."""
    import yaml

    recipe, folder = job["recipe"], Path(job["scratch"])
    folder.mkdir(parents=True, exist_ok=True)
    entry = {"file_name": job["rows"], "columns": {"prompt": "prompt", "response": "response"}}
    (folder / "dataset_info.json").write_text(json.dumps({"rows": entry}))
    steps = max(1, int(job["n_rows"] / recipe["global_batch"] * recipe["epochs"]))
    counts = {"warmup_steps": int(recipe["warmup_ratio"] * steps), "passes": recipe["global_batch"] // job["micro"], "seed": SEED}
    return {**yaml.safe_load("{" + PEER.format(**job, **recipe, **counts) + "}"), **job.get("peer", {})}


def encode_peer(job: dict[str, Any]) -> list[dict[str, list[int]]]:
    """Token ids and labels as the peer hands them to its trainer."""
    from llamafactory.data import get_dataset, get_template_and_fix_tokenizer
    from llamafactory.hparams import get_train_args
    from llamafactory.model import load_tokenizer

    model, data, training, _, _ = get_train_args(peer_arguments(job))
    module = load_tokenizer(model)
    template = get_template_and_fix_tokenizer(module["tokenizer"], data)
    found = get_dataset(template, model, data, training, stage="sft", **module)["train_dataset"]
    return [{"input_ids": row["input_ids"], "labels": row["labels"]} for row in found]


def train_peer(job: dict[str, Any]) -> dict[str, Any]:
    """Fine-tune with the peer, by the function that its command line calls."""
    from llamafactory.train.tuner import run_exp

    timed = clock()
    run_exp(peer_arguments(job))
    return vars(timed)


def serve() -> None:
    """Take jobs from standard input, one a line; write each result to its file."""
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
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(self.folder / "cache")}
        self.log = (self.folder / "log").open("w", buffering=1)
        self.process = subprocess.Popen(
            [python, __file__, "--serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True, env=environment
        )

    def do(self, what: str, **job: Any) -> Any:
        """Run one job and return its result."""
        self.n, start = self.n + 1, time.perf_counter()
        out, scratch = self.folder / f"{self.n}.json", self.folder / f"scratch-{self.n}"
        self.process.stdin.write(json.dumps({**job, "do": f"{what}_{self.name}", "out": str(out), "scratch": str(scratch)}) + "\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            if line.rstrip() == DONE:
                print(f"[{what} {self.name}: {time.perf_counter() - start:.0f} s]", file=sys.stderr)
                return json.loads(out.read_text())
            self.log.write(line)
        raise SystemExit(f"the {self.name} side stopped:\n" + (self.folder / "log").read_text()[-3000:])


def read_rows(files: list[Path]) -> list[dict[str, str]]:
    """Prompt and response of all rows, taken from the files in turn, so that any first part holds all kinds."""
    tables = [[json.loads(line) for line in file.read_text().splitlines() if line.strip()] for file in files]
    mixed = filter(None, chain(*zip_longest(*tables)))
    return [{to: next(row[name] for name in names if name in row) for to, names in NAMES.items()} for row in mixed]


def rows_part(ours: Side, peer: Side, job: dict[str, Any], cutoff: int) -> list[int]:
    """Row equality in full and at the cutoff; returns our rows' lengths."""
    whole, cut = ({"recipe": {**RECIPE, "max_length": length}, "micro": 1, "n_rows": 8, **job} for length in (1 << 15, cutoff))
    mine, theirs, kept, short = (side.do("encode", **asked) for asked in (whole, cut) for side in (ours, peer))
    pairs, lengths = list(zip(mine, theirs, strict=True)), [len(row["input_ids"]) for row in mine]
    for name in ("input_ids", "labels"):
        different = [index for index, (a, b) in enumerate(pairs) if a[name] != b[name]]
        print(f"{len(pairs)} rows, {sum(lengths)} tokens: {name} equal in {len(pairs) - len(different)}, different: {different}")
    print(f"the last two labels of every row: {sorted({tuple(row['labels'][-2:]) for row in mine + theirs})}")
    longer = {index for index, length in enumerate(lengths) if length > cutoff}
    same = kept == [row for index, row in enumerate(short) if index not in longer]
    print(f"at {cutoff}: {len(kept)} rows fit, equal: {same}; {len(longer)} over-long ones are dropped here and cut there:")
    begins = sum(short[index]["input_ids"] == mine[index]["input_ids"][:cutoff] for index in longer)
    ends = sum(short[index]["labels"][-2:] == mine[index]["labels"][-2:] for index in longer)
    print(f"  {begins} are the first {cutoff} tokens of the row, {ends} still end with the end-of-text token")
    return lengths


def largest(a: list[dict[str, float]], b: list[dict[str, float]]) -> str:
    """The largest difference of two curves, in what is logged at each step."""
    pairs = list(zip(a, b, strict=True))
    return ", ".join(f"{key} {max(abs(x[key] - y[key]) for x, y in pairs):.1e}" for key in ("loss", "grad_norm", "learning_rate"))


def waste_part(lengths: list[int]) -> None:
    """Positions computed per real token over many rows in random order: what padding costs at best."""
    rng, means = random.Random(SEED), []
    for micro in (1, 2, 4, 8):
        order = list(chain(*(rng.sample(lengths, len(lengths)) for _ in range(20))))
        passes = [order[start : start + micro] for start in range(0, len(order), micro)]
        means.append(f"{micro}: {sum(len(one) * max(one) for one in passes) / sum(order):.2f}")
        ordered = [one for start in range(0, len(order), 8) for one in sorted(order[start : start + 8])]
        passes = [ordered[start : start + micro] for start in range(0, len(ordered), micro)]
        means[-1] += f" ({sum(len(one) * max(one) for one in passes) / sum(order):.2f})"
    print(f"positions per real token if {len(lengths)} rows are padded, by sequences a pass: {', '.join(means)}")
    print("(in brackets: each global batch of 8 sorted by length before it is cut into passes, as here)")


def losses_part(ours: Side, peer: Side, job: dict[str, Any]) -> None:
    """Per-step losses side by side, and ours with another split into passes."""
    curves = {
        "here": ours.do("train", micro=MICRO, **job)["rows"],
        "there": peer.do("train", micro=MICRO, peer=PLAIN, **job)["rows"],
        "here, 4 a pass": ours.do("train", micro=2 * MICRO, **job)["rows"],
    }
    print("step   learning rate  " + "".join(f"{name:>17}" for name in curves))
    for step, rows in enumerate(zip(*curves.values(), strict=True), 1):
        print(f"{step:4}   {rows[0]['learning_rate']:13.3e}  " + "".join(f"{row['loss']:17.7f}" for row in rows))
    for name in list(curves)[1:]:
        print(f"largest difference, here and {name}: {largest(curves['here'], curves[name])}")
    packed = {**job, "micro": 1, "recipe": {**job["recipe"], "global_batch": 1000, "batching": "packed"}}  # all rows in one step
    one = [ours.do("train", **packed)["rows"], peer.do("train", **packed, peer={"neat_packing": True, **PLAIN})["rows"]]
    print(f"all rows packed into one step: loss {one[0][0]['loss']:.7f} here; largest difference: {largest(*one)}")


WAYS = {
    "there, like for like": (MICRO, {}, PLAIN),
    "there, defaults": (8, {}, {}),  # eight sequences a pass, activations recomputed
    "there, packed": (1, {}, {"neat_packing": True, **PLAIN}),
    **{f"here, {kind}": (MICRO, {"batching": kind}, {}) for kind in ("padded", "bucketed", "padding_free", "packed")},
}


def speeds_part(sides: dict[str, Side], job: dict[str, Any], runs: int) -> None:
    """Real tokens per second; each round runs every way once, every other round backwards, and ratios are taken in a round."""
    seen: dict[str, list[Any]] = {name: [] for name in WAYS}
    for number in range(runs):
        for name in list(WAYS)[:: -1 if number % 2 else 1]:
            micro, more, words = WAYS[name]
            recipe = {**job["recipe"], **more}
            seen[name].append(sides[name.split(",")[0]].do("train", **{**job, "recipe": recipe, "micro": micro, "peer": words}))
    for name, found in seen.items():
        speed = {measure: job["n_tokens"] / statistics.median(one[measure] for one in found) for measure in ("wall", "cpu")}
        print(f"{name:21} {speed['wall']:6.0f} tokens/s, {speed['cpu']:6.0f} tokens per CPU-second, {len(found[0]['rows'])} steps")
    for name in ("there, like for like", "there, defaults"):
        print(f"largest difference, here, padded and {name}: {largest(seen['here, padded'][0]['rows'], seen[name][0]['rows'])}")
    pairs = [("padded", "like for like"), ("packed", "packed")]
    pairs += [(kind, "defaults") for kind in ("padded", "bucketed", "padding_free", "packed")]
    for mine, other in pairs:
        for measure in ("wall", "cpu"):
            ratios = [b[measure] / a[measure] for a, b in zip(seen[f"here, {mine}"], seen[f"there, {other}"], strict=True)]
            print(f"{mine:12} / {other:13} {measure:4} {statistics.median(ratios):.2f} [{min(ratios):.2f}, {max(ratios):.2f}]", flush=True)


def main() -> None:
    """Rows, losses, speeds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", required=True, help="the Python of the peer's environment")
    parser.add_argument("--tokenizer", required=True, type=Path, help="a folder with tokenizer.json and tokenizer_config.json")
    parser.add_argument("--rows", required=True, type=Path, nargs="+", help="JSON lines with problem and response")
    defaults = {"cutoff": 2048, "loss-rows": 40, "loss-longest": 512, "speed-rows": 32, "speed-longest": 512}
    for name, value in {**defaults, "runs": 3, "hidden": 64, "layers": 2}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        ours, peer = Side("ours", sys.executable, folder), Side("peer", args.peer, folder)
        model = {"model": str(folder / "model"), "tokenizer": str(args.tokenizer.resolve()), "hidden": args.hidden, "layers": args.layers}
        (folder / "rows.json").write_text(json.dumps(rows := read_rows(args.rows)))
        print(ours.do("make", **model))
        lengths = rows_part(ours, peer, {**model, "rows": str(folder / "rows.json")}, args.cutoff)
        waste_part([length for length in lengths if length <= args.cutoff])

        def chosen(name: str, n: int, longest: int, batch: int) -> dict[str, Any]:
            found = [index for index, length in enumerate(lengths) if length <= longest][:n]
            (folder / name).write_text(json.dumps([rows[index] for index in found]))
            recipe = {**RECIPE, "max_length": longest, "global_batch": batch}
            counts = {"n_rows": len(found), "n_tokens": sum(lengths[index] for index in found)}
            print(f"{name}: {counts}, longest {longest}, global batch {batch}")
            return {**model, "rows": str(folder / name), "recipe": recipe, **counts}

        losses_part(ours, peer, chosen("losses.json", args.loss_rows, args.loss_longest, 4))
        if args.runs:
            speeds_part({"here": ours, "there": peer}, chosen("speeds.json", args.speed_rows, args.speed_longest, 8), args.runs)
        ours.process.communicate()
        peer.process.communicate()


if __name__ == "__main__":
    serve() if "--serve" in sys.argv else main()

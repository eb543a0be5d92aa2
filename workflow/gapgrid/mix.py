"""Stage `mix`: one response per problem, drawn from several sources so that the shares hold exactly up to rounding.

The problems are the union of the sources' problems, each covered once, as in the paper's Mix Distillation
(arXiv 2502.12143, section 5): a mix is as large as one source, not the sum of them.
"""

import random
from argparse import Namespace
from pathlib import Path
from typing import Any

from gapgrid import manifest
from gapgrid.command import run_stage, stage_parser
from gapgrid.records import InputError, Row, read_jsonl, sha256_file, write_json, write_jsonl, write_text

Answers = dict[str, dict[str, Row]]
QUANTILES = (0, 5, 25, 50, 75, 95, 100)


def apportion(shares: dict[str, float], total: int) -> dict[str, int]:
    """Split `total` by `shares` into whole numbers that sum to it, by largest remainder (ties: name order)."""
    exact = {name: share * total for name, share in shares.items()}
    counts = {name: int(value + 1e-9) for name, value in exact.items()}
    by_remainder = sorted(exact, key=lambda name: (counts[name] - exact[name], name))
    for name in by_remainder[: total - sum(counts.values())]:
        counts[name] += 1
    return counts


def shuffled_problems(answers: Answers, rng: random.Random) -> list[str]:
    """Every problem that any source answers, in a random order."""
    problems = sorted({problem for rows in answers.values() for problem in rows})
    rng.shuffle(problems)
    return problems


def assign_by_rows(answers: Answers, shares: dict[str, float], problems: list[str], size: int) -> dict[str, str]:
    """Problem -> source with exact row counts, as a maximum flow sources -> problems; `size` problems, each once.

    Raises `InputError` where the sources overlap too little for the shares to hold.
    """
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import maximum_flow

    counts = apportion(shares, size)
    names = list(counts)
    n_nodes = 2 + len(names) + len(problems)
    start, end = 0, n_nodes - 1
    edges = [(start, 1 + i, counts[name]) for i, name in enumerate(names)]
    for j, problem in enumerate(problems):
        node = 1 + len(names) + j
        edges.append((node, end, 1))
        edges.extend((1 + i, node, 1) for i, name in enumerate(names) if problem in answers[name])
    tails, heads, capacities = zip(*edges, strict=True)
    flow = maximum_flow(csr_array((capacities, (tails, heads)), shape=(n_nodes, n_nodes), dtype="int32"), start, end)
    if flow.flow_value < size:
        raise InputError(_infeasible(answers, counts, problems))
    taken = flow.flow[1 : 1 + len(names), 1 + len(names) : end].tocoo()
    pairs = zip(taken.row.tolist(), taken.col.tolist(), taken.data.tolist(), strict=True)
    return {problems[j]: names[i] for i, j, amount in pairs if amount > 0}


def _infeasible(answers: Answers, counts: dict[str, int], problems: list[str]) -> str:
    chosen = set(problems)
    lines = []
    for name, count in counts.items():
        offered = chosen & answers[name].keys()
        alone = {problem for problem in offered if sum(problem in rows for rows in answers.values()) == 1}
        lines.append(f"source {name}: share asks for {count} problems, it answers {len(offered)}, {len(alone)} of them alone")
    return "mix: the shares cannot hold while each problem is answered once\n" + "\n".join(lines)


def assign_by_tokens(answers: Answers, shares: dict[str, float], problems: list[str], tokens: dict[tuple[str, str], int]) -> dict[str, str]:
    """Problem -> source so that each source's share of response tokens holds to within one response.

    Each problem goes to the source that is furthest below its share; those with one source go first, so that the
    rest can make up for them. `tokens` maps (source, problem) to a response's length.
    """
    used = dict.fromkeys(shares, 0)
    assigned: dict[str, str] = {}
    longest = 0
    for problem in sorted(problems, key=lambda problem: sum(problem in rows for rows in answers.values()) > 1):
        offering = [name for name in shares if problem in answers[name] and shares[name] > 0]
        if not offering:
            raise InputError(f"mix: problem '{problem}' is answered only by a source whose share is 0")
        total = sum(used.values())
        best = max(offering, key=lambda name: (shares[name] * (total + tokens[name, problem]) - used[name], name))
        used[best] += tokens[best, problem]
        longest = max(longest, tokens[best, problem])
        assigned[problem] = best
    total = sum(used.values())
    for name, share in shares.items():
        if abs(used[name] - share * total) > len(shares) * longest:
            raise InputError(f"mix: source {name} ends with {used[name] / total:.1%} of the tokens, its share asks for {share:.1%}")
    return assigned


def count_tokens(tokenizer: Path, texts: list[str]) -> list[int]:
    """Tokens of each text, special tokens left out."""
    from tokenizers import Tokenizer

    encoded = Tokenizer.from_file(str(tokenizer)).encode_batch_fast(texts, add_special_tokens=False)
    return [len(encoding.ids) for encoding in encoded]


def quantiles(lengths: list[int]) -> dict[str, int]:
    """Length quantiles in tokens, by the nearest-rank rule."""
    ordered = sorted(lengths)
    return {f"p{q}": ordered[max(0, -(-q * len(ordered) // 100) - 1)] for q in QUANTILES}


def card(rows: list[Row], prompt_tokens: list[int], response_tokens: list[int], shares: dict[str, float]) -> dict[str, Any]:
    """What a mix holds, by source and in all: rows, tokens, shares, response lengths."""
    total = sum(response_tokens)
    sources = {}
    for name in sorted(shares):
        picked = [index for index, row in enumerate(rows) if row["source"] == name]
        lengths = [response_tokens[index] for index in picked]
        sources[name] = {
            "rows": len(picked),
            "prompt_tokens": sum(prompt_tokens[index] for index in picked),
            "response_tokens": sum(lengths),
            "share_asked": shares[name],
            "share_by_rows": len(picked) / len(rows),
            "share_by_tokens": sum(lengths) / total,
            "response_length": quantiles(lengths) if lengths else None,
        }
    return {
        "rows": len(rows),
        "prompt_tokens": sum(prompt_tokens),
        "response_tokens": total,
        "response_length": quantiles(response_tokens),
        "sources": sources,
    }


def assign(mix: dict[str, Any], answers: Answers, tokenizer: Path) -> list[Row]:
    """The rows of the mix, sorted by problem id."""
    rng = random.Random(mix.get("seed", 0))
    shares = dict(sorted(mix["parts"].items()))
    problems = shuffled_problems(answers, rng)
    size = mix.get("size", len(problems))
    if size > len(problems):
        raise InputError(f"mix: size {size}, but its sources answer only {len(problems)} problems together")
    if mix.get("by", "rows") == "rows":
        assigned = assign_by_rows(answers, shares, problems, size)
    else:
        keys = [(name, problem) for name, rows in answers.items() for problem in rows]
        lengths = count_tokens(tokenizer, [answers[name][problem]["response"] for name, problem in keys])
        assigned = assign_by_tokens(answers, shares, problems[:size], dict(zip(keys, lengths, strict=True)))
    return [answers[assigned[problem]][problem] for problem in sorted(assigned)]


def work(args: Namespace) -> None:
    """Assign, then write train.jsonl, its digest, the card and the manifest."""
    mix = args.spec["mix"]
    answers: Answers = {name: {} for name in sorted(mix["parts"])}
    for file in args.rows:
        for row in read_jsonl(file):
            answers[row["source"]][row["id"]] = row
    rows = assign(mix, answers, args.tokenizer)
    write_jsonl(args.train, rows)
    prompts = count_tokens(args.tokenizer, [row["prompt"] for row in rows])
    responses = count_tokens(args.tokenizer, [row["response"] for row in rows])
    folder = args.manifest.parent
    digest = sha256_file(args.train)
    write_json(folder / "card.json", {**card(rows, prompts, responses, mix["parts"]), "sha256": digest})
    # What training tracks: it changes only if the rows do.
    write_text(folder / "train.sha256", f"{digest}  {args.train.name}\n")
    inputs = {row_file.parent.name: sha256_file(row_file) for row_file in args.rows}
    manifest.write(args.manifest, "mix", args.spec, inputs, [args.train.name, "train.sha256", "card.json"])


def main(argv: list[str] | None = None) -> int:
    """`python -m gapgrid.mix --spec … TOKENIZER ROWS… TRAIN MANIFEST`."""
    parser = stage_parser("mix", __doc__)
    parser.add_argument("tokenizer", type=Path)
    parser.add_argument("rows", type=Path, nargs="+")
    parser.add_argument("train", type=Path)
    parser.add_argument("manifest", type=Path)
    return run_stage(parser, work, argv)


if __name__ == "__main__":
    raise SystemExit(main())

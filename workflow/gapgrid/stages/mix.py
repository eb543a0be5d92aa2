"""Stage `mix`: one response per problem, drawn from several sources by exact shares.

The problems are the union of the sources' problems, each covered once, as in the paper's Mix
Distillation (arXiv 2502.12143, section 5): a mix is as large as one source, not the sum of them.
"""

import random
from argparse import Namespace
from collections.abc import Iterator
from itertools import takewhile
from operator import eq
from pathlib import Path
from typing import Any

from gapgrid.core import manifest
from gapgrid.core.records import (
    InputError,
    fail_if,
    read_jsonl,
    sha256_file,
    write_json,
    write_jsonl,
    write_text,
)
from gapgrid.core.rows import TrainingRow
from gapgrid.core.spec_types import MixSpec, with_defaults
from gapgrid.core.stage_cli import run_stage, stage_parser
from gapgrid.core.text import capped, visible

Responses = dict[str, dict[str, TrainingRow]]  # source -> problem -> row
QUANTILES = (0, 5, 25, 50, 75, 95, 100)
PROMPT_SHOWN = 56  # characters of a prompt in a message


def apportion(shares: dict[str, float], total: int) -> dict[str, int]:
    """Split `total` by `shares` into whole numbers that sum to it.

    By largest remainder; ties go by the order of names.
    """
    exact = {name: share * total for name, share in shares.items()}
    counts = {name: int(value + 1e-9) for name, value in exact.items()}
    by_remainder = sorted(exact, key=lambda name: (counts[name] - exact[name], name))
    for name in by_remainder[: total - sum(counts.values())]:
        counts[name] += 1
    return counts


def shuffled_problems(responses: Responses, rng: random.Random) -> list[str]:
    """Return every problem that any source has, in a random order."""
    problems = sorted({problem for rows in responses.values() for problem in rows})
    rng.shuffle(problems)
    return problems


def assign_by_rows(
    responses: Responses, shares: dict[str, float], problems: list[str], size: int
) -> dict[str, str]:
    """Return problem -> source for `size` of the problems, with exact row counts.

    A maximum flow from sources to problems. Raises `InputError` where the sources overlap too
    little for the shares to hold.
    """
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import maximum_flow

    counts = apportion(shares, size)
    names = list(counts)
    first = 1 + len(names)  # node of the first problem
    start, end = 0, first + len(problems)
    edges = [(start, 1 + i, counts[name]) for i, name in enumerate(names)]
    for node, problem in enumerate(problems, first):
        edges.append((node, end, 1))
        edges.extend((1 + i, node, 1) for i, name in enumerate(names) if problem in responses[name])
    tails, heads, capacities = zip(*edges, strict=True)
    shape = (end + 1, end + 1)
    graph = csr_array((capacities, (tails, heads)), shape=shape, dtype="int32")
    result = maximum_flow(graph, start, end)
    if result.flow_value < size:
        raise InputError(_infeasible(responses, counts))
    flow = result.flow[1:first, first:end].tocoo()
    pairs = zip(flow.row.tolist(), flow.col.tolist(), flow.data.tolist(), strict=True)
    return {problems[j]: names[i] for i, j, amount in pairs if amount > 0}


def _n_sources(responses: Responses, problem: str) -> int:
    return sum(problem in rows for rows in responses.values())


def _infeasible(responses: Responses, counts: dict[str, int]) -> str:
    lines = ["mix: the shares cannot hold while each problem is answered once"]
    for name, count in counts.items():
        alone = sum(_n_sources(responses, problem) == 1 for problem in responses[name])
        lines.append(
            f"source {name}: share asks for {count} problems, it answers {len(responses[name])}, "
            f"{alone} of them alone"
        )
    return "\n".join(lines)


def assign_by_tokens(
    responses: Responses,
    shares: dict[str, float],
    problems: list[str],
    tokens: dict[tuple[str, str], int],
) -> dict[str, str]:
    """Return problem -> source; each source's share of response tokens is met to one response.

    Each problem goes to the source that is furthest below its share; problems with one source go
    first, so that the rest can make up for them. `tokens` maps (source, problem) to a response's
    length.
    """
    used = dict.fromkeys(shares, 0)
    assigned: dict[str, str] = {}
    longest = 0
    for problem in sorted(problems, key=lambda problem: _n_sources(responses, problem) > 1):
        sources = [name for name in shares if problem in responses[name] and shares[name] > 0]
        if not sources:
            raise InputError(
                f"mix: problem '{problem}' is answered only by a source whose share is 0"
            )
        total = sum(used.values())
        best = max(
            sources,
            key=lambda name: (shares[name] * (total + tokens[name, problem]) - used[name], name),
        )
        used[best] += tokens[best, problem]
        longest = max(longest, tokens[best, problem])
        assigned[problem] = best
    total = sum(used.values())
    for name, share in shares.items():
        if abs(used[name] - share * total) > len(shares) * longest:
            raise InputError(
                f"mix: source {name} ends with {used[name] / total:.1%} of the tokens, "
                f"its share asks for {share:.1%}"
            )
    return assigned


def count_tokens(tokenizer: Path, texts: list[str]) -> list[int]:
    """Return the number of tokens of each text, special tokens left out."""
    from tokenizers import Tokenizer

    encoded = Tokenizer.from_file(str(tokenizer)).encode_batch_fast(texts, add_special_tokens=False)
    return [len(encoding.ids) for encoding in encoded]


def quantiles(lengths: list[int]) -> dict[str, int]:
    """Return length quantiles in tokens, by the nearest-rank rule."""
    ordered = sorted(lengths)
    return {f"p{q}": ordered[max(0, -(-q * len(ordered) // 100) - 1)] for q in QUANTILES}


def mix_card(
    names: list[str], prompt_tokens: list[int], response_tokens: list[int], shares: dict[str, float]
) -> dict[str, Any]:
    """Return the rows, tokens, shares and response lengths of a mix, by source and in all.

    `names` is each row's source.
    """
    total = sum(response_tokens)
    sources = {}
    for name in sorted(shares):
        indices = [index for index, source in enumerate(names) if source == name]
        lengths = [response_tokens[index] for index in indices]
        sources[name] = {
            "rows": len(indices),
            "prompt_tokens": sum(prompt_tokens[index] for index in indices),
            "response_tokens": sum(lengths),
            "share_asked": shares[name],
            "share_by_rows": len(indices) / len(names),
            "share_by_tokens": sum(lengths) / total,
            "response_length": quantiles(lengths) if lengths else None,
        }
    return {
        "rows": len(names),
        "prompt_tokens": sum(prompt_tokens),
        "response_tokens": total,
        "response_length": quantiles(response_tokens),
        "sources": sources,
    }


def check_prompts(responses: Responses) -> None:
    """Raise an `InputError` that lists each id under which two sources have different prompts."""
    first: dict[str, TrainingRow] = {}
    problems = []
    for rows in responses.values():
        for problem, row in rows.items():
            known = first.setdefault(problem, row)
            if known["prompt"] != row["prompt"]:
                prompts = " and ".join(_where_unlike(known["prompt"], row["prompt"]))
                problems.append(
                    f"sources {known['source']} and {row['source']}: id '{problem}' is {prompts}; "
                    "one id is one problem, see columns in sources.yaml"
                )
    fail_if(problems)


def _where_unlike(first: str, second: str) -> Iterator[str]:
    """Yield two texts, quoted and shortened to where they begin to differ."""
    n_alike = sum(takewhile(bool, map(eq, first, second)))
    start = max(0, n_alike - PROMPT_SHOWN // 2)
    for text in (first, second):
        shown = visible(capped(text[start:], PROMPT_SHOWN)).replace("\n", "\\n")
        yield f"'{'…' if start else ''}{shown}'"


def assign(mix: dict[str, Any], responses: Responses, tokenizer: Path) -> list[TrainingRow]:
    """Return the rows of the mix, sorted by problem id; `mix` is complete, see `with_defaults`."""
    shares = dict(sorted(mix["parts"].items()))
    problems = shuffled_problems(responses, random.Random(mix["seed"]))
    size = mix.get("size", len(problems))
    if size > len(problems):
        raise InputError(
            f"mix: size {size}, but its sources answer only {len(problems)} problems together"
        )
    if mix["by"] == "rows":
        assigned = assign_by_rows(responses, shares, problems, size)
    else:
        keys = [(name, problem) for name, rows in responses.items() for problem in rows]
        texts = [responses[name][problem]["response"] for name, problem in keys]
        tokens = dict(zip(keys, count_tokens(tokenizer, texts), strict=True))
        assigned = assign_by_tokens(responses, shares, problems[:size], tokens)
    return [responses[assigned[problem]][problem] for problem in sorted(assigned)]


def work(args: Namespace) -> None:
    """Assign, then write train.jsonl, its digest, card.json and the manifest."""
    spec: MixSpec = args.spec
    mix = with_defaults("mix", spec["mix"])
    responses: Responses = {name: {} for name in sorted(mix["parts"])}
    for file in args.rows:
        for row in read_jsonl(file):
            responses[row["source"]][row["id"]] = row
    check_prompts(responses)
    rows = assign(mix, responses, args.tokenizer)
    write_jsonl(args.train, rows)
    card = mix_card(
        [row["source"] for row in rows],
        count_tokens(args.tokenizer, [row["prompt"] for row in rows]),
        count_tokens(args.tokenizer, [row["response"] for row in rows]),
        mix["parts"],
    )
    folder = args.manifest.parent
    digest = sha256_file(args.train)
    write_json(folder / "card.json", {**card, "sha256": digest})
    # What training tracks: it changes only if the rows do.
    write_text(folder / "train.sha256", f"{digest}  {args.train.name}\n")
    inputs = {file.parent.name: sha256_file(file) for file in args.rows}
    outputs = [args.train.name, "train.sha256", "card.json"]
    manifest.write(args.manifest, "mix", spec, inputs, outputs)


def main(argv: list[str] | None = None) -> int:
    """`python -m gapgrid.stages.mix --spec … TOKENIZER ROWS… TRAIN MANIFEST`."""
    parser = stage_parser("mix", __doc__)
    parser.add_argument("tokenizer", type=Path)
    parser.add_argument("rows", type=Path, nargs="+")
    parser.add_argument("train", type=Path)
    parser.add_argument("manifest", type=Path)
    return run_stage(parser, work, argv)


if __name__ == "__main__":
    raise SystemExit(main())

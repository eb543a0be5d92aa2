"""The keys of each stage's spec, and the value that a key stands for when it is left out.

`grid` writes specs, stages read them. A key at its default is left out of a spec, so that a new
option never re-runs a finished grid; `with_defaults` puts the defaults back.
"""

from typing import Any, NotRequired, TypedDict

# By kind of config entry: the values that mean the same as leaving the key out.
DEFAULTS: dict[str, dict[str, Any]] = {
    "recipe": {
        "format": "chat",
        "over_length": "drop",
        "batching": "padded",
        "warmup_ratio": 0.0,
        "min_lr_ratio": 0.0,
        "weight_decay": 0.0,
        "adam_betas": [0.9, 0.999],
        "max_grad_norm": 1.0,
        "lora": {},
    },
    "lora": {"rank": 8, "alpha": 16, "dropout": 0.0},
    "mix": {"by": "rows", "seed": 0},
    "benchmark": {"repeats": 1, "sampling": {}, "columns": {}},
    "source": {"columns": {}, "split": "train"},
    "judge": {
        "policy": "undecided",
        "sampling": {"temperature": 0},
        "dtype": "auto",
        "verdict": "first_word",
    },
}


def with_defaults(kind: str, entry: Any) -> Any:
    """Return a copy of a config entry or spec in which no key is left out for its default."""
    return {**DEFAULTS[kind], **entry}


class Recipe(TypedDict):
    """How a student is trained, see recipes.yaml; every key is set, see `with_defaults`."""

    method: str
    learning_rate: float
    epochs: float
    global_batch: int
    max_length: int
    format: str
    over_length: str
    batching: str
    warmup_ratio: float
    min_lr_ratio: float
    weight_decay: float
    adam_betas: list[float]
    max_grad_norm: float
    lora: dict[str, Any]


Engine = dict[str, str]  # its name, and the locked version of each package that it uses


class Spec(TypedDict, total=False):
    """The keys of every spec."""

    stage: str
    version: int


class TokenizerSpec(Spec):
    tokenizer: dict[str, Any]


class FetchSpec(Spec):
    hub: str
    revision: NotRequired[str]


class SourceSpec(Spec):
    name: str
    source: dict[str, Any]


class MixSpec(Spec):
    mix: dict[str, Any]


class BaseSpec(Spec):
    """A tiny student has `corpus` to `engine`; any other has `hub` to `eos` as in models.yaml."""

    kind: str
    hub: NotRequired[str]
    revision: NotRequired[str]
    path: NotRequired[str]
    eos: NotRequired[str]
    corpus: NotRequired[str]
    architecture: NotRequired[dict[str, Any]]
    recipe: NotRequired[dict[str, Any]]
    seed: NotRequired[int]
    engine: NotRequired[Engine]


class TrainSpec(Spec):
    """An adopted student has `adopt`, a trained one the other three."""

    adopt: NotRequired[dict[str, str]]
    recipe: NotRequired[dict[str, Any]]
    seed: NotRequired[int]
    engine: NotRequired[Engine]


class ProblemsSpec(Spec):
    data: dict[str, Any]
    rows: int
    columns: dict[str, str]


class RequestSpec(Spec):
    evaluate: int
    engine: Engine
    task: str
    max_tokens: int
    repeats: NotRequired[int]
    sampling: NotRequired[dict[str, Any]]


class EvaluateSpec(Spec):
    engine: Engine


class GradeSpec(Spec):
    grader: str


class SelftestSpec(Spec):
    grade: int
    grader: str


class JudgeIdentity(TypedDict):
    """What a verdict depends on, apart from the pair and the prompt."""

    engine: Engine
    version: NotRequired[int]
    model: NotRequired[str]
    revision: NotRequired[str]
    replies: NotRequired[dict[str, list[str]]]
    verdict: NotRequired[str]
    max_tokens: NotRequired[int]
    sampling: NotRequired[dict[str, Any]]
    dtype: NotRequired[str]


class JudgeSpec(Spec):
    """The spec of `judge`, and of `score`, which reads its verdicts."""

    judge: JudgeIdentity
    policy: NotRequired[str]


class AuditSpec(Spec):
    cells: list[list[Any]]


# models, mixes, benchmarks -> [name, label] pairs, in reading order
Shown = dict[str, list[list[str]]]


class TableSpec(Spec):
    cells: list[list[Any]]
    caption: str
    contrast: list[str] | None
    statistics: dict[str, Any]
    models: dict[str, dict[str, Any]]
    shown: Shown
    singles: dict[str, list[str]]
    by_benchmark: bool
    varies: list[str]
    differs: list[list[str]]
    between: list[list[str]]
    protocol: list[str]
    reference: list[dict[str, Any]]


class FigureSpec(Spec):
    plot: str
    shown: Shown
    contrast: list[str] | None
    confidence: float
    groups: NotRequired[list[list[Any]]]
    weights: NotRequired[dict[str, Any]]


class ShiftSpec(Spec):
    problems: int
    asked_by: str
    engine: Engine


class ShiftFigureSpec(Spec):
    cells: list[list[Any]]
    shown: Shown
    connectors: NotRequired[list[str]]


class CaseSpec(Spec):
    cells: list[list[Any]]
    choose: dict[str, str]
    problems: int
    caption: str
    shown: Shown

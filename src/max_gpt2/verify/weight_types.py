"""Compare the types of a checkpoint's weights on a text: what a narrower type changes, and what it saves."""

import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any, cast

import numpy as np

from max_gpt2._progress import COMPILING, Runner, silently
from max_gpt2.checkpoint import load_weights
from max_gpt2.checkpoint.layout import LM_HEAD, WTE
from max_gpt2.checkpoint.weight_types import is_matrix
from max_gpt2.config import ACTIVATIONS, GPT2Config
from max_gpt2.errors import RequestError
from max_gpt2.generation import ModelSource
from max_gpt2.inspect import Tracer
from max_gpt2.model import CompiledModel
from max_gpt2.model.compile_cache import load_or_compile, load_or_compile_stages
from max_gpt2.model.session import Run
from max_gpt2.model.stages import Stages
from max_gpt2.verify.divergence import ErrorSums, PredictionSums, weight_errors
from max_gpt2.weights.quantise import type_of, weight_bytes
from max_gpt2.weights.types import Weight, Weights, WeightsOption

#: The text that is compared by default: a chapter of *Pride and Prejudice* on which the demo was not trained.
HELD_OUT = Path(__file__).parent / "held_out.txt"
#: The number of its tokens that are compared, unless another is given.
MAX_TOKENS = 4096
#: The types that are compared by default, where they change the stored ones.
DEFAULT_TYPES: tuple[WeightsOption, ...] = ("bfloat16", "float16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0")
_PROMPT, _DECODED, _REPEATS, _LONGEST_S = 16, 64, 3, 10


@dataclass(frozen=True)
class Candidate:
    """Weights to compare: a checkpoint, and the type that its matrices are converted to, or "auto"."""

    name: str
    source: ModelSource
    weights: WeightsOption = "auto"

    def load(self) -> dict[str, Weight]:
        """Load the weights; raises CheckpointError if they are damaged or too large for the type."""
        plan = replace(self.source.plan, weights=self.weights)
        return load_weights(plan, allow_nonfinite=self.source.options.allow_nonfinite)


@dataclass(frozen=True)
class LayerErrors:
    """The errors of a layer, relative to the reference: of its weights, and of its output on the text."""

    weights: float
    hidden_states: float


@dataclass(frozen=True)
class WeightsReport:
    """The differences of one candidate from the reference.

    Attributes:
        name: The name of the checkpoint.
        weights: The requested type, or "auto".
        types: The number of matrices of each type.
        bytes: The size of all weights in memory.
        kl_divergence: The mean Kullback-Leibler divergence from the reference's predictions, in nats.
        max_kl_divergence: The largest one.
        argmax_agreement: The fraction of predictions, 0 to 1, with the same most likely token.
        perplexity: The perplexity of the text per token.
        perplexity_difference: The same minus that of the reference.
        weight_error: The norm of the difference of all matrices, relative to that of the reference.
        hidden_state_error: The same of the last layer's output.
        layers: The errors of each layer.
        tokens_per_s: Tokens per second of one sequence; None for a text that is too short.

    """

    name: str
    weights: str
    types: dict[str, int]
    bytes: int
    kl_divergence: float
    max_kl_divergence: float
    argmax_agreement: float
    perplexity: float
    perplexity_difference: float
    weight_error: float
    hidden_state_error: float
    layers: list[LayerErrors]
    tokens_per_s: float | None


@dataclass(frozen=True)
class Comparison:
    """The reports of the reference, first, and of the candidates; `tokens` is the number of predicted tokens."""

    tokens: int
    windows: int
    reports: list[WeightsReport]

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison as JSON values."""
        return asdict(self)


def candidates(name: str, source: ModelSource, types: Sequence[str]) -> list[Candidate]:
    """Return a checkpoint with its matrices in each of the types; raises RequestError for one that cannot be made."""
    found = []
    for type_ in types:
        options = replace(source.options, weights=cast(WeightsOption, type_))  # raises for an unknown type
        replace(source.plan, weights=options.weights).types  # noqa: B018  (raises for a type that cannot be made)
        found.append(Candidate(name, source, options.weights))
    return found


def default_types(source: ModelSource) -> list[str]:
    """Return the types of `DEFAULT_TYPES` in which at least one matrix changes, and that are not larger than stored."""
    stored = replace(source.plan, weights="auto").memory_bytes
    plans = {type_: replace(source.plan, weights=type_) for type_ in DEFAULT_TYPES}
    return [type_ for type_, plan in plans.items() if plan.rounded and plan.memory_bytes <= stored]


def compare_weights(
    reference: Candidate, others: Sequence[Candidate], ids: Sequence[int], run: Runner = silently
) -> Comparison:
    """Compare weights with those of a reference on a text, given as token ids.

    The text is cut into windows of the context's length. Raises RequestError for a text with less than two tokens, for
    checkpoints of other sizes, and if the disk cannot hold the reference's outputs.
    """
    config = reference.source.config
    for one in others:
        _check_same_model(reference, one)
    length = config.n_positions
    windows = [list(ids[start : start + length]) for start in range(0, len(ids), length)]
    windows = [window for window in windows if len(window) > 1]
    if not windows:
        raise RequestError(f"The text has {len(ids)} tokens. Give one with at least 2.")
    expected = reference.load()
    graphs = run(COMPILING, lambda: _compile(reference, expected))
    with tempfile.TemporaryDirectory(prefix="max-gpt2-") as folder:
        kept = _Kept(Path(folder), config)
        kept.check_space(windows)
        measured = _Measurement(reference.source, graphs, windows, kept, expected)
        reports = [run(_label(reference), lambda: measured.report(reference, expected))]
        for one in others:
            measure = partial(measured.report_of, one, reports[0].perplexity)
            reports.append(run(_label(one), measure))
    return Comparison(sum(len(window) - 1 for window in windows), len(windows), reports)


def _compile(reference: Candidate, weights: dict[str, Weight]) -> dict[str, Run]:
    """Compile the graphs that the measurements need; return those of `load_or_compile_stages`."""
    config = reference.source.config
    load_or_compile(config, weights, reference.source.options.kernels)
    return load_or_compile_stages()


def _label(candidate: Candidate) -> str:
    return f"Measuring {candidate.name if candidate.weights == 'auto' else candidate.weights}"


#: The fields that must agree: the sizes, and the flags that change the computation.
_FIELDS = (
    "n_layer",
    "n_head",
    "n_embd",
    "intermediate_size",
    "n_positions",
    "vocab_size",
    "layer_norm_epsilon",
    "scale_attn_weights",
    "scale_attn_by_inverse_layer_idx",
)


def _check_same_model(reference: Candidate, other: Candidate) -> None:
    """Raise RequestError if two checkpoints differ in more than their weights."""
    ours, theirs = reference.source.config, other.source.config
    values = {name: (getattr(ours, name), getattr(theirs, name)) for name in _FIELDS}
    values["activation_function"] = (ACTIVATIONS[ours.activation_function], ACTIVATIONS[theirs.activation_function])
    if different := next((name for name, (one, two) in values.items() if one != two), None):
        one, two = values[different]
        raise RequestError(
            f"{other.name} has {different} {two}, and {reference.name} has {one}. "
            "Give files of the same model, or compare two models with `max-gpt2 verify --against`."
        )


@dataclass(frozen=True)
class _Kept:
    """The outputs of the reference, kept in files, one pair for each window."""

    folder: Path
    config: GPT2Config

    def check_space(self, windows: Sequence[Sequence[int]]) -> None:
        """Raise RequestError if the disk has too little space."""
        row = self.config.vocab_size + self.config.n_layer * self.config.n_embd
        needed, free = 4 * row * sum(map(len, windows)), shutil.disk_usage(self.folder).free
        if needed > free:
            raise RequestError(
                f"The comparison keeps {needed / 1e9:.1f} GB in {self.folder.parent}, where {free / 1e9:.1f} GB are "
                "free. Use a smaller --max-tokens, or set TMPDIR to another folder."
            )

    def save(self, window: int, logits: np.ndarray, states: np.ndarray) -> None:
        """Keep logits, [seq, vocab_size], and the outputs of all layers, [n_layer, seq, n_embd]."""
        np.save(self.folder / f"{window}.logits.npy", logits)
        np.save(self.folder / f"{window}.states.npy", states)

    def load(self, window: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the same, memory-mapped."""
        logits, states = (self.folder / f"{window}.{part}.npy" for part in ("logits", "states"))
        return np.load(logits, mmap_mode="r"), np.load(states, mmap_mode="r")


@dataclass(frozen=True)
class _Measurement:
    """Measures candidates with the same graphs and windows, against the outputs and weights of the reference."""

    source: ModelSource
    graphs: dict[str, Run]
    windows: list[list[int]]
    kept: _Kept
    expected: dict[str, Weight]

    def report_of(self, candidate: Candidate, perplexity: float) -> WeightsReport:
        """Load a candidate and measure it; `perplexity` is that of the reference."""
        return self.report(candidate, candidate.load(), perplexity)

    def report(
        self, candidate: Candidate, weights: dict[str, Weight], perplexity: float | None = None
    ) -> WeightsReport:
        """Measure a candidate; `perplexity` is that of the reference, and None for the reference itself."""
        config = self.source.config
        predictions, states = self._outputs(weights, keep=perplexity is None)
        errors, total = weight_errors(self.expected, weights, config.n_layer)
        compiled = load_or_compile(config, weights, self.source.options.kernels)
        matrices = [weight for name, weight in weights.items() if is_matrix(name) and not _is_tied(weights, name)]
        return WeightsReport(
            candidate.name,
            candidate.weights,
            dict(Counter(map(type_of, matrices)).most_common()),
            sum(weight_bytes(weight) for weight in {id(weight): weight for weight in weights.values()}.values()),
            predictions.mean_divergence,
            predictions.max_divergence,
            predictions.agreement,
            predictions.perplexity,
            0.0 if perplexity is None else predictions.perplexity - perplexity,
            total,
            states[-1].relative,
            [LayerErrors(error, state.relative) for error, state in zip(errors, states, strict=True)],
            tokens_per_second(compiled, max(self.windows, key=len)),
        )

    def _outputs(self, weights: Weights, *, keep: bool) -> tuple[PredictionSums, list[ErrorSums]]:
        """Compute a candidate's outputs and their differences from those of the reference, which are kept before."""
        predictions, states = PredictionSums(), [ErrorSums() for _ in range(self.source.config.n_layer)]
        for number, (logits, hidden) in enumerate(self._traces(weights)):
            if keep:
                self.kept.save(number, logits, hidden)
            expected, expected_hidden = self.kept.load(number)
            predictions.add(expected[:-1], logits[:-1], self.windows[number][1:])
            for layer, sums in enumerate(states):
                sums.add(expected_hidden[layer], hidden[layer])
        return predictions, states

    def _traces(self, weights: Weights) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the logits, [seq, vocab_size], and all layers' outputs, [n_layer, seq, n_embd], of each window."""
        config = self.source.config
        tracer = Tracer(Stages(config, self.graphs, weights), self.source.tokenizer)
        for window in self.windows:
            (trace,) = tracer.trace([window], ("h.*", "logits"))
            yield trace["logits"], np.stack([trace[f"h.{layer}"] for layer in range(config.n_layer)])


def _is_tied(weights: dict[str, Weight], name: str) -> bool:
    return name == LM_HEAD and weights[name] is weights[WTE]


def tokens_per_second(model: CompiledModel, ids: Sequence[int]) -> float | None:
    """Return the decode speed of one sequence after a prompt of 16 tokens, both from a text.

    It is the best of three medians: other programs only make it slower. None for a text of less than 18 tokens, which
    leaves no two to decode.
    """
    prompt, rest = list(ids[:_PROMPT]), ids[_PROMPT : _PROMPT + _DECODED]
    if len(rest) < 2:
        return None
    return 1 / min(_seconds_per_token(model, prompt, rest) for _ in range(_REPEATS))


def _seconds_per_token(model: CompiledModel, prompt: Sequence[int], rest: Sequence[int]) -> float:
    session = model.session(1, len(prompt) + len(rest))
    session.extend({0: prompt})
    stamps = [time.perf_counter()]
    for id_ in rest:
        session.extend({0: [id_]})
        stamps.append(time.perf_counter())
        if stamps[-1] - stamps[0] > _LONGEST_S:
            break
    return median(after - before for before, after in pairwise(stamps))

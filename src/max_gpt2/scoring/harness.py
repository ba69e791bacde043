"""GPT-2 as a model of lm-evaluation-harness. Importing this module registers it as `max-gpt2`.

Requests mean what they mean to the harness's own model for transformers, `hf` (its class HFLM, version 0.4.13), so that
the results of both can be compared: the same tokens, the same truncation from the left, and the same prefix token.
"""

import sys
import warnings
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Unpack

from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.api.registry import register_model
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from tqdm import tqdm

from max_gpt2 import __version__
from max_gpt2._progress import COMPILING, Runner, silently
from max_gpt2.checkpoint import LoadOptions
from max_gpt2.checkpoint.options import LoadKeywords
from max_gpt2.errors import RequestError, UnknownTextWarning
from max_gpt2.generation import BATCH_SIZE, Engine, ModelSource, Request, open_model
from max_gpt2.model.compile_cache import load_or_compile, load_or_compile_scoring
from max_gpt2.scoring.gen_kwargs import read_gen_kwargs
from max_gpt2.scoring.scorer import Scorer
from max_gpt2.scoring.windows import Window, check_window

#: The harness's default seed of PyTorch, from which its `hf` model samples.
SEED = 1234
#: A request of the harness: its context and continuation, and the token ids of both. Windows of a text have no strings.
TokenRequest = tuple[tuple[str, str] | None, list[int], list[int]]


class HarnessKeywords(LoadKeywords, total=False):
    """The keyword options of `MaxGPT2LM` besides its own: those of `LoadOptions`, and two that the harness passes."""

    adapter: str
    device: str
    max_batch_size: int


@register_model("max-gpt2")
class MaxGPT2LM(TemplateLM):
    """A GPT-2 for lm-evaluation-harness. It loads its weights at the first request, once for scores and texts.

    Attributes:
        source: The inspected checkpoint.
        max_length: The largest number of tokens of a request, as its input to the model.
        truncated: The number of requests so far that were longer than `max_length`, and lost their beginning.

    """

    def __init__(
        self,
        pretrained: str | Path | ModelSource = "gpt2",
        *,
        batch_size: int | str = BATCH_SIZE,
        max_length: int | None = None,
        seed: int = SEED,
        run: Runner = silently,
        **options: Unpack[HarnessKeywords],
    ) -> None:
        """Inspect a checkpoint: "demo", a hub id, a folder or a file; `options` are described in `LoadOptions`.

        `adapter` is one adapter as `DIR` or `DIR:SCALE`. `batch_size` sequences are generated at a time; "auto" is the
        default. Scores are batched by tokens. Neither changes a result. Sequence number i is sampled with the seed
        `seed` + i. Raises MaxGPT2Error for a checkpoint that cannot be loaded and for invalid options.
        """
        super().__init__()
        if isinstance(pretrained, ModelSource):
            self.source = pretrained
        else:
            self.source = open_model(pretrained, _load_options(options))
        n_positions = self.source.config.n_positions
        self.max_length = n_positions if max_length is None else max_length
        check_window(n_positions, self.max_length, 1)
        self.batch_size = _batch_size(batch_size)
        self.truncated = 0
        self._seed, self._run = seed, run
        self._unknown: set[str] = set()

    @cached_property
    def _weights(self) -> Mapping[str, Any]:
        return self.source.load_weights(self._run)

    @cached_property
    def scorer(self) -> Scorer:
        """The scorer; it uses the same weights as the engine, in place."""
        config, weights, kernels = self.source.config, self._weights, self.source.options.kernels
        model = self._run(COMPILING, lambda: load_or_compile_scoring(config, weights, kernels))
        return Scorer(config, self.source.tokenizer, model)

    @cached_property
    def engine(self) -> Engine:
        """The engine that generates texts."""
        config, weights, kernels = self.source.config, self._weights, self.source.options.kernels
        model = self._run(COMPILING, lambda: load_or_compile(config, weights, kernels))
        return Engine(model, self.source.tokenizer)

    @cached_property
    def eot_token_id(self) -> int:
        """The tokenizer's EOS token, which ends a generated text."""
        return self._named_token("eos_token", self.source.tokenizer.end_of_text)

    @cached_property
    def prefix_token_id(self) -> int:
        """The tokenizer's BOS token, which is the context of a text that has none."""
        return self._named_token("bos_token", self.source.tokenizer.start_id)

    def _named_token(self, role: str, default: int) -> int:
        name = self.source.tokenizer.special_tokens.get(role)
        return self.source.tokenizer.vocab.get(name, default) if name else default

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        """Return the token ids of a text as transformers' tokenizer encodes it, with special tokens in it as such.

        None adds the tokens that the tokenizer adds by itself, unless the text begins with a BOS. GPT-2's adds none.
        """
        tokenizer = self.source.tokenizer
        if add_special_tokens is None:
            add_special_tokens = not string.startswith(tokenizer.decode([self.prefix_token_id], special=True))
        if new := set(tokenizer.unknown_text(string)) - self._unknown:
            self._unknown |= new
            message = f"The tokenizer does not know these characters of a task: {''.join(sorted(new))[:60]!r}. They "
            warnings.warn(message + "are lost.", UnknownTextWarning, stacklevel=2)
        return tokenizer.encode_special(string, template=add_special_tokens)

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Return the log probability of each continuation, and True if it is the greedy continuation.

        The arguments of a request are its context and continuation. Raises RequestError for an empty continuation.
        """
        for request in requests:
            if not "".join(request.args):
                raise RequestError(f"{_origin(request)} has an empty continuation, which has no probability.")
        return super().loglikelihood(requests, disable_tqdm=disable_tqdm or not sys.stderr.isatty())

    def _loglikelihood_tokens(
        self, requests: list[tuple[tuple[str, str], list[int], list[int]]], disable_tqdm: bool = False, **_: Any
    ) -> list[tuple[float, bool]]:
        return self._score([*requests], disable_tqdm)

    def _score(self, requests: list[TokenRequest], disable_tqdm: bool) -> list[tuple[float, bool]]:
        windows = [self._window(*request) for request in requests]
        longest_first = sorted(range(len(windows)), key=lambda index: -len(windows[index].inputs))
        answers: dict[int, tuple[float, bool]] = {}
        scores = self.scorer.score(windows[index] for index in longest_first)
        progress = tqdm(scores, "Scoring", len(windows), disable=disable_tqdm or None)
        for index, score in zip(longest_first, progress, strict=True):
            answers[index] = float(score.logprobs.sum()), bool((score.ranks == 1).all())
            if (strings := requests[index][0]) is not None:
                self.cache_hook.add_partial("loglikelihood", strings, answers[index])
        return [answers[index] for index in range(len(windows))]

    def _window(self, strings: tuple[str, str] | None, context: list[int], continuation: list[int]) -> Window:
        """Return the window that scores a continuation; it keeps the last `max_length` inputs.

        A context of whitespace only has moved into the continuation, and the prefix token takes its place.
        """
        if not 1 <= len(continuation) <= self.max_length:
            text = "" if strings is None else f" {strings[1][:60]!r}"
            raise RequestError(
                f"The continuation{text} has {len(continuation)} tokens, which is not in 1 .. {self.max_length}, the "
                "context of the model. Leave its document out, or use another task."
            )
        ids = [*(context or [self.prefix_token_id]), *continuation]
        self.truncated += len(ids) > self.max_length + 1
        return Window(ids[-self.max_length - 1 : -1], continuation)

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """Return the log probability of each text, each of its tokens scored once.

        The first window begins with the prefix token; a later one continues after the last, and the last window is a
        full one, so that some of its tokens are context only. An empty text has the log probability 0.
        """
        parts: list[TokenRequest] = []
        counts: list[int] = []
        for request in requests:
            tokens = self.tok_encode(request.args[0]) if request.args[0] else []
            windows = map(
                make_disjoint_window,
                get_rolling_token_windows(tokens, self.prefix_token_id, max_seq_len=self.max_length, context_len=1),
            )
            own: list[TokenRequest] = [(None, context, continuation) for context, continuation in windows]
            parts += own
            counts.append(len(own))
        answers = iter(self._score(parts, disable_tqdm))
        totals = [sum((next(answers)[0] for _ in range(count)), 0.0) for count in counts]
        for request, total in zip(requests, totals, strict=True):
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, total)
        return totals

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Return the continuation of each context, up to the first of the strings `until` or the EOS token.

        The arguments of a request are its context and the options that `read_gen_kwargs` describes. A context loses its
        beginning if `max_gen_toks` tokens would not fit after it. Raises RequestError for an unknown option.
        """
        prepared = [self._generation_request(index, request) for index, request in enumerate(requests)]
        longest_first = sorted(range(len(prepared)), key=lambda index: -len(prepared[index].prompt_tokens))
        texts: dict[int, str] = {}
        generations = self.engine.generate_all([prepared[index] for index in longest_first], self.batch_size)
        progress = tqdm(generations, "Generating", len(prepared), disable=disable_tqdm or None)
        for index, generation in zip(longest_first, progress, strict=True):
            texts[index] = generation.text
            self.cache_hook.add_partial("generate_until", requests[index].args, generation.text)
        return [texts[index] for index in range(len(prepared))]

    def _generation_request(self, index: int, request: Instance) -> Request:
        context, gen_kwargs = request.args
        task = "A request" if request.task_name is None else f"The task {request.task_name}"
        options = read_gen_kwargs(gen_kwargs, self._seed + index, task)
        capacity = self.max_length - options.max_gen_toks
        if capacity < 1:
            raise RequestError(
                f"{task} generates {options.max_gen_toks} tokens (max_gen_toks), which must be less than "
                f"{self.max_length}, the context of the model. Set fewer: --gen-kwargs max_gen_toks=N."
            )
        tokens = self.tok_encode(context) or [self.prefix_token_id]
        self.truncated += len(tokens) > capacity
        eot = self.source.tokenizer.decode([self.eot_token_id], special=True)
        return Request(
            tokens[-capacity:],
            max_new_tokens=options.max_gen_toks,
            sampling=options.sampling,
            stop=[*options.until, eot],
            stop_ids=[self.eot_token_id],
        )

    def get_model_info(self) -> dict[str, Any]:
        """Return what the harness adds to the configuration in its results."""
        return {
            "model_dtype": "float32",
            "max_gpt2_version": __version__,
            "kernels": self.source.options.kernels,
            "weights": self.source.options.weights,
            "max_length": self.max_length,
            "eot_token_id": self.eot_token_id,
            "prefix_token_id": self.prefix_token_id,
            "truncated_requests": self.truncated,
        }


def _load_options(options: HarnessKeywords) -> LoadOptions:
    """Return the options for loading. The device is ignored: the harness passes cuda:0 on a machine without one."""
    fields: dict[str, Any] = dict(options)
    for name in ("device", "max_batch_size"):
        fields.pop(name, None)
    if adapter := fields.pop("adapter", None):
        fields["adapters"] = [*fields.get("adapters", ()), adapter]
    return LoadOptions.from_keywords(**fields)


def _batch_size(value: int | str) -> int:
    if str(value).startswith("auto"):
        return BATCH_SIZE
    if not str(value).isdecimal() or int(value) < 1:
        raise RequestError(f"The batch size {value!r} is neither a positive integer nor auto. Use one of them.")
    return int(value)


def _origin(request: Instance) -> str:
    """Return a name of a request for a message."""
    return "A request" if request.task_name is None else f"Document {request.doc_id} of the task {request.task_name}"

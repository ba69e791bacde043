"""The answers to what the page asks about one model."""

import warnings
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from math import prod
from typing import Any

import numpy as np

from max_gpt2.errors import RequestError, TokenizerError, UnknownTextWarning
from max_gpt2.generation import SamplingParams, encode_text
from max_gpt2.generation.logits import History, make_sampler, most_likely, softmax, warp
from max_gpt2.inspect.lens import Attribution
from max_gpt2.inspect.probes import name_in
from max_gpt2.inspect.trace import Trace, Tracer
from max_gpt2.inspect.xray.predictions import predictions
from max_gpt2.inspect.xray.state import State, encode_array, token_text, token_texts
from max_gpt2.weights import LM_HEAD, WTE

#: Recent traces are kept up to this size, and two in any case, so that a step back is not computed again.
_KEPT_BYTES = 1 << 30
#: The number of tokens in the table of the next token.
NEXT_TOKENS = 200


@dataclass
class Analysis:
    """Answers questions about a model as JSON values; not thread-safe.

    Attributes:
        name: The name of the model on the page.
        tracer: Runs the model.
        verdict: The verdict of `max-gpt2 verify`: {"passed": true, false or None, "text": a sentence}.

    """

    name: str
    tracer: Tracer
    verdict: Mapping[str, Any]
    _traces: OrderedDict[State, Trace] = field(default_factory=OrderedDict)
    _patterns: tuple[State, int, np.ndarray] | None = None

    def model(self) -> dict[str, Any]:
        """Describe the model."""
        config = self.tracer.config
        sizes = {name: getattr(config, name) for name in ("n_layer", "n_head", "n_embd", "n_positions", "vocab_size")}
        sizes["tokenizer_size"] = self.tracer.tokenizer.size  # the sampler never chooses an id above
        weights = self.tracer.stages.weights
        tied = weights[LM_HEAD] is weights[WTE]
        parameters = sum(prod(one.shape) for name, one in weights.items() if not (tied and name == LM_HEAD))
        bos = self.tracer.tokenizer.start_id if self._has_bos() else None
        return {"name": self.name, **sizes, "parameters": parameters, "bos": bos, "verdict": dict(self.verdict)}

    def encode(self, text: str, bos: bool) -> dict[str, Any]:
        """Return the ids of a text, and a warning about characters that the tokenizer does not know.

        Raises RequestError for a text that is empty or longer than the context.
        """
        tokenizer = self.tracer.tokenizer
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UnknownTextWarning)
            ids = encode_text(tokenizer, text) if text else []
        ids = [tokenizer.start_id, *ids] if bos else ids
        if not ids:
            raise RequestError("The text is empty. Enter a text, or switch the BOS token on.")
        self.tracer.check(ids)
        return {"ids": ids, **({"warning": str(caught[0].message)} if caught else {})}

    def view(self, state: State) -> dict[str, Any]:
        """Return the tokens with their measures, and the most likely tokens after each."""
        found = {
            name: predictions(self.tracer.stages, self._trace(one)["ln_f"], state.ids)
            for name, one in _variants(state).items()
        }
        arrays = {f"{name}{key}": value for name, one in found.items() for key, value in asdict(one).items()}
        tokenizer, top = self.tracer.tokenizer, [one.top_ids.ravel() for one in found.values()]
        return {
            "tokens": [{"id": id_, "text": token_text(tokenizer, id_)} for id_ in state.ids],
            **{name: encode_array(value) for name, value in arrays.items()},
            "texts": token_texts(tokenizer, *top),
            "next_id": int(found[""].top_ids[-1, 0]),
        }

    def next(self, state: State, position: int) -> dict[str, Any]:
        """Return the logits after a position, and the texts of the most likely tokens."""
        logits = {name: self._logits(one, position) for name, one in _variants(state).items()}
        count = min(NEXT_TOKENS, self.tracer.config.vocab_size)
        top = [most_likely(one, count) for one in logits.values()]
        ids = np.array(list(dict.fromkeys(np.concatenate(top).tolist())))
        return {
            **{f"{name}logits": encode_array(one) for name, one in logits.items()},
            "top": encode_array(ids),
            "texts": token_texts(self.tracer.tokenizer, ids),
        }

    def sample(self, state: State, params: SamplingParams) -> dict[str, Any]:
        """Draw the next token as the engine does, and return it with its probability under the sampling parameters."""
        logits, size = self._logits(state, len(state.ids) - 1), self.tracer.tokenizer.size
        seed = 0 if params.seed is None else params.seed
        chosen = make_sampler(params, seed, size)(logits, History(list(state.ids)))
        if params.temperature == 0:
            return {"id": chosen, "probability": 1.0}
        scores = logits.astype(np.float64)
        scores[size:] = -np.inf
        return {"id": chosen, "probability": float(softmax(warp(scores, params))[chosen])}

    def lens(self, state: State, positions: range | None = None) -> dict[str, Any]:
        """Return the logit lens at all positions or at some."""
        found = self._trace(state).logit_lens(positions)
        arrays = {"ids" if name == "tokens" else name: encode_array(value) for name, value in vars(found).items()}
        return {**arrays, "texts": token_texts(self.tracer.tokenizer, found.tokens.ravel(), found.targets)}

    def norms(self, state: State) -> dict[str, Any]:
        """Return the Euclidean norm of the residual stream after the embeddings and each block: [n_layer + 1, seq]."""
        names = ["embeddings", *(name_in(layer, "") for layer in range(self.tracer.config.n_layer))]
        return {
            f"{prefix}norms": encode_array(
                np.stack([np.linalg.norm(self._trace(one)[name].astype(np.float64), axis=1) for name in names])
            )
            for prefix, one in _variants(state).items()
        }

    def attention(self, state: State, layer: int, size: int) -> dict[str, Any]:
        """Return small pictures of the attention patterns of a layer: the maximum of each square of cells."""
        pattern = self._pattern(state, layer)
        edges = np.unique(np.linspace(0, len(state.ids), min(size, len(state.ids)), endpoint=False).astype(int))
        small = np.maximum.reduceat(np.maximum.reduceat(pattern, edges, axis=1), edges, axis=2)
        return {"thumbnails": encode_array(np.round(255 * small).clip(0, 255).astype(np.uint8))}

    def head(self, state: State, layer: int, head: int) -> dict[str, Any]:
        """Return the attention pattern of a head: [seq, seq]."""
        pattern = self._pattern(state, layer)
        if not 0 <= head < len(pattern):
            raise RequestError(f"Head {head} does not exist: the model has the heads 0 to {len(pattern) - 1}.")
        return {"pattern": encode_array(pattern[head])}

    def attribution(self, state: State, token: int, minus: int | None, position: int) -> dict[str, Any]:
        """Return the parts of the logit of a token, or of its difference to that of another one."""
        found: dict[str, Attribution] = {}
        for prefix, one in _variants(state).items():
            trace = self._trace(one).with_activations(["h.*.attn.z", "h.*.mlp"])
            self._keep(one, trace)
            found[prefix] = trace.attribution(token, minus, position)
        return {
            **{
                f"{prefix}{name}": encode_array(value) if isinstance(value, np.ndarray) else value
                for prefix, one in found.items()
                for name, value in vars(one).items()
            },
            "texts": token_texts(self.tracer.tokenizer, [token] if minus is None else [token, minus]),
        }

    def _trace(self, state: State) -> Trace:
        """Return the trace of a state with the residual streams; a recent one is not computed again."""
        if state not in self._traces:
            tracer = replace(self.tracer, edits=state.edits(self.tracer.config))
            self._keep(state, *tracer.trace([state.ids], ["embeddings", "h.*", "ln_f"]))
        self._traces.move_to_end(state)
        return self._traces[state]

    def _keep(self, state: State, trace: Trace) -> None:
        self._traces[state] = trace
        self._traces.move_to_end(state)
        sizes = {one: sum(value.nbytes for value in kept.values()) for one, kept in self._traces.items()}
        while len(self._traces) > 2 and sum(sizes[one] for one in self._traces) > _KEPT_BYTES:
            self._traces.popitem(last=False)

    def _logits(self, state: State, position: int) -> np.ndarray:
        if not 0 <= position < len(state.ids):
            raise RequestError(f"Position {position} is not in the text, which has {len(state.ids)} tokens.")
        return self.tracer.stages.logits(self._trace(state)["ln_f"][position][None])[0]

    def _pattern(self, state: State, layer: int) -> np.ndarray:
        """Return the patterns of a layer; those of the last one are kept, since its heads are asked for in turn."""
        if self._patterns is None or self._patterns[:2] != (state, layer):
            name = name_in(layer, "attn.pattern")
            self._patterns = state, layer, self._trace(state).with_activations([name])[name]
        return self._patterns[2]

    def _has_bos(self) -> bool:
        try:
            return self.tracer.tokenizer.start_id >= 0
        except TokenizerError:
            return False


def _variants(state: State) -> dict[str, State]:
    """Return the states to answer for by the prefix of their fields: without ablations too, if there are some."""
    return {"": state, "base_": state.unedited()} if state.ablated else {"": state}

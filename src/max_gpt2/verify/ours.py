"""MAX's side: the model for users, and the same with its hidden states as outputs."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from max_gpt2.config import GPT2Config
from max_gpt2.model import CompiledModel, Kernels
from max_gpt2.model.traced import TracedModel, trace_model
from max_gpt2.progress import COMPILING, Runner
from max_gpt2.ready import ready_model
from max_gpt2.verify.answer import Answer

LOOKING_INSIDE = "Compiling once more, with the hidden states as outputs (as long again)"


@dataclass(frozen=True)
class MaxSide:
    """A checkpoint in MAX. The logits are those of the very graph that writes texts."""

    compiled: CompiledModel
    traced: TracedModel

    @classmethod
    def compile(
        cls, config: GPT2Config, state_dict: Mapping[str, np.ndarray], run: Runner, kernels: Kernels = "mojo"
    ) -> "MaxSide":
        """Compile both."""
        compiled = run(COMPILING, lambda: ready_model(config, state_dict, kernels))
        return cls(compiled, run(LOOKING_INSIDE, lambda: trace_model(config, state_dict, kernels)))

    def wte(self) -> np.ndarray:
        """Return what is looked up for every id: [vocab, n_embd]."""
        return self.traced.wte()

    def answer(self, tokens: list[int], max_new_tokens: int) -> Answer:
        """Compute everything for a prompt and continue it greedily."""
        states = {name: state[np.newaxis] for name, state in self.traced.states(tokens).items()}
        return Answer(states, self.compiled.logits(np.array([tokens])), self._greedy(tokens, max_new_tokens))

    def _greedy(self, tokens: list[int], max_new_tokens: int) -> list[int]:
        session = self.compiled.session(1, len(tokens) + max_new_tokens)
        written: list[int] = []
        new = tokens
        while len(written) < max_new_tokens:
            (logits,) = session.extend({0: new})
            new = [int(logits[-1].argmax())]
            written += new
        return written

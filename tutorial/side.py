"""The learner's model as a side of `max-gpt2 verify --mine`."""

from collections.abc import Mapping
from dataclasses import asdict

import numpy as np

from max_gpt2._progress import COMPILING, Runner
from max_gpt2.checkpoint.layout import is_conv1d
from max_gpt2.config import GPT2Config
from max_gpt2.example import check_published
from max_gpt2.verify import ModelOutputs
from tutorial.mine import Parts


class MySide:
    """A checkpoint in the model of the steps. It has no hidden states to show: the tutorial's model returns logits."""

    def __init__(self, parts: Parts, config: GPT2Config, state_dict: Mapping[str, np.ndarray], run: Runner) -> None:
        """Load the canonical weights, the Conv1D ones transposed as Linear wants them, and compile.

        Raises RequestError for a checkpoint with flags that the tutorial's model does not have.
        """
        check_published("The checkpoint", config)
        mine = parts.config(**{name: getattr(config, name) for name in asdict(parts.config())})
        model = parts.model(mine)
        head = {} if "lm_head.weight" in state_dict else {"lm_head.weight": state_dict["transformer.wte.weight"]}
        weights = {
            name: np.ascontiguousarray(one.T) if is_conv1d(name) else one
            for name, one in (dict(state_dict) | head).items()
        }
        model.load_state_dict(weights)
        self.table, self.generate_tokens = weights["transformer.wte.weight"], parts.generate_tokens
        self.compiled = run(COMPILING, model.compiled)

    def wte(self) -> np.ndarray:
        """Return the table that was loaded: [vocab, n_embd]."""
        return self.table

    def compute(self, tokens: list[int], max_new_tokens: int) -> ModelOutputs:
        """Compute the logits of a prompt, and continue it greedily with the learner's own loop."""
        ids = np.array([tokens])
        written = self.generate_tokens(self.compiled, ids, max_new_tokens, do_sample=False)
        return ModelOutputs({}, self.compiled(ids), written[0, len(tokens) :].tolist())

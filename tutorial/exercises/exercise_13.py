"""Step 13: the language model, compiled."""

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np

from tutorial.exercise import (
    NO_MISTAKES,
    GraphExercise,
    MaxTensor,
    Mistakes,
    Runner,
    WrongAnswerError,
    require_array,
    require_value,
)
from tutorial.inputs import SIZES, Arrays, config, prefixed, random_array, token_ids, transformer_weights

COMPILED = "the logits of the compiled model"


class LanguageModel(GraphExercise):
    """The whole model, compiled and run by the learner's own code."""

    number = 13
    title = "the language model"
    defines = ("MaxGPT2LMHeadModel", "CompiledGPT2")
    inputs = {"input_ids": ("batch", "seq")}
    outputs = {"logits": ("batch", "seq", "vocab"), COMPILED: ("batch", "seq", "vocab")}
    tolerance = 2e-4
    hints = (
        "The head is one more Linear, from n_embd to the size of the vocabulary, without a bias.",
        "Create the submodules inside a `with` statement with three parts: F.lazy(), so that nothing is computed before the weights are loaded, and the defaults for the device (the CPU) and the dtype (float32). Compile inside the same defaults, but with self.device.",
        'compile takes the type of input_ids: a TensorType of int64 with the symbolic dimensions "batch" and "seq". Its result has a method execute_raw, which takes a Buffer made from a numpy array and returns a list.',
    )
    mistakes = {
        "no mask": "The compiled model behaves as if it had no mask. If step 8 passes, MAX lost the mask: when a mask is made by comparing positions (F.where), MAX's compiler fuses it away. Make it with F.band_part in step 2.",
        "no head": "You return the hidden states. The head turns them into a score for every token: self.lm_head(...).",
        "softmax": "You return probabilities. Return the logits, without a softmax; step 14 applies it when sampling.",
        "log softmax": "You return log-probabilities. Return the logits, as lm_head computes them.",
        "last only": "You return only the logits of the last token. Return those of every token: [batch, seq, vocab].",
        "wte": "Your head multiplies by wte. Published GPT-2s tie the two weights, but not every checkpoint does: use self.lm_head, which has a weight of its own.",
    }

    def arguments(self) -> Arrays:
        """Return token ids."""
        return {"input_ids": token_ids()}

    def weights(self) -> Arrays:
        """Return the parameters of the model, under the names of `GPT2LMHeadModel`."""
        stack = prefixed("transformer.", transformer_weights(130))
        return stack | {"lm_head.weight": random_array(137, ("vocab", "n_embd"), 0.3)}

    def build(self, step: ModuleType) -> Any:
        """Create the model."""
        return step.MaxGPT2LMHeadModel(config())

    def call(self, step: ModuleType, built: Any, inputs: Sequence[MaxTensor]) -> Sequence[Any]:
        """Apply it."""
        return [built(inputs[0])]

    def observe(self, step: ModuleType, runner: Runner) -> Arrays:
        """Run the model; if its logits are correct, also compile it with `compiled` and run CompiledGPT2."""
        found = runner.run_graph(self, step, ("logits",))
        logits = found["logits"]
        if self.equal(logits, self.expected()["logits"]):  # otherwise compiling for a minute would reveal nothing new
            runner.report("forward")
            model = self.build(step)
            model.load_state_dict(self.weights())
            runner.report("compile")
            compiled = require_value(model.compiled(), "compiled")
            runner.report("forward")
            found[COMPILED] = require_array(compiled(self.arguments()["input_ids"]), "CompiledGPT2")
            if self.equal(found[COMPILED], logits):
                check_other_inputs(compiled, self.arguments()["input_ids"])
                check_given_code(model, compiled)
        else:
            found[COMPILED] = logits
        return found

    def expected(self, wrong: Mistakes = NO_MISTAKES) -> Arrays:
        """Return PyTorch's output."""
        from tutorial import reference

        ids = reference.as_tensors(self.arguments())["input_ids"]
        weights = reference.as_tensors(self.weights())
        outputs = {
            "logits": reference.language_model(ids, weights, wrong - reference.MASK),
            COMPILED: reference.language_model(ids, weights, wrong),
        }
        return reference.as_arrays(outputs)


def check_other_inputs(compiled: Any, input_ids: np.ndarray) -> None:
    """Raise WrongAnswerError if the model runs only on ids of one shape or of one integer type."""
    expected = compiled(input_ids)
    batch, seq = input_ids.shape
    row = np.resize(input_ids[0], SIZES["n_positions"])
    # A token cannot attend to later ones, so the beginning of a sequence has the same logits on its own.
    for ids, shown in (
        (input_ids[:1, :-2], expected[:1, :-2]),
        (input_ids[:1, :1], expected[:1, :1]),
        (row[None], expected[:1]),  # the full context
        (np.concatenate([input_ids, input_ids[:1]]), np.concatenate([expected, expected[:1]])),
    ):
        if not _agrees(compiled, ids, shown):
            raise WrongAnswerError(
                f"The compiled model runs on ids of shape [{batch}, {seq}] but not on ids of {list(ids.shape)}. "
                'Compile it for the symbolic dimensions "batch" and "seq" instead of fixed lengths.'
            )
    for ids, kind in ((input_ids.astype(np.int32), "int32"), (np.asfortranarray(input_ids), "not contiguous")):
        if not _agrees(compiled, ids, expected):
            raise WrongAnswerError(
                f"CompiledGPT2 does not run on ids that are {kind}. The graph expects contiguous int64: convert them "
                "with np.ascontiguousarray(input_ids, dtype=np.int64)."
            )


def _agrees(compiled: Any, ids: np.ndarray, expected: np.ndarray) -> bool:
    """Return True if the model runs on these ids and its first logits are the expected ones."""
    try:
        logits = compiled(ids)
    except Exception:  # MAX raises many types
        return False
    if logits.shape[:2] != ids.shape:
        return False
    return np.allclose(logits[:, : expected.shape[1]], expected, rtol=0, atol=1e-3)


def check_given_code(model: Any, compiled: Any) -> None:
    """Raise WrongAnswerError if the model cannot be called because a given line is missing."""
    from max.experimental.tensor import Tensor

    from solutions.pretrained import PretrainedModel

    if not isinstance(model, PretrainedModel):
        raise WrongAnswerError(
            "MaxGPT2LMHeadModel does not derive from PretrainedModel, so it cannot be called like a function. Keep the "
            "line `class MaxGPT2LMHeadModel(PretrainedModel):`; solutions/pretrained.py defines that class."
        )
    try:
        logits = compiled(Tensor.from_dlpack(token_ids()))
    except Exception:
        logits = None
    if not isinstance(logits, Tensor):
        raise WrongAnswerError("CompiledGPT2 does not take a Tensor. Keep the line @accepts_tensors above __call__.")


EXERCISE = LanguageModel()

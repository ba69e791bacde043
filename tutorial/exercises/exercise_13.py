"""Step 13: the language model, and how to run it."""

from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from tutorial.exercise import RIGHT, GraphExercise, Report, Wrong
from tutorial.exercises.parts import config, prefixed, transformer_weights
from tutorial.problem import WrongAnswerError
from tutorial.sizes import Arrays, numbers, token_ids

if TYPE_CHECKING:
    from max.experimental.tensor import Tensor

COMPILED = "the logits of compiled()"


class LanguageModel(GraphExercise):
    """The whole model, compiled and run as the learner's own code does it."""

    number = 13
    title = "the language model"
    defines = ("MaxGPT2LMHeadModel", "CompiledGPT2")
    inputs = {"input_ids": ("batch", "seq")}
    outputs = {"logits": ("batch", "seq", "vocab"), COMPILED: ("batch", "seq", "vocab")}
    tolerance = 2e-4
    hints = (
        "The head is one more Linear, from the width of the model to the size of the vocabulary, with no bias.",
        "Make the parts inside a `with` of three: F.lazy(), so that nothing is computed before the weights are there, and the defaults for the device (the CPU) and the dtype (float32).",
        'compile wants the type of input_ids: a TensorType of int64 with the names "batch" and "seq" as its lengths. What it returns has execute_raw, which takes a Buffer made from a numpy array and gives back a list.',
    )
    mistakes = {
        "no mask": "This is what the model gives without the mask. If step 8 is right, MAX has lost it on the way: where a mask is made by comparing positions (F.where), its compiler fuses the mask away. Make it with F.band_part in step 2.",
        "no head": "These are the hidden states. The head turns them into a score for every token: self.lm_head(...).",
        "softmax": "These are probabilities. Logits are wanted, without the softmax; the sampling of step 14 does that.",
        "log softmax": "These are log-probabilities. Logits are wanted, as lm_head gives them.",
        "last only": "These are the logits after the last token only. Return those after every token: [batch, seq, vocab].",
        "wte": "The head multiplies with wte. Published GPT-2s tie the two, but not every checkpoint does: use self.lm_head, "
        "which has a weight of its own.",
    }

    def arguments(self) -> Arrays:
        """Return ids."""
        return {"input_ids": token_ids()}

    def weights(self) -> Arrays:
        """Return the weights of the model, by the names of `GPT2LMHeadModel`."""
        stack = prefixed("transformer.", transformer_weights(130))
        return stack | {"lm_head.weight": numbers(137, ("vocab", "n_embd"), 0.3)}

    def build(self, step: ModuleType) -> Any:
        """Make the model."""
        return step.MaxGPT2LMHeadModel(config())

    def call(self, step: ModuleType, built: Any, inputs: Sequence["Tensor"]) -> Sequence[Any]:
        """Apply it inside a graph."""
        return [built(inputs[0])]

    def observe(self, step: ModuleType, report: Report) -> Arrays:
        """Run the model; when it is right, let the learner's `compiled` compile it, and CompiledGPT2 run it."""
        from tutorial.lab import run_step
        from tutorial.returned import one_array, present

        found = run_step(self, step, report, ("logits",))
        logits = found["logits"]
        if self.equal(logits, self.expected()["logits"]):  # else the compiler's minute would tell nothing new
            report("forward")
            model = self.build(step)
            model.load_state_dict(self.weights())
            report("compile")
            compiled = present(model.compiled(), "compiled")
            report("forward")
            found[COMPILED] = one_array(compiled(self.arguments()["input_ids"]), "CompiledGPT2")
            check_another_length(compiled, self.arguments()["input_ids"])
        else:
            found[COMPILED] = logits
        return found

    def expected(self, wrong: Wrong = RIGHT) -> Arrays:
        """Return what PyTorch computes."""
        from tutorial import reference

        ids = reference.as_tensors(self.arguments())["input_ids"]
        weights = reference.as_tensors(self.weights())
        made = {
            "logits": reference.language_model(ids, weights, wrong - reference.MASK),
            COMPILED: reference.language_model(ids, weights, wrong),
        }
        return reference.as_arrays(made)


def check_another_length(compiled: Any, input_ids: np.ndarray) -> None:
    """Raise WrongAnswerError for a model that was compiled for the batch and the length of `input_ids` only."""
    fewer = input_ids[:1, :-2]
    try:
        shape = compiled(fewer).shape[:2]
    except Exception:
        shape = None
    if shape != fewer.shape:
        raise WrongAnswerError(
            f"The compiled model runs on ids of {list(input_ids.shape)} and not on ids of {list(fewer.shape)}. Compile it "
            'for lengths that have names, "batch" and "seq", in the place of numbers.'
        )


EXERCISE = LanguageModel()

"""Look inside 3: a broken head."""

from types import ModuleType

import numpy as np

from tutorial.exercise import NO_MISTAKES, Exercise, Mistakes, Runner, WrongAnswerError, require_array, require_value
from tutorial.inputs import Arrays
from tutorial.made_model import INDUCTION_HEAD, PREVIOUS_TOKEN_HEAD

HEADS, HEAD_DIM, LENGTH, VOCAB = 4, 5, 6, 13
HEAD = 2
#: The heads that the check breaks in each model. The demo's is the one with the largest induction score.
BROKEN = {
    "the made model": (None, INDUCTION_HEAD, PREVIOUS_TOKEN_HEAD),
    "the demo": (None, (0, 2)),
}


class Ablation(Exercise):
    """A weight without a head, the loss of random logits, and the losses of the models with and without heads."""

    number = 17
    title = "a broken head, and the loss"
    defines = ("without_head", "second_copy_loss")
    outputs = {
        "the weight without head 2": ("n_embd", "n_embd"),
        "the given weight has changed": (),
        "the loss of random logits": (),
        "losses of the made model": ("heads",),
        "losses of the demo": ("heads",),
    }
    reference = "numpy"
    hints = (
        "c_proj computes x @ weight.T + bias, and x has the outputs of all heads side by side. Which entries of the weight meet the numbers of head 0?",
        "The weight is [out, in], so that a head belongs to head_dim columns. For the loss, choose the rows of the logits that are about the tokens at length + 1 to 2 * length - 1: each row is about the next token.",
        "Columns head * head_dim to (head + 1) * head_dim, in a copy. The rows are length to 2 * length - 2; the logarithm of a probability is the logit minus the logarithm of the sum of exp over the vocabulary.",
    )
    mistakes = {
        "rows": "You set rows to 0, which are outputs of c_proj. The outputs of a head are inputs of c_proj, and the weight is [out, in]: set its columns.",
        "one column": "You set a single column to 0. A head has head_dim columns.",
        "every head_dim-th": "You set every n_head-th column to 0. The numbers of a head are side by side.",
        "head before": "You are off by one: you removed head 1 instead of head 2. Heads are counted from 0.",
        "all others": "You removed all other heads and kept the one to remove.",
        "in place": "You changed the weight that was given, so that the model stays broken. Change a copy: weight.copy().",
        "shift": "You are off by one: you compare the logits at position i with the token at position i. They are about the next token.",
        "first copy": "Your loss is that of the first copy. Use the tokens of the second half.",
        "whole": "Your loss is that of the whole sequence. Use the tokens of the second half.",
        "with its first": "Your mean includes the first token of the second copy. It follows the end of the first copy, and nothing announces it: start with the second token, at length + 1.",
        "logits": "You take the negative logit itself. The loss is the negative logarithm of a probability: subtract the logarithm of the sum of exp over the vocabulary.",
        "probability": "You take the mean of the probabilities. Take the mean of their negative logarithms.",
        "log of mean": "You take the logarithm of the mean probability. Take the mean of the logarithms.",
        "sign": "Your loss is negative. It is minus the logarithm of the probability.",
        "bits": "Your loss is in bits. Use the natural logarithm.",
        "sum": "Your loss is the sum over the tokens. Take the mean.",
    }

    def observe(self, step: ModuleType, runner: Runner) -> Arrays:
        """Run the learner's functions, and their own model with and without heads."""
        from tutorial.inside import subject, tracer_of_steps

        runner.report("forward")
        given, (logits, ids) = weight(), case()
        changed = require_array(step.without_head(given, HEAD, HEAD_DIM), "without_head")
        if changed.shape != given.shape:
            raise WrongAnswerError(f"without_head returned the shape {list(changed.shape)}, not {list(given.shape)}.")
        observed = {
            "the weight without head 2": changed,
            "the given weight has changed": np.array(not np.array_equal(given, weight())),
            "the loss of random logits": loss(step, logits, ids),
        }
        for name, heads in BROKEN.items():
            runner.report("run")
            tracer, ids, losses = tracer_of_steps(name), subject(name).repeated, []
            for head in heads:
                broken = tracer
                if head is not None:
                    key, _ = subject(name).output_weight(head)
                    value = step.without_head(tracer.parameters[key].copy(), head[1], subject(name).head_dim)
                    broken = tracer.with_parameters({key: value})
                (trace,) = broken.trace([ids.tolist()], ["logits"])
                losses.append(loss(step, trace["logits"], ids))
            observed[f"losses of {name}"] = np.array(losses)
        return observed

    def expected(self, wrong: Mistakes = NO_MISTAKES) -> Arrays:
        """Return what numpy computes; without the losses of the models for a mistake."""
        from tutorial.inside import observe, subject

        found = {
            "the weight without head 2": weight_without(wrong),
            "the given weight has changed": np.array("in place" in wrong),
            "the loss of random logits": np.array(expected_loss(*case(), wrong)),
        }
        for name, heads in BROKEN.items() if not wrong else ():
            logits, ids = [observe(name, without=head).logits for head in heads], subject(name).repeated
            found[f"losses of {name}"] = np.array([expected_loss(one, ids, wrong) for one in logits])
        return found

    def summary(self, observed: Arrays) -> str:
        """Show the losses."""
        made, demo = observed["losses of the made model"], observed["losses of the demo"]
        return (
            f"Loss of the made model on the second copy: {made[0]:.2f}. Without its induction head: {made[1]:.2f}. Without "
            f"its previous-token head: {made[2]:.2f}. Loss of the demo: {demo[0]:.2f}. Without head 2 of layer 0: "
            f"{demo[1]:.2f}."
        )


def loss(step: ModuleType, logits: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Return the learner's loss as an array; raise WrongAnswerError unless it is one number."""
    found = np.asarray(require_value(step.second_copy_loss(logits.copy(), ids.copy()), "second_copy_loss"), dtype=float)
    if found.shape:
        raise WrongAnswerError(f"second_copy_loss returned {list(found.shape)} numbers. Return one: the mean.")
    return found


def weight() -> np.ndarray:
    """Return a weight without zeros: [20, 20]."""
    return np.random.default_rng(1).uniform(1, 2, (HEADS * HEAD_DIM, HEADS * HEAD_DIM)).astype(np.float32)


def case() -> tuple[np.ndarray, np.ndarray]:
    """Return random logits [12, 13] and a repeated sequence [12]."""
    rng = np.random.default_rng(2)
    once = rng.permutation(VOCAB)[:LENGTH]
    return (3 * rng.standard_normal((2 * LENGTH, VOCAB))).astype(np.float32), np.concatenate([once, once])


def weight_without(wrong: Mistakes) -> np.ndarray:
    """Return the weight without the head, entry by entry."""
    head = HEAD - ("head before" in wrong)
    mask = np.arange(HEADS * HEAD_DIM) // HEAD_DIM == head
    if "one column" in wrong:
        mask = np.arange(HEADS * HEAD_DIM) == head
    if "every head_dim-th" in wrong:
        mask = np.arange(HEADS * HEAD_DIM) % HEADS == head
    if "all others" in wrong:
        mask = ~mask
    return weight() * ~(mask[:, None] if "rows" in wrong else mask)


def expected_loss(logits: np.ndarray, ids: np.ndarray, wrong: Mistakes) -> float:
    """Return the loss, one token at a time."""
    length, ahead = len(ids) // 2, 0 if "shift" in wrong else 1
    start, stop = length + 1, 2 * length
    if "first copy" in wrong:
        start, stop = 1, length
    if wrong & {"whole", "with its first"}:
        start = 1 if "whole" in wrong else length
    surprisals = []
    for place in range(start, stop):
        row = logits[place - ahead].astype(np.float64)
        surprisals.append(np.logaddexp.reduce(row) * ("logits" not in wrong) - row[ids[place]])
    values = np.array(surprisals)
    if "probability" in wrong:
        return float(np.exp(-values).mean())
    if "log of mean" in wrong:
        return float(-np.log(np.exp(-values).mean()))
    total = values.sum() if "sum" in wrong else values.mean()
    return float(total * (-1 if "sign" in wrong else 1) / (np.log(2) if "bits" in wrong else 1))


EXERCISE = Ablation()

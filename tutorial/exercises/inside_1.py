"""Look inside 1: the previous-token head."""

from types import ModuleType

import numpy as np

from tutorial.exercise import NO_MISTAKES, Exercise, Mistakes, Runner, require_array, require_tuple, require_value
from tutorial.inputs import Arrays

#: Scores with their maximum at layer 2, head 1.
TABLE = np.array([[0.1, 0.3, 0.2, 0.15], [0.05, 0.0, 0.4, 0.35], [0.2, 0.9, 0.6, 0.1]], dtype=np.float32)


class PreviousToken(Exercise):
    """The scores of the made model and of the demo, and the place of the largest number in a table."""

    number = 15
    title = "the head that attends to the token before"
    defines = ("previous_token_scores", "strongest_head")
    outputs = {
        "the strongest head of a table": ("layer and head",),
        "scores of the made model": ("n_layer", "n_head"),
        "scores of the demo": ("n_layer", "n_head"),
    }
    reference = "numpy"
    hints = (
        "Row i of a pattern is the query at position i, column j the key at position j. The token before position i is in column i - 1, and position 0 has none.",
        "These numbers are the diagonal below the main one. Two lists of indices, one for the rows and one for the columns, choose them in all patterns at once: patterns[..., rows, columns].",
        "The rows are np.arange(1, seq) and the columns np.arange(seq - 1); the mean is over the last axis. argmax counts through a table row by row, so divmod by the number of heads gives layer and head.",
    )
    mistakes = {
        "same token": "Your scores are the attention of each token to itself, the main diagonal. The token before position i is in column i - 1.",
        "next token": "Your scores are the attention to the token after, which the mask makes 0. Rows are queries and columns are keys: use [i, i - 1], not [i - 1, i].",
        "two before": "Your scores are the attention two tokens back, column i - 2. Use column i - 1.",
        "divided by seq": "You divide by seq, but there are only seq - 1 positions with a token before. Take the mean over the positions from 1 on.",
        "sum": "Your scores are sums over the positions. Take the mean, so that a score does not depend on the length of the text.",
        "over heads": "Your mean is over the heads, and the positions are left. Take the mean over the last axis, so that each head has its score.",
        "per position": "You return one number for each position. Take the mean over them: axis=-1.",
        "maximum": "You take the largest attention of any position. Take the mean over the positions.",
        "head first": "You return the head before the layer. The order is (layer, head).",
        "flat": "You return the number that argmax gives, which counts through all heads of all layers. divmod by the number of heads divides it into layer and head.",
        "from 1": "You count layers and heads from 1. They are counted from 0.",
        "weakest": "You return the head with the smallest score. Use argmax.",
    }

    def observe(self, step: ModuleType, runner: Runner) -> Arrays:
        """Run the learner's functions on the patterns of their own model."""
        from tutorial.inside import DEMO, MADE, patterns_of, subject, text_ids, tracer_of_steps

        runner.report("forward")
        found = require_value(step.strongest_head(TABLE.copy()), "strongest_head")
        strongest = found if isinstance(found, int | np.integer) else require_tuple(found, ("layer", "head"))
        observed = {"the strongest head of a table": np.array(strongest)}
        for name, ids in ((MADE, subject(MADE).repeated), (DEMO, text_ids())):
            runner.report("run")
            patterns = patterns_of(tracer_of_steps(name), ids)
            runner.report("forward")
            scores = step.previous_token_scores(patterns.copy())
            observed[f"scores of {name}"] = require_array(scores, "previous_token_scores")
        return observed

    def expected(self, wrong: Mistakes = NO_MISTAKES) -> Arrays:
        """Return what numpy computes."""
        from tutorial.inside import DEMO, MADE, observe

        return {
            "the strongest head of a table": strongest(wrong),
            "scores of the made model": scores(observe(MADE).patterns, wrong),
            "scores of the demo": scores(observe(DEMO, text=True).patterns, wrong),
        }

    def summary(self, observed: Arrays) -> str:
        """Name the heads that were found."""
        parts = []
        for name in ("the made model", "the demo"):
            found = observed[f"scores of {name}"]
            layer, head = divmod(int(found.argmax()), found.shape[1])
            parts.append(f"In {name}, it is head {head} of layer {layer}, with a score of {found.max():.2f}.")
        return " ".join(parts)


def scores(patterns: np.ndarray, wrong: Mistakes) -> np.ndarray:
    """Return the scores, one query at a time: [n_layer, n_head, seq, seq] -> [n_layer, n_head]."""
    seq = patterns.shape[-1]
    if "same token" in wrong:
        return np.einsum("lhii->lh", patterns) / seq
    if "next token" in wrong:
        return np.zeros(patterns.shape[:2])
    back = 2 if "two before" in wrong else 1
    rows = np.stack([patterns[:, :, i, i - back] for i in range(back, seq)])  # [positions, n_layer, n_head]
    if "over heads" in wrong:
        return rows.mean(axis=2).T
    if "per position" in wrong:
        return rows.transpose(1, 2, 0)
    if "maximum" in wrong:
        return rows.max(axis=0)
    total = rows.sum(axis=0)
    return total if "sum" in wrong else total / (seq if "divided by seq" in wrong else len(rows))


def strongest(wrong: Mistakes) -> np.ndarray:
    """Return the layer and head of the largest score in `TABLE`, found by comparison."""
    sign = -1 if "weakest" in wrong else 1
    layer, head = max(np.ndindex(*TABLE.shape), key=lambda place: sign * TABLE[place])
    if "flat" in wrong:
        return np.array(layer * TABLE.shape[1] + head)
    return np.array((head, layer) if "head first" in wrong else (layer, head)) + ("from 1" in wrong)


EXERCISE = PreviousToken()

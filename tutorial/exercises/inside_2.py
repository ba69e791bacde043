"""Look inside 2: the induction head."""

from types import ModuleType

import numpy as np

from tutorial.exercise import NO_MISTAKES, Exercise, Mistakes, Runner, require_array
from tutorial.inputs import Arrays

LENGTH, VOCAB = 20, 23


class Induction(Exercise):
    """Properties of a repeated sequence, and the scores of the made model and of the demo."""

    number = 16
    title = "an induction head"
    defines = ("repeated_sequence", "induction_scores")
    outputs = {
        "the number of ids": (),
        "the second half repeats the first": (),
        "the ids of a half differ": (),
        "the ids are in the vocabulary": (),
        "the same seed gives the same ids": (),
        "another seed gives other ids": (),
        "scores of the made model": ("n_layer", "n_head"),
        "scores of the demo": ("n_layer", "n_head"),
    }
    reference = "numpy"
    hints = (
        "Draw the pattern on paper for A B C A B C. At the second A, at position 3, an induction head attends to the first B, at position 1, since B came after A. Where does it attend at the second B?",
        "With `length` tokens in a copy, the first copy of the token at position i is at position i - length, and the token after it at i - length + 1. The queries are those of the second copy only.",
        "The rows are np.arange(length, 2 * length), and the columns are the rows minus length plus 1. For the sequence, permutation of a generator from np.random.default_rng(seed) draws different ids.",
    )
    mistakes = {
        "once": "Your sequence has `length` ids: the second copy is missing. np.concatenate puts two copies behind each other.",
        "interleaved": "Your sequence repeats each id at once: A A B B C C. Repeat the whole sequence: A B C A B C.",
        "duplicates": "Some ids occur twice within a copy, so that the token after the first one is not unique. Draw without replacement, for example with permutation.",
        "no seed": "The same seed gives different sequences. Make the generator with np.random.default_rng(seed).",
        "fixed seed": "All seeds give the same sequence. Pass the seed to np.random.default_rng.",
        "same token": "You are off by one: your scores are the attention to the first copy of the present token, at i - length. An induction head attends to the token after it, at i - length + 1.",
        "one further": "You are off by one: your scores are the attention to i - length + 2. The token after the first copy is at i - length + 1.",
        "one before": "You are off by two: your scores are the attention to the token before the first copy, at i - length - 1. Add 1 instead of subtracting it.",
        "transposed": "Your rows and columns are exchanged, and the mask makes these numbers 0. Rows are queries: the row is i, the column i - length + 1.",
        "whole stripe": "Your mean includes the query at length - 1, the end of the first copy, where nothing has been repeated yet. The queries are the positions from length on. (np.diagonal with an offset takes the whole stripe.)",
        "divided by seq": "You divide by the length of the whole sequence. There are `length` queries in the second copy: take their mean.",
        "previous token": "Your scores are the attention to the token before, as in exercise 1. An induction head attends to the token after the first copy, at i - length + 1.",
        "sum": "Your scores are sums over the queries. Take the mean.",
        "over heads": "Your mean is over the heads, and the queries are left. Take the mean over the last axis, so that each head has its score.",
    }

    def observe(self, step: ModuleType, runner: Runner) -> Arrays:
        """Run the learner's functions, on the patterns of their own model."""
        from tutorial.inside import DEMO, MADE, patterns_of, subject, tracer_of_steps

        def draw(seed: int) -> np.ndarray:
            return require_array(step.repeated_sequence(LENGTH, VOCAB, seed), "repeated_sequence")

        runner.report("forward")
        ids = draw(3)
        half, rest = ids[: len(ids) // 2], ids[len(ids) // 2 :]
        observed = {
            "the number of ids": np.array(ids.size),
            "the second half repeats the first": np.array(np.array_equal(half, rest)),
            "the ids of a half differ": np.array(len(set(half.tolist())) == len(half)),
            "the ids are in the vocabulary": np.array(bool(((ids >= 0) & (ids < VOCAB)).all())),
            "the same seed gives the same ids": np.array(np.array_equal(ids, draw(3))),
            "another seed gives other ids": np.array(not np.array_equal(ids, draw(4))),
        }
        for name in (MADE, DEMO):
            runner.report("run")
            patterns = patterns_of(tracer_of_steps(name), subject(name).repeated)
            runner.report("forward")
            observed[f"scores of {name}"] = require_array(step.induction_scores(patterns.copy()), "induction_scores")
        return observed

    def expected(self, wrong: Mistakes = NO_MISTAKES) -> Arrays:
        """Return what numpy computes, and the properties of a repeated sequence."""
        from tutorial.inside import DEMO, MADE, observe

        found = {
            "the number of ids": np.array(LENGTH if "once" in wrong else 2 * LENGTH),
            "the second half repeats the first": np.array(not wrong & {"once", "interleaved"}),
            "the ids of a half differ": np.array(not wrong & {"interleaved", "duplicates"}),
            "the ids are in the vocabulary": np.array(True),
            "the same seed gives the same ids": np.array("no seed" not in wrong),
            "another seed gives other ids": np.array("fixed seed" not in wrong),
        }
        for name in (MADE, DEMO):
            found[f"scores of {name}"] = scores(observe(name).patterns, wrong)
        return found

    def summary(self, observed: Arrays) -> str:
        """Name the heads that were found, and the score of a head that attends to everything."""
        from tutorial.inside import DEMO, MADE, subject

        parts = []
        for name in (MADE, DEMO):
            found, length = observed[f"scores of {name}"], len(subject(name).repeated) // 2
            layer, head = divmod(int(found.argmax()), found.shape[1])
            equal = (1 / np.arange(length + 1, 2 * length + 1)).mean()
            parts.append(
                f"In {name}, head {head} of layer {layer} has the largest score, {found.max():.3f}; a head that attends "
                f"to all tokens equally has {equal:.3f}."
            )
        return " ".join(parts)


def scores(patterns: np.ndarray, wrong: Mistakes) -> np.ndarray:
    """Return the scores, one query at a time: [n_layer, n_head, seq, seq] -> [n_layer, n_head]."""
    seq = patterns.shape[-1]
    length = seq // 2
    offsets = {"same token": 0, "one further": 2, "one before": -1, "previous token": length - 1}
    offset = next((offsets[one] for one in wrong if one in offsets), 1)
    start = 1 if "previous token" in wrong else length - 1 if "whole stripe" in wrong else length
    if "transposed" in wrong:
        return np.zeros(patterns.shape[:2])
    rows = np.stack([patterns[:, :, i, i - length + offset] for i in range(start, seq)])  # [queries, n_layer, n_head]
    if "over heads" in wrong:
        return rows.mean(axis=2).T
    total = rows.sum(axis=0)
    return total if "sum" in wrong else total / (seq if "divided by seq" in wrong else len(rows))


EXERCISE = Induction()

"""Step 14: writing text. The model is a table here, so its check needs no MAX."""

from collections.abc import Callable
from types import ModuleType, SimpleNamespace

import numpy as np

from tutorial.exercise import RIGHT, Exercise, Report, Wrong
from tutorial.returned import one_array
from tutorial.sizes import SIZES, Arrays, numbers, token_ids

NEW = 6
DRAWS = 8000
TEMPERATURE = 0.5
UNEVEN = np.array([0.0, 1.0, 1.5], dtype=np.float32)
Model = Callable[[np.ndarray], np.ndarray]


class Table:
    """A model that finds the same logits after each id, be it first or last: `table` is [vocab, vocab]."""

    config = SimpleNamespace(n_positions=SIZES["n_positions"])

    def __init__(self, table: np.ndarray) -> None:
        """Take the table."""
        self.table = table

    def __call__(self, input_ids: np.ndarray) -> np.ndarray:
        """Return logits: [batch, seq] -> [batch, seq, vocab]."""
        return self.table[input_ids]


def sharp() -> Table:
    """Return a model that leaves no doubt: a draw from it is all but surely its likeliest token."""
    return Table(4000 * numbers(14, ("vocab", "vocab")))


def even() -> Table:
    """Return a model that finds all tokens equally likely."""
    return Table(np.zeros((SIZES["vocab"], SIZES["vocab"]), dtype=np.float32))


class Writing(Exercise):
    """Greedy text, how often each token is drawn, what the seed does, and what is refused."""

    number = 14
    title = "writing text"
    defines = ("generate_next_token", "generate_tokens")
    outputs = {
        "the next token": ("batch", "1"),
        "the greedy text": ("batch", "seq + new"),
        "greedy draws at random": (),
        "how often tokens are drawn": ("3",),
        "the same seed, the same text": (),
        "all rows draw alike": (),
        "all steps draw alike": (),
        "too long a text": (),
        "temperature 0": (),
    }
    hints = (
        "Ask the model about the whole text, look at the last position only, choose, append, repeat.",
        "To draw: divide the logits by the temperature, take exp, and add up from left to right. A random number times the last sum falls into the slice of one token. Subtracting the largest logit first keeps exp finite.",
        "Check the length and the temperature before the loop, and make one np.random.default_rng(seed) for the whole text; each row draws a number of its own.",
    )
    mistakes = {
        "first": "The next token is chosen from the logits after the first token. Take those after the last one: [:, -1].",
        "argmin": "You choose the unlikeliest token: argmin for argmax.",
        "first row": "Every row gets the token of the first row. Choose one for each row.",
        "only new": "The text comes back without its beginning. Return the prompt and the new tokens: "
        "[batch, seq + max_new_tokens].",
        "one more": "The text is one token too long. max_new_tokens is how often the model is asked.",
        "one less": "The text is one token too short. max_new_tokens is how often the model is asked.",
        "stale": "The model is asked about the prompt again and again: each new token has to be part of the next question.",
        "greedy ignored": "A token is drawn at random although do_sample is False. Take the likeliest then.",
        "always greedy": "The likeliest token is taken although do_sample is True. Draw from the probabilities.",
        "multiplied": "The logits are multiplied by the temperature. Divide by it: below 1 the model plays safe.",
        "ignored": "The temperature has no effect. Divide the logits by it before the softmax.",
        "uniform": "All tokens are equally likely to be drawn. Draw from softmax(logits / temperature).",
        "no seed": "The same seed gives different texts. Make the random numbers with np.random.default_rng(seed).",
        "seed again": "Every step draws with the same luck: the generator is made anew for each token. Make it once, before "
        "the loop.",
        "one dart": "All rows draw with the same luck: one random number for all of them. Draw one for each row.",
        "context": "A text longer than the model's context is accepted. Raise ValueError before anything runs.",
        "zero": "A temperature of 0 is accepted, and logits cannot be divided by 0. Raise ValueError before anything runs.",
    }

    def observe(self, step: ModuleType, report: Report) -> Arrays:
        """Let the learner's functions write."""
        report("forward")
        rows, generator = token_ids(), np.random.default_rng(5)
        before = str(generator.bit_generator.state)
        chosen = one_array(step.generate_next_token(sharp(), rows, 1.0, False, generator), "generate_next_token")
        drew = str(generator.bit_generator.state) != before
        start = np.zeros((DRAWS, 1), dtype=np.int64)
        drawn = one_array(
            step.generate_next_token(Table(UNEVEN[None]), start, TEMPERATURE, True, generator), "generate_next_token"
        )
        writing = step.generate_tokens
        greedy = one_array(writing(sharp(), rows, max_new_tokens=NEW, do_sample=False), "generate_tokens")
        texts = [one_array(writing(even(), rows[:, :1], 15, seed=3), "generate_tokens") for _ in range(2)]
        many = one_array(step.generate_next_token(even(), start[:20], 1.0, True, generator), "generate_next_token")
        steps = texts[0][:, 1:]

        def attempt(max_new_tokens: int, temperature: float) -> np.ndarray:
            try:
                with np.errstate(all="ignore"):
                    writing(even(), rows, max_new_tokens, temperature, True, 1)
            except ValueError:
                return np.array("ValueError")
            return np.array("accepted")

        seen = (
            chosen,
            greedy,
            np.array(drew),
            np.bincount(drawn.ravel(), minlength=len(UNEVEN)) / max(1, drawn.size),
            np.array(np.array_equal(texts[0], texts[1])),
            np.array(len(np.unique(many)) == 1),
            np.array(steps.size > 0 and bool((steps == steps[:, :1]).all())),
            attempt(SIZES["n_positions"], 1.0),
            attempt(2, 0.0),
        )
        return dict(zip(self.outputs, seen, strict=True))

    def expected(self, wrong: Wrong = RIGHT) -> Arrays:
        """Return what comes of it; what chance decides where a mistake is in it, is left out."""
        from tutorial import reference

        yes, no = np.array(True), np.array(False)
        divisor = {True: 1 / TEMPERATURE, False: TEMPERATURE}["multiplied" in wrong]
        logits = reference.torch.from_numpy(UNEVEN).double()
        drawn = (logits / (1.0 if "ignored" in wrong else divisor)).softmax(-1).numpy()
        if "uniform" in wrong:
            drawn = np.full(3, 1 / 3)
        if "always greedy" in wrong:
            drawn = np.array([0.0, 0.0, 1.0])
        seen = (
            greedy_step(token_ids(), wrong),
            greedy_text(wrong),
            yes if "greedy ignored" in wrong else no,
            drawn,
            no if "no seed" in wrong else yes,
            yes if wrong & {"one dart", "always greedy"} else no,
            yes if wrong & {"seed again", "always greedy"} else no,
            np.array("accepted" if "context" in wrong else "ValueError"),
            np.array("accepted" if "zero" in wrong else "ValueError"),
        )
        found = dict(zip(self.outputs, seen, strict=True))
        if "one dart" in wrong:
            del found["how often tokens are drawn"]
        if "stale" in wrong or "seed again" in wrong:
            found.pop("all steps draw alike") if "stale" in wrong else None
        if "first row" in wrong:
            for chance in ("how often tokens are drawn", "all rows draw alike"):
                del found[chance]
        return found

    def equal(self, ours: np.ndarray, expected: np.ndarray) -> bool:
        """Frequencies are never exact; all else is."""
        if expected.dtype.kind == "f" and ours.shape == expected.shape:
            return bool(np.abs(ours - expected).max() < 0.03)
        return super().equal(ours, expected)


def greedy_step(rows: np.ndarray, wrong: Wrong) -> np.ndarray:
    """Return the likeliest token of each row: [batch, seq] -> [batch, 1]."""
    from tutorial import reference

    logits = reference.torch.from_numpy(sharp()(rows)[:, 0 if "first" in wrong else -1])
    chosen = (logits.argmin(-1) if "argmin" in wrong else logits.argmax(-1)).numpy()[:, None]
    return np.broadcast_to(chosen[:1], chosen.shape) if "first row" in wrong else chosen


def greedy_text(wrong: Wrong) -> np.ndarray:
    """Return two rows, continued: [batch, seq] -> [batch, seq + new]."""
    prompt = rows = token_ids()
    for _ in range(NEW + ("one more" in wrong) - ("one less" in wrong)):
        rows = np.concatenate([rows, greedy_step(prompt if "stale" in wrong else rows, wrong)], axis=1)
    return rows[:, prompt.shape[1] :] if "only new" in wrong else rows


EXERCISE = Writing()

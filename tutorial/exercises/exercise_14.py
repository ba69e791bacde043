"""Step 14: text generation. The model is a table here, so the check needs no MAX."""

from types import ModuleType, SimpleNamespace

import numpy as np

from tutorial.exercise import NO_MISTAKES, Exercise, Mistakes, Runner, require_array
from tutorial.inputs import SIZES, Arrays, random_array, token_ids

NEW_TOKENS = 6
DRAWS = 8000
TEMPERATURE = 0.5
LOGITS = np.array([0.0, 1.0, 1.5], dtype=np.float32)


class Table:
    """A model with logits that depend only on the last token: `table` is [vocab, vocab]."""

    config = SimpleNamespace(n_positions=SIZES["n_positions"])

    def __init__(self, table: np.ndarray) -> None:
        """Take the table, a row of logits for each token."""
        self.table = table

    def __call__(self, input_ids: np.ndarray) -> np.ndarray:
        """Return logits: [batch, seq] -> [batch, seq, vocab]."""
        return self.table[input_ids]


def peaked_model() -> Table:
    """Return a model with such large logits that sampling always picks the most likely token."""
    return Table(4000 * random_array(14, ("vocab", "vocab")))


def uniform_model() -> Table:
    """Return a model for which all tokens are equally likely."""
    return Table(np.zeros((SIZES["vocab"], SIZES["vocab"]), dtype=np.float32))


class Generation(Exercise):
    """Greedy output, sampling frequencies, the effect of the seed, and the arguments that are rejected."""

    number = 14
    title = "text generation"
    defines = ("generate_next_token", "generate_tokens")
    outputs = {
        "the next token": ("batch", "1"),
        "the greedy tokens": ("batch", "seq + new"),
        "greedy uses the random generator": (),
        "sampling frequencies": ("3",),
        "the same seed repeats the tokens": (),
        "all rows sample the same token": (),
        "all steps sample the same token": (),
        "a sequence beyond the context": (),
        "temperature 0": (),
    }
    hints = (
        "Run the model on the whole sequence, take the logits of the last position, choose a token, append it, repeat.",
        "To sample: divide the logits by the temperature, take exp, and compute the cumulative sum. A uniform random number times the last sum falls into the interval of one token. Subtract the largest logit first to keep exp finite.",
        "Check the length and the temperature before the loop. Create one np.random.default_rng(seed) for the whole call; each row draws a number of its own.",
    )
    mistakes = {
        "first": "You choose the next token from the logits of the first position. Use those of the last one: [:, -1].",
        "argmin": "You choose the least likely token: argmin instead of argmax.",
        "first row": "Every row gets the token of the first row. Choose one for each row.",
        "only new": "You return only the new tokens. Return the prompt followed by the new tokens: [batch, seq + max_new_tokens].",
        "one more": "You generate one token too many. max_new_tokens is the number of new tokens.",
        "one less": "You generate one token too few. max_new_tokens is the number of new tokens.",
        "stale": "You run the model on the original prompt every time. Include the new tokens in the next input.",
        "greedy ignored": "You sample even though do_sample is False. Take the most likely token in that case.",
        "always greedy": "You take the most likely token even though do_sample is True. Sample from the probabilities.",
        "multiplied": "You multiply the logits by the temperature. Divide by it: a temperature below 1 has to sharpen the distribution.",
        "ignored": "The temperature has no effect. Divide the logits by it before the softmax.",
        "uniform": "All tokens are equally likely. Sample from softmax(logits / temperature).",
        "no seed": "The same seed gives different results. Create the random generator with np.random.default_rng(seed).",
        "seed again": "Every step draws the same random number, because the generator is created again for each token. Create it once, before the loop.",
        "one draw": "All rows share one random number. Draw one for each row.",
        "context": "You accept a sequence longer than the model's context. Raise ValueError before running the model.",
        "zero": "You accept a temperature of 0, which leads to a division by zero. Raise ValueError before running the model.",
    }

    def observe(self, step: ModuleType, runner: Runner) -> Arrays:
        """Run the learner's functions on small models."""
        runner.report("forward")
        rows, generator = token_ids(), np.random.default_rng(5)
        before = str(generator.bit_generator.state)
        chosen = require_array(
            step.generate_next_token(peaked_model(), rows, 1.0, False, generator), "generate_next_token"
        )
        advanced = str(generator.bit_generator.state) != before
        start = np.zeros((DRAWS, 1), dtype=np.int64)
        drawn = require_array(
            step.generate_next_token(Table(LOGITS[None]), start, TEMPERATURE, True, generator), "generate_next_token"
        )
        generate = step.generate_tokens
        greedy = require_array(
            generate(peaked_model(), rows, max_new_tokens=NEW_TOKENS, do_sample=False), "generate_tokens"
        )
        samples = [
            require_array(generate(uniform_model(), rows[:, :1], 15, seed=3), "generate_tokens") for _ in range(2)
        ]
        many = require_array(
            step.generate_next_token(uniform_model(), start[:20], 1.0, True, generator), "generate_next_token"
        )
        steps = samples[0][:, 1:]

        def outcome_of(max_new_tokens: int, temperature: float) -> np.ndarray:
            try:
                with np.errstate(all="ignore"):
                    generate(uniform_model(), rows, max_new_tokens, temperature, True, 1)
            except ValueError:
                return np.array("ValueError")
            return np.array("accepted")

        values = (
            chosen,
            greedy,
            np.array(advanced),
            np.bincount(drawn.ravel(), minlength=len(LOGITS)) / max(1, drawn.size),
            np.array(np.array_equal(samples[0], samples[1])),
            np.array(len(np.unique(many)) == 1),
            np.array(steps.size > 0 and bool((steps == steps[:, :1]).all())),
            outcome_of(SIZES["n_positions"], 1.0),
            outcome_of(2, 0.0),
        )
        return dict(zip(self.outputs, values, strict=True))

    def expected(self, wrong: Mistakes = NO_MISTAKES) -> Arrays:
        """Return the outputs, without those that are random for an implementation with the given mistake."""
        from tutorial import reference

        yes, no = np.array(True), np.array(False)
        divisor = {True: 1 / TEMPERATURE, False: TEMPERATURE}["multiplied" in wrong]
        logits = reference.torch.from_numpy(LOGITS).double()
        drawn = (logits / (1.0 if "ignored" in wrong else divisor)).softmax(-1).numpy()
        if "uniform" in wrong:
            drawn = np.full(3, 1 / 3)
        if "always greedy" in wrong:
            drawn = np.array([0.0, 0.0, 1.0])
        values = (
            greedy_step(token_ids(), wrong),
            greedy_tokens(wrong),
            yes if "greedy ignored" in wrong else no,
            drawn,
            no if "no seed" in wrong else yes,
            yes if wrong & {"one draw", "always greedy"} else no,
            yes if wrong & {"seed again", "always greedy"} else no,
            np.array("accepted" if "context" in wrong else "ValueError"),
            np.array("accepted" if "zero" in wrong else "ValueError"),
        )
        found = dict(zip(self.outputs, values, strict=True))
        if "one draw" in wrong:
            del found["sampling frequencies"]
        if "stale" in wrong:
            del found["all steps sample the same token"]
        if "first row" in wrong:
            for random_output in ("sampling frequencies", "all rows sample the same token"):
                del found[random_output]
        return found

    def equal(self, ours: np.ndarray, expected: np.ndarray) -> bool:
        """Compare frequencies with a tolerance of 0.03 and everything else exactly."""
        if expected.dtype.kind == "f" and ours.shape == expected.shape:
            return bool(np.abs(ours - expected).max() < 0.03)
        return super().equal(ours, expected)


def greedy_step(rows: np.ndarray, wrong: Mistakes) -> np.ndarray:
    """Return the most likely token of each row: [batch, seq] -> [batch, 1]."""
    from tutorial import reference

    logits = reference.torch.from_numpy(peaked_model()(rows)[:, 0 if "first" in wrong else -1])
    chosen = (logits.argmin(-1) if "argmin" in wrong else logits.argmax(-1)).numpy()[:, None]
    return np.broadcast_to(chosen[:1], chosen.shape) if "first row" in wrong else chosen


def greedy_tokens(wrong: Mistakes) -> np.ndarray:
    """Return two prompts with their greedy continuation: [batch, seq + new]."""
    prompt = rows = token_ids()
    for _ in range(NEW_TOKENS + ("one more" in wrong) - ("one less" in wrong)):
        rows = np.concatenate([rows, greedy_step(prompt if "stale" in wrong else rows, wrong)], axis=1)
    return rows[:, prompt.shape[1] :] if "only new" in wrong else rows


EXERCISE = Generation()

"""Step 14: text generation. The model is a table here, so nothing is compiled."""

from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from tutorial.exercise import NO_MISTAKES, Exercise, Mistakes, Runner, WrongAnswerError, require_array
from tutorial.inputs import SIZES, Arrays, random_array, token_ids

NEW_TOKENS = 6
DRAWS = 8000
TEMPERATURE = 0.5
LOGITS = np.array([0.0, 1.0, 1.5], dtype=np.float32)
ACCEPTED, REJECTED = "accepted", "ValueError"


class Table:
    """A model with logits that depend only on the last token: `table` is [vocab, vocab]."""

    config = SimpleNamespace(n_positions=SIZES["n_positions"])

    def __init__(self, table: np.ndarray) -> None:
        """Take the table, a row of logits for each token."""
        self.table = table
        self.calls = 0

    def __call__(self, input_ids: np.ndarray) -> np.ndarray:
        """Return logits: [batch, seq] -> [batch, seq, vocab]."""
        self.calls += 1
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
        "the prompt without new tokens": ("batch", "seq"),
        "greedy uses the random generator": (),
        "sampling frequencies": ("3",),
        "large logits sample the most likely token": (),
        "the same seed repeats the tokens": (),
        "seed 0 repeats the tokens": (),
        "another seed repeats the tokens": (),
        "all rows sample the same token": (),
        "all steps sample the same token": (),
        "a sequence that fills the context": (),
        "a sequence one token longer than the context": (),
        "temperature 0": (),
        "temperature -1": (),
        "temperature 0 without sampling": (),
        "the model runs before an error": (),
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
        "at least one": "You add a token even if max_new_tokens is 0. Return the prompt unchanged in that case.",
        "stale": "You run the model on the original prompt every time. Include the new tokens in the next input.",
        "greedy ignored": "You sample even though do_sample is False. Take the most likely token in that case.",
        "always greedy": "You take the most likely token even though do_sample is True. Sample from the probabilities.",
        "multiplied": "You multiply the logits by the temperature. Divide by it: a temperature below 1 has to sharpen the distribution.",
        "ignored": "The temperature has no effect. Divide the logits by it before the softmax.",
        "uniform": "All tokens are equally likely. Sample from softmax(logits / temperature).",
        "overflow": "Your samples are wrong if the logits are large, because exp overflows. First subtract the largest logit of each row, which does not change the probabilities.",
        "no seed": "The same seed gives different results. Create the random generator with np.random.default_rng(seed).",
        "seed 0": "Seed 0 gives different results each time. Only None stands for a random seed; 0 is a seed like any other.",
        "fixed seed": "All seeds give the same results. Pass the seed to np.random.default_rng.",
        "seed again": "Every step draws the same random number, because the generator is created again for each token. Create it once, before the loop.",
        "one draw": "All rows share one random number. Draw one for each row.",
        "context": "You accept a sequence longer than the model's context. Raise ValueError before running the model.",
        "one short": "You reject a sequence that fills the context exactly. Prompt and new tokens together may be n_positions; raise ValueError only if they are more.",
        "zero": "You accept a temperature of 0, which leads to a division by zero. Raise ValueError before running the model.",
        "negative": "You accept a negative temperature, which makes unlikely tokens the likely ones. Raise ValueError unless the temperature is above 0.",
        "greedy rejected": "You reject a temperature of 0 even if do_sample is False. Greedy decoding does not use the temperature.",
        "late": "You run the model before you check the arguments. Raise ValueError first: running it may take minutes.",
    }

    def observe(self, step: ModuleType, runner: Runner) -> Arrays:
        """Run the learner's functions on small models."""
        runner.report("forward")
        with np.errstate(all="ignore"):
            found = observe_choices(step) | observe_sequences(step) | observe_arguments(step)
        check_tensor(step)
        return {name: found[name] for name in self.outputs}

    def expected(self, wrong: Mistakes = NO_MISTAKES) -> Arrays:
        """Return the outputs, without those that are random for an implementation with the given mistake."""
        found = {
            "the next token": greedy_step(token_ids(), wrong),
            "the greedy tokens": greedy_tokens(NEW_TOKENS, wrong),
            "the prompt without new tokens": greedy_tokens(int("at least one" in wrong), wrong),
            "greedy uses the random generator": np.array("greedy ignored" in wrong),
            "sampling frequencies": frequencies(wrong),
            "large logits sample the most likely token": np.array(not wrong & {"first", "overflow", "uniform"}),
            "the same seed repeats the tokens": np.array("no seed" not in wrong),
            "seed 0 repeats the tokens": np.array(not wrong & {"no seed", "seed 0"}),
            "another seed repeats the tokens": np.array(bool(wrong & {"fixed seed", "always greedy"})),
            "all rows sample the same token": np.array(bool(wrong & {"one draw", "always greedy"})),
            "all steps sample the same token": np.array(bool(wrong & {"seed again", "always greedy"})),
            "a sequence that fills the context": np.array(REJECTED if "one short" in wrong else ACCEPTED),
            "a sequence one token longer than the context": np.array(ACCEPTED if "context" in wrong else REJECTED),
            "temperature 0": np.array(ACCEPTED if "zero" in wrong else REJECTED),
            "temperature -1": np.array(ACCEPTED if "negative" in wrong else REJECTED),
            "temperature 0 without sampling": np.array(REJECTED if "greedy rejected" in wrong else ACCEPTED),
            "the model runs before an error": np.array("late" in wrong),
        }
        random = {
            "first row": {name for name in found if "sampl" in name},
            "one draw": {"sampling frequencies"},
            "only new": {"the prompt without new tokens"},
            "stale": {"all steps sample the same token"},
            "zero": {"temperature -1"},
        }
        left_out = set[str]().union(*(random.get(mistake, set()) for mistake in wrong))
        return {name: found[name] for name in self.outputs if name not in left_out}

    def equal(self, ours: np.ndarray, expected: np.ndarray) -> bool:
        """Compare frequencies with a tolerance of 0.03 and everything else exactly."""
        if expected.dtype.kind == "f" and ours.shape == expected.shape:
            return bool(np.abs(ours - expected).max() < 0.03)
        return super().equal(ours, expected)


def observe_choices(step: ModuleType) -> Arrays:
    """Return the outputs that depend on `generate_next_token` only."""
    rows, generator = token_ids(), np.random.default_rng(5)

    def choose(model: Table, rows: np.ndarray, temperature: float, do_sample: bool) -> np.ndarray:
        return require_array(
            step.generate_next_token(model, rows, temperature, do_sample, generator), "generate_next_token"
        )

    before = str(generator.bit_generator.state)
    chosen = choose(peaked_model(), rows, 1.0, False)
    advanced = str(generator.bit_generator.state) != before
    start = np.zeros((DRAWS, 1), dtype=np.int64)
    drawn = choose(Table(LOGITS[None]), start, TEMPERATURE, True)
    many = choose(uniform_model(), start[:20], 1.0, True)
    peaked = choose(peaked_model(), rows, 1.0, True)
    return {
        "the next token": chosen,
        "greedy uses the random generator": np.array(advanced),
        "sampling frequencies": np.bincount(drawn.ravel(), minlength=len(LOGITS)) / max(1, drawn.size),
        "large logits sample the most likely token": np.array(np.array_equal(peaked, greedy_step(rows, NO_MISTAKES))),
        "all rows sample the same token": np.array(len(np.unique(many)) == 1),
    }


def observe_sequences(step: ModuleType) -> Arrays:
    """Return the sequences that `generate_tokens` makes and how they depend on the seed."""
    rows = token_ids()

    def generate(model: Table, rows: np.ndarray, count: int, **options: Any) -> np.ndarray:
        return require_array(step.generate_tokens(model, rows, max_new_tokens=count, **options), "generate_tokens")

    sampled = {
        (seed, again): generate(uniform_model(), rows[:, :1], 15, seed=seed) for seed in (3, 4, 0) for again in (1, 2)
    }
    steps = sampled[3, 1][:, 1:]
    return {
        "the greedy tokens": generate(peaked_model(), rows, NEW_TOKENS, do_sample=False),
        "the prompt without new tokens": generate(peaked_model(), rows, 0, do_sample=False),
        "the same seed repeats the tokens": np.array(np.array_equal(sampled[3, 1], sampled[3, 2])),
        "seed 0 repeats the tokens": np.array(np.array_equal(sampled[0, 1], sampled[0, 2])),
        "another seed repeats the tokens": np.array(np.array_equal(sampled[3, 1], sampled[4, 1])),
        "all steps sample the same token": np.array(steps.size > 0 and bool((steps == steps[:, :1]).all())),
    }


def observe_arguments(step: ModuleType) -> Arrays:
    """Return whether `generate_tokens` accepts arguments at the limits, and whether it runs the model before it."""
    rows, early = token_ids(), []

    def outcome(max_new_tokens: int, temperature: float, do_sample: bool = True) -> np.ndarray:
        model = uniform_model()
        try:
            step.generate_tokens(model, rows, max_new_tokens, temperature, do_sample, 1)
        except (ValueError, AssertionError, ArithmeticError) as error:
            early.append(model.calls > 0)
            return np.array(type(error).__name__)
        return np.array(ACCEPTED)

    remaining = SIZES["n_positions"] - rows.shape[1]
    return {
        "a sequence that fills the context": outcome(remaining, 1.0),
        "a sequence one token longer than the context": outcome(remaining + 1, 1.0),
        "temperature 0": outcome(2, 0.0),
        "temperature -1": outcome(2, -1.0),
        "temperature 0 without sampling": outcome(2, 0.0, do_sample=False),
        "the model runs before an error": np.array(any(early)),
    }


def check_tensor(step: ModuleType) -> None:
    """Raise WrongAnswerError if `generate_tokens` does not continue a Tensor as a Tensor."""
    from max.experimental.tensor import Tensor

    try:
        continued = step.generate_tokens(peaked_model(), Tensor.from_dlpack(token_ids()), 1, do_sample=False)
    except Exception:  # the learner's code was written for arrays
        continued = None
    if not isinstance(continued, Tensor):
        raise WrongAnswerError(
            "generate_tokens does not take a Tensor. Keep the line @accepts_tensors above each of the two functions."
        )


def frequencies(wrong: Mistakes) -> np.ndarray:
    """Return the probabilities of the three tokens in `LOGITS`."""
    from tutorial import reference

    if "uniform" in wrong:
        return np.full(3, 1 / 3)
    if "always greedy" in wrong:
        return np.array([0.0, 0.0, 1.0])
    divisor = 1.0 if "ignored" in wrong else 1 / TEMPERATURE if "multiplied" in wrong else TEMPERATURE
    return (reference.torch.from_numpy(LOGITS).double() / divisor).softmax(-1).numpy()


def greedy_step(rows: np.ndarray, wrong: Mistakes) -> np.ndarray:
    """Return the most likely token of each row: [batch, seq] -> [batch, 1]."""
    from tutorial import reference

    logits = reference.torch.from_numpy(peaked_model()(rows)[:, 0 if "first" in wrong else -1])
    chosen = (logits.argmin(-1) if "argmin" in wrong else logits.argmax(-1)).numpy()[:, None]
    return np.broadcast_to(chosen[:1], chosen.shape) if "first row" in wrong else chosen


def greedy_tokens(count: int, wrong: Mistakes) -> np.ndarray:
    """Return two prompts with `count` greedy tokens each: [batch, seq + count]."""
    prompt = rows = token_ids()
    for _ in range(count + ("one more" in wrong) - ("one less" in wrong)):
        rows = np.concatenate([rows, greedy_step(prompt if "stale" in wrong else rows, wrong)], axis=1)
    return rows[:, prompt.shape[1] :] if "only new" in wrong else rows


EXERCISE = Generation()

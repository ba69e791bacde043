"""What `main.py` shows and refuses, so that the example itself holds nothing but the example."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import typer

from max_gpt2._progress import COMPILING, Result
from max_gpt2.checkpoint import LoadPlan, load_checkpoint
from max_gpt2.cli.checkpoint import summarize_names, summarize_reasons
from max_gpt2.cli.console import numeric, run_with_timer, stdout, table
from max_gpt2.cli.verify import verdict
from max_gpt2.config import GPT2Config
from max_gpt2.errors import RequestError
from max_gpt2.generation import Request, Sampling, check_request, encode_prompt
from max_gpt2.tokenizer import GPT2Tokenizer
from max_gpt2.verify import LogitsDifference, compare_logits, make_prompts, quiet_transformers

#: The tutorial's model is GPT-2 as OpenAI published it: these fields must have these values.
_PUBLISHED: dict[str, tuple[object, ...]] = {
    "activation_function": ("gelu_new", "gelu_fast", "gelu_accurate", "gelu_pytorch_tanh"),
    "scale_attn_weights": (True,),
    "scale_attn_by_inverse_layer_idx": (False,),
}


@dataclass(frozen=True)
class Example:
    """A prompt to compare the logits of; `ids` is [1, seq]."""

    name: str
    ids: np.ndarray


@dataclass(frozen=True)
class Checked:
    """A checkpoint and a request that can be carried out; `prompt_ids` is [1, seq]."""

    model: str
    folder: Path
    config: GPT2Config
    plan: LoadPlan
    tokenizer: GPT2Tokenizer
    prompts: list[Example]
    prompt_ids: np.ndarray


def check(model: str, prompt: str, max_new_tokens: int, temperature: float, seed: int) -> Checked:
    """Refuse, with a MaxGPT2Error, what transformers would load at random or the tutorial's model cannot compute."""
    checkpoint = run_with_timer("Checking the weights", lambda: load_checkpoint(model))
    config, tokenizer = checkpoint.config, checkpoint.tokenizer
    if not checkpoint.plan.origin.transformers_reads_it:
        raise RequestError(
            f"{model} is not as transformers saves it, which is what this example reads ({checkpoint.plan.format}). "
            f"Use: max-gpt2 verify --model {model}"
        )
    check_published(model, config)
    tokens = encode_prompt(tokenizer, prompt)
    check_request(config, tokenizer, Request(tokens, max_new_tokens, Sampling(temperature, seed=seed)))
    if len(tokens) + max_new_tokens > config.n_positions:
        room = config.n_positions - len(tokens)
        raise RequestError(
            f"The prompt's {len(tokens)} tokens and --max-new-tokens {max_new_tokens} exceed the model's context of "
            f"{config.n_positions}. Shorten the prompt, or ask for at most {room}."
        )
    quiet_transformers()
    prompts = [
        Example(one.name, np.array([one.tokens]))
        for one in make_prompts(tokenizer, config.n_positions, config.vocab_size)
    ]
    return Checked(model, checkpoint.folder, config, checkpoint.plan, tokenizer, prompts, np.array([tokens]))


def while_it_compiles(work: Callable[[], Result]) -> Result:
    """Do the work and show, with a clock, that a model is being compiled."""
    return run_with_timer(COMPILING, work)


def check_published(model: str, config: GPT2Config) -> None:
    """Raise RequestError for a config with flags that the tutorial's model does not have."""
    for name, published in _PUBLISHED.items():
        if getattr(config, name) not in published:
            raise RequestError(
                f"{model} has {name} = {getattr(config, name)!r}, which the tutorial's model leaves out. "
                f"Use: max-gpt2 verify --model {model}"
            )


def show_loaded(checked: Checked, transposed: list[str], whose: str = "") -> None:
    """Print what was loaded, which tensors were transposed, and whose the model is."""
    config, plan, folder, here = checked.config, checked.plan, checked.folder, Path.cwd()
    rows = [
        *([["model", whose]] if whose else []),
        ["folder", str(folder.relative_to(here) if folder.is_relative_to(here) else folder)],
        [
            "size",
            f"{config.n_layer} layers of {config.n_head} heads, width {config.n_embd}, context {config.n_positions}",
        ],
        ["parameters", f"{plan.parameters:,}, stored as {', '.join(plan.dtypes)}, computed in float32"],
        ["head", plan.head],
        ["transposed", summarize_names(transposed)],
        ["skipped", summarize_reasons(plan.skipped)],
    ]
    stdout.print(table(("", "left"), (checked.model, "left"), rows=rows))


def show_logits(logits: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> list[LogitsDifference]:
    """Print how far MAX's and PyTorch's logits are apart on each prompt, and return the comparisons."""
    comparisons = {name: compare_logits(ours, reference) for name, (ours, reference) in logits.items()}
    rows = [
        [name, str(one.positions), f"{one.max_abs_diff:.1e}", f"{one.largest:.1f}", f"{one.argmax_agreement:.1%}"]
        for name, one in comparisons.items()
    ]
    numbers = numeric("tokens", "max diff", "largest logit", "same argmax")
    stdout.print(table(("prompt", "left"), *numbers, rows=rows, title="Logits of MAX and of PyTorch"))
    return list(comparisons.values())


def show_texts(
    title: str,
    checked: Checked,
    by_max: Callable[[np.ndarray], np.ndarray],
    by_torch: Callable[[np.ndarray], np.ndarray],
) -> None:
    """Let both continue the prompt, [1, seq] -> [1, seq + new], and print the texts side by side with their speeds."""
    cells, speeds = [], []
    for writer in (by_max, by_torch):
        started = time.perf_counter()
        ids = writer(checked.prompt_ids)[0]
        new = len(ids) - checked.prompt_ids.shape[1]
        cells.append(checked.tokenizer.decode(ids.tolist()))
        speeds.append(f"{new / (time.perf_counter() - started):.1f} tokens/s")
    stdout.print(table(("MAX", "left"), ("PyTorch", "left"), rows=[cells, speeds], title=title))


def conclude(comparisons: list[LogitsDifference]) -> None:
    """Print the verdict; the exit code is 1 when MAX and PyTorch are not equal."""
    print(verdict(comparisons))
    if not all(one.equal for one in comparisons):
        raise typer.Exit(1)

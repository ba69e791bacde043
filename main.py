"""The complete example: load a pretrained GPT-2 into MAX, compare it with PyTorch, and generate text with both."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import typer
from max.driver import CPU, Accelerator, Device, accelerator_count
from transformers import GPT2LMHeadModel

import main_tables as tables
from max_gpt2._progress import COMPILING
from max_gpt2.checkpoint import Checkpoint, load_checkpoint
from max_gpt2.cli.console import run_with_timer
from max_gpt2.cli.process import make_program, run_guarded
from max_gpt2.errors import RequestError
from max_gpt2.generation import Request, SamplingParams, check_request, encode_prompt
from max_gpt2.verify import compare_logits, make_prompts, quiet_transformers
from solutions.pretrained import CONV1D, transpose_conv1d
from solutions.solution_01 import GPT2Config
from solutions.solution_13 import CompiledGPT2, MaxGPT2LMHeadModel
from solutions.solution_14 import generate_tokens
from tutorial.learner_model import ModelParts, check_supported, learner_parts


def main(
    model: Annotated[str, typer.Option(help='"demo", a hub id such as gpt2, or a folder.')] = "demo",
    prompt: Annotated[str, typer.Option(help="The text to continue.")] = "It was a pleasure to",
    max_new_tokens: Annotated[int, typer.Option(help="The number of tokens to generate.")] = 40,
    temperature: Annotated[float, typer.Option(help="The temperature of the sampled text.")] = 0.8,
    seed: Annotated[int, typer.Option(help="The random seed; the same seed samples the same text.")] = 0,
    learner_model: Annotated[
        bool, typer.Option("--learner-model", help="Use the model that you built in steps/.")
    ] = False,
    device: Annotated[
        Literal["cpu", "gpu", "auto"], typer.Option(help="Where MAX runs the model; auto: the GPU if there is one.")
    ] = "cpu",
) -> None:
    """Load a GPT-2 into MAX and into PyTorch, compare their logits, and show the text that both generate."""
    # The model: the solutions of the tutorial, or the learner's own steps.
    parts = learner_parts() if learner_model else ModelParts(GPT2Config, MaxGPT2LMHeadModel, generate_tokens)

    # The checkpoint and the prompt, validated before anything is compiled.
    max_device = find_device(device)
    checkpoint = run_with_timer("Checking the weights", lambda: load_checkpoint(model))
    sampling = SamplingParams(temperature, seed=seed)
    prompt_ids = prepare(model, checkpoint, prompt, max_new_tokens, sampling)  # [1, seq]

    # The weights, in both models.
    quiet_transformers()
    loaded = run_with_timer(COMPILING, lambda: load(checkpoint.folder, parts, max_device))
    tables.show_checkpoint(model, checkpoint, loaded.transposed, parts.origin, max_device.label)

    # The logits of four prompts, [1, seq, vocab] each, and how far apart they are.
    differences = {}
    for example in make_prompts(checkpoint.tokenizer, checkpoint.config.n_positions, checkpoint.config.vocab_size):
        ids = np.array([example.tokens])  # [1, seq]
        differences[example.name] = compare_logits(loaded.max_gpt2(ids), loaded.torch_gpt2(ids))
    tables.show_logits(differences)

    # The generated text: greedy, then sampled. The same loop drives both models.
    for title, do_sample in (
        ("greedy: the most likely token each time", False),
        (f"sampled: temperature {temperature}, seed {seed}", temperature > 0),
    ):
        generations = []
        for compiled in (loaded.max_gpt2, loaded.torch_gpt2):
            with tables.Stopwatch() as watch:
                ids = parts.generate_tokens(compiled, prompt_ids, max_new_tokens, temperature, do_sample, seed)
            generations.append(tables.Generation(checkpoint.tokenizer.decode(ids[0].tolist()), max_new_tokens, watch))
        tables.show_generations(title, generations)

    tables.show_verdict(list(differences.values()))
    if not all(difference.equal for difference in differences.values()):
        raise typer.Exit(1)


def find_device(name: str) -> Device:
    """Return the CPU or an accelerator; raise RequestError for "gpu" if MAX finds none."""
    if name == "gpu" and not accelerator_count():
        raise RequestError("--device gpu: MAX finds no accelerator on this machine. Use --device cpu or --device auto.")
    return CPU() if name == "cpu" or not accelerator_count() else Accelerator()


def prepare(
    model: str, checkpoint: Checkpoint, prompt: str, max_new_tokens: int, sampling: SamplingParams
) -> np.ndarray:
    """Return the prompt's token ids, [1, seq].

    Raises RequestError for a checkpoint that transformers or the tutorial's model would load wrongly, for an invalid
    option, and for a result that would exceed the context.
    """
    config, tokenizer = checkpoint.config, checkpoint.tokenizer
    if not checkpoint.plan.origin.transformers_reads_it:
        raise RequestError(
            f"{model} is stored as {checkpoint.plan.format}. This example needs a checkpoint in the format of "
            f"transformers. Use: max-gpt2 verify --model {model}"
        )
    check_supported(model, config)
    tokens = encode_prompt(tokenizer, prompt)
    check_request(config, tokenizer, Request(tokens, max_new_tokens, sampling), can_shift=False)
    if len(tokens) + max_new_tokens > config.n_positions:
        raise RequestError(
            f"The prompt's {len(tokens)} tokens and --max-new-tokens {max_new_tokens} exceed the model's context of "
            f"{config.n_positions}. Shorten the prompt, or generate at most {config.n_positions - len(tokens)} tokens."
        )
    return np.array([tokens])


@dataclass
class TorchGPT2:
    """PyTorch's model with the interface of `CompiledGPT2`: numpy arrays in, numpy arrays out."""

    model: GPT2LMHeadModel

    @property
    def config(self) -> Any:
        """Return the config, which has the field `n_positions`."""
        return self.model.config

    def __call__(self, input_ids: np.ndarray) -> np.ndarray:
        """Return the logits after every token: [batch, seq] -> [batch, seq, vocab]."""
        with torch.no_grad():
            return self.model(torch.from_numpy(input_ids)).logits.numpy()


@dataclass
class LoadedModels:
    """A checkpoint in MAX and in PyTorch, and the names of the weights that were transposed."""

    max_gpt2: CompiledGPT2
    torch_gpt2: TorchGPT2
    transposed: list[str]


def load(folder: Path, parts: ModelParts, device: Device) -> LoadedModels:
    """Load a checkpoint into PyTorch, copy its weights to MAX, and compile."""
    torch_model = GPT2LMHeadModel.from_pretrained(folder, dtype=torch.float32).eval()
    config = parts.config(**{name: getattr(torch_model.config, name) for name in asdict(parts.config())})
    max_model = parts.model(config)
    max_model.load_state_dict(transpose_conv1d(torch_model.state_dict()))  # raises if a name or shape differs
    max_model.to(device)
    transposed = [name for name in torch_model.state_dict() if name.endswith(CONV1D)]
    return LoadedModels(max_model.compiled(), TorchGPT2(torch_model), transposed)


if __name__ == "__main__":
    raise SystemExit(run_guarded(make_program(main)))

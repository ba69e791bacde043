"""The complete example: load a pretrained GPT-2 into MAX, check it against PyTorch, let both of them write."""

from dataclasses import asdict, dataclass
from typing import Annotated, Any

import numpy as np
import torch
import typer
from transformers import GPT2LMHeadModel

from max_gpt2 import example
from max_gpt2.cli.process import make_program, run_guarded
from solutions.solution_01 import GPT2Config
from solutions.solution_13 import CompiledGPT2, MaxGPT2LMHeadModel
from solutions.solution_14 import generate_tokens
from tutorial.mine import Parts, my_parts

CONV1D = ("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")


@dataclass
class TorchGPT2:
    """PyTorch's model, called like MAX's: arrays in, arrays out."""

    model: GPT2LMHeadModel
    config: Any

    def __call__(self, input_ids: np.ndarray) -> np.ndarray:
        """Return the logits after every token: [batch, seq] -> [batch, seq, vocab]."""
        with torch.no_grad():
            return self.model(torch.from_numpy(input_ids)).logits.numpy()


def load(folder: str, parts: Parts) -> tuple[CompiledGPT2, TorchGPT2, list[str]]:
    """Load a checkpoint into PyTorch, and from there into MAX; return both and what was transposed."""
    torch_model = GPT2LMHeadModel.from_pretrained(folder, dtype=torch.float32).eval()
    # OpenAI wrote four layers of a block as "Conv1D", which keeps its weight as [in, out]; MAX's Linear wants
    # [out, in]. Transpose before loading, and by name: attn.c_proj is square, so no shape gives it away.
    weights = {name: tensor.numpy() for name, tensor in torch_model.state_dict().items()}
    transposed = [name for name in weights if name.endswith(CONV1D)]
    weights |= {name: np.ascontiguousarray(weights[name].T) for name in transposed}

    config = parts.config(**{name: getattr(torch_model.config, name) for name in asdict(parts.config())})
    max_model = parts.model(config)
    max_model.load_state_dict(weights)  # strict: a missing, an extra or a misshapen weight raises
    return max_model.compiled(), TorchGPT2(torch_model, torch_model.config), transposed


def main(
    model: Annotated[str, typer.Option(help='"demo", a hub id such as gpt2, or a folder.')] = "demo",
    prompt: Annotated[str, typer.Option(help="What both continue.")] = "It was a pleasure to",
    max_new_tokens: Annotated[int, typer.Option(help="How many tokens each writes.")] = 40,
    temperature: Annotated[float, typer.Option(help="How freely the sampled text is drawn.")] = 0.8,
    seed: Annotated[int, typer.Option(help="The same seed draws the same text.")] = 0,
    mine: Annotated[bool, typer.Option("--mine", help="Use the model that you built in steps/.")] = False,
) -> None:
    """Load a GPT-2 into MAX and into PyTorch, compare their logits, and show what both write."""
    parts = my_parts() if mine else Parts(GPT2Config, MaxGPT2LMHeadModel, generate_tokens)
    checked = example.check(model, prompt, max_new_tokens, temperature, seed)  # refuses what cannot be exact
    max_gpt2, torch_gpt2, transposed = example.while_it_compiles(lambda: load(str(checked.folder), parts))
    example.show_loaded(checked, transposed, parts.whose)
    comparisons = example.show_logits({one.name: (max_gpt2(one.ids), torch_gpt2(one.ids)) for one in checked.prompts})
    example.show_texts(
        "greedy: the likeliest token each time",
        checked,
        lambda ids: parts.generate_tokens(max_gpt2, ids, max_new_tokens, do_sample=False),
        lambda ids: parts.generate_tokens(torch_gpt2, ids, max_new_tokens, do_sample=False),
    )
    example.show_texts(
        f"sampled: temperature {temperature}, seed {seed}",
        checked,
        lambda ids: parts.generate_tokens(max_gpt2, ids, max_new_tokens, temperature, temperature > 0, seed),
        lambda ids: parts.generate_tokens(torch_gpt2, ids, max_new_tokens, temperature, temperature > 0, seed),
    )
    example.conclude(comparisons)


if __name__ == "__main__":
    raise SystemExit(run_guarded(make_program(main)))

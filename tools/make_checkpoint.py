"""Write a random checkpoint in the layout of a published one: `python -m tools.make_checkpoint --size gpt2 DIR`.

Names, shapes and mask buffers are those of `openai-community/gpt2` and the larger sizes: no prefix, Conv1D weights
[in, out], a causal mask in each layer, no `lm_head`, and a header with a length that leaves the data unaligned. The
weights are random, so the model generates noise, but loading it takes the same work.
"""

import argparse
import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np

from max_gpt2.checkpoint.convert import header
from max_gpt2.checkpoint.formats.source import EXACT
from max_gpt2.checkpoint.layout import canonical_shapes
from max_gpt2.checkpoint.locate import DEMO
from max_gpt2.config import SIZES, GPT2Config
from max_gpt2.weights import LM_HEAD


def stored_layout(config: GPT2Config) -> dict[str, tuple[int, ...]]:
    """Return the names and shapes of the published file, sorted by name like the file."""
    shapes: dict[str, tuple[int, ...]] = {
        f"h.{layer}.attn.bias": (1, 1, config.n_positions, config.n_positions) for layer in range(config.n_layer)
    }
    for name, shape in canonical_shapes(config).items():
        if name != LM_HEAD:
            shapes[name.removeprefix("transformer.")] = shape
    return dict(sorted(shapes.items()))


def values(config: GPT2Config, seed: int) -> Iterator[np.ndarray]:
    """Yield the tensors of `stored_layout`, initialized like GPT-2 except for nonzero biases and random scales."""
    rng = np.random.default_rng(seed)
    for name, shape in stored_layout(config).items():
        if name.endswith(".attn.bias"):
            yield np.tril(np.ones(shape, dtype=np.float32))
            continue
        noise = rng.standard_normal(shape, dtype=np.float32) * np.float32(0.02)
        yield noise + np.float32(1) if "ln_" in name and name.endswith("weight") else noise


def file_header(config: GPT2Config, dtype: str = "F32") -> bytes:
    """Return the header of the file: in float32 with a length of 3 modulo 8 like the published one's, else aligned."""
    layout = {name: (dtype, shape) for name, shape in stored_layout(config).items()}
    return header(layout, start=3 if dtype == "F32" else 0)


def write_checkpoint(config: GPT2Config, folder: Path, seed: int = 0, dtype: str = "F32") -> None:
    """Write `config.json`, `model.safetensors` and the tokenizer of the demo, one tensor at a time.

    `dtype` is "F32", "F16" or "BF16".
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "model.safetensors").open("wb") as file:
        file.write(file_header(config, dtype))
        for array in values(config, seed):
            file.write(array.astype(EXACT[dtype], copy=False).tobytes())
    fields = asdict(config)
    (eos_token_id,) = fields.pop("eos_token_ids")
    kind = {"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "n_ctx": config.n_positions}
    fields |= kind | {"bos_token_id": eos_token_id, "eos_token_id": eos_token_id}
    (folder / "config.json").write_text(json.dumps(fields, indent=2, sort_keys=True) + "\n")
    for name in ("tokenizer.json", "vocab.json", "merges.txt"):
        shutil.copyfile(DEMO / name, folder / name)


def main() -> None:
    """Parse the command line and write the checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", choices=SIZES, required=True)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    write_checkpoint(SIZES[arguments.size], arguments.folder, arguments.seed)


if __name__ == "__main__":
    main()

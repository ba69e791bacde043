"""Tiny checkpoints, made by transformers itself: uneven sizes, no weight that is 0 or 1, so that no mistake hides."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

Tensors = dict[str, np.ndarray]
END_OF_TEXT = "<|endoftext|>"
TEXT = "The quick brown fox jumps over the lazy dog, and the dog, being lazy, lets it. Was it the best of times?"
#: No two sizes are equal, and a LayerNorm's epsilon that can be seen in the numbers.
UNEVEN: dict[str, Any] = {
    "vocab_size": 311,
    "n_positions": 67,
    "n_embd": 24,
    "n_layer": 3,
    "n_head": 3,
    "layer_norm_epsilon": 3e-2,
    "bos_token_id": 299,
    "eos_token_id": 299,
}
#: Every flag that the tutorial's model leaves out.
FLAGS: dict[str, Any] = {
    "vocab_size": 50304,
    "n_positions": 61,
    "n_inner": 56,
    "activation_function": "gelu",
    "scale_attn_weights": False,
    "scale_attn_by_inverse_layer_idx": True,
    "tie_word_embeddings": False,
}


def reference_model(**changes: Any) -> Any:
    """Return transformers' model of the uneven sizes, each of its parameters random."""
    torch.manual_seed(1)
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**(UNEVEN | changes))).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.25 * torch.randn_like(parameter))
    return model


def as_linear(state_dict: Tensors) -> Tensors:
    """Return weights as the tutorial's model has them: its Linear keeps [out, in] where a Conv1D has [in, out]."""
    conv1d = ("c_attn.weight", "c_proj.weight", "c_fc.weight")
    return {
        name: np.ascontiguousarray(value.T) if name.endswith(conv1d) else value for name, value in state_dict.items()
    }


def write_tokenizer(folder: Path, size: int = 300) -> Tokenizer:
    """Write a byte-level BPE of `size` tokens, the last of which ends a text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=size - 1, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([TEXT] * 3, trainer)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([END_OF_TEXT])
    assert tokenizer.get_vocab_size() == size
    tokenizer.save(str(folder / "tokenizer.json"))
    vocab = dict(sorted(tokenizer.get_vocab().items(), key=lambda item: item[1]))
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    (folder / "vocab.json").write_text(json.dumps(vocab))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
    return tokenizer


def write_checkpoint(folder: Path, **changes: Any) -> Path:
    """Write a checkpoint as transformers saves it, with a tokenizer; `changes` are those of its config."""
    folder.mkdir(parents=True, exist_ok=True)
    reference_model(**changes).save_pretrained(folder)
    write_tokenizer(folder)
    return folder


def save_sharded_pickle(folder: Path, state: dict[str, torch.Tensor]) -> None:
    """Two shards with an index, as transformers used to save them."""
    names = sorted(state)
    parts = {"pytorch_model-00001-of-00002.bin": names[:7], "pytorch_model-00002-of-00002.bin": names[7:]}
    for file, part in parts.items():
        torch.save({name: state[name] for name in part}, folder / file)
    index = {"metadata": {}, "weight_map": {name: file for file, part in parts.items() for name in part}}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))


def edit_weights(folder: Path, edit: Callable[[dict[str, np.ndarray]], None]) -> None:
    """Change the tensors of a checkpoint in place."""
    path = folder / "model.safetensors"
    tensors = dict(load_file(path))
    edit(tensors)
    save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, path, metadata={"format": "pt"})


def edit_config(folder: Path, **changes: Any) -> None:
    """Change fields of a checkpoint's config in place."""
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def reference_logits(model: Any, ids: np.ndarray) -> np.ndarray:
    """Return PyTorch's logits: [batch, seq] -> [batch, seq, vocab]."""
    with torch.no_grad():
        return model(torch.from_numpy(ids)).logits.numpy()


def random_ids(batch: int, seq: int, vocab: int = UNEVEN["vocab_size"]) -> np.ndarray:
    """Return ids that are the same in each run: [batch, seq]."""
    return np.random.default_rng(7).integers(0, vocab, (batch, seq))


def conv1d_weights(model: torch.nn.Module) -> Tensors:
    """Transformers' state dict, its linear layers as [in, out], found out by what each computes, not by its name."""
    weights = {name: value.numpy() for name, value in model.state_dict().items()}
    for name, module in model.named_modules():
        if isinstance(module, transformers.pytorch_utils.Conv1D):
            rows = torch.eye(module.weight.shape[0])
            with torch.no_grad():
                weights[f"{name}.weight"] = (module(rows) - module.bias).numpy()
    return weights


def assert_same(ours: Tensors, expected: Tensors, atol: float = 1e-6) -> None:
    assert ours.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(ours[name], value, rtol=0, atol=atol, err_msg=name)

"""Write a GGUF file of a random checkpoint, for llama.cpp."""

from pathlib import Path

import gguf
import numpy as np

from max_gpt2.checkpoint import inspect_checkpoint, load_weights
from max_gpt2.checkpoint.layout import LM_HEAD, is_conv1d

_NAMES = {
    "transformer.wte": "token_embd",
    "transformer.wpe": "position_embd",
    "transformer.ln_f": "output_norm",
    "transformer.h.": "blk.",
    "ln_1": "attn_norm",
    "attn.c_attn": "attn_qkv",
    "attn.c_proj": "attn_output",
    "ln_2": "ffn_norm",
    "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
}


def write_gguf(folder: Path, target: Path) -> None:
    """Write the weights in float32 with a placeholder vocabulary; the benchmark passes token ids only."""
    plan = inspect_checkpoint(folder)[2]
    config = plan.config
    writer = gguf.GGUFWriter(target, "gpt2")
    writer.add_context_length(config.n_positions)
    writer.add_embedding_length(config.n_embd)
    writer.add_block_count(config.n_layer)
    writer.add_feed_forward_length(4 * config.n_embd)
    writer.add_head_count(config.n_head)
    writer.add_layer_norm_eps(config.layer_norm_epsilon)
    writer.add_file_type(0)
    tokens = [f"t{id_}" for id_ in range(config.vocab_size)]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.NORMAL] * len(tokens))
    writer.add_token_merges(["t 0"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    for name, value in load_weights(plan).items():
        if name != LM_HEAD:
            theirs = name
            for ours, other in _NAMES.items():
                theirs = theirs.replace(ours, other)
            writer.add_tensor(theirs, np.ascontiguousarray(value.T if is_conv1d(name) else value))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

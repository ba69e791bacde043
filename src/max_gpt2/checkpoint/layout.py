"""The canonical layout: the names and shapes that a GPT-2's state dict has once it is loaded.

Names and shapes are those of Hugging Face's `GPT2LMHeadModel`, so the weights of the four "Conv1D" layers are
`[in, out]`, as OpenAI's code had them. Stored checkpoints differ from this in their prefixes and in the buffers that
old versions of transformers saved; and other programs keep these weights as `[out, in]`, as PyTorch's `Linear` does.
"""

import re

from max_gpt2.config import GPT2Config

WTE = "transformer.wte.weight"
LM_HEAD = "lm_head.weight"
#: The four layers that GPT-2 calls Conv1D, whose weight is [in, out]. `attn.c_proj` is square: its shape
#: cannot tell whether it was transposed.
CONV1D = ("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")
#: Constants, not parameters: the causal mask that old versions of transformers saved along. Note the dot: the
#: parameter `attn.c_attn.bias` ends in `attn.bias` as well.
_MASK_BUFFER = re.compile(r"h\.\d+\.(attn\.bias|attn\.masked_bias|crossattention\.bias)")
_OTHER_HEAD = re.compile(r"(multiple_choice_head|score|classifier|qa_outputs)\.")
_PREFIXES = ("module.", "_orig_mod.", "transformer.")


def canonical_name(stored: str) -> str:
    """Return a tensor's canonical name, whatever prefixes were wrapped around it: `h.0.x` -> `transformer.h.0.x`."""
    name = stored
    while prefix := next((prefix for prefix in _PREFIXES if name.startswith(prefix)), ""):
        name = name[len(prefix) :]
    return name if name == LM_HEAD or _OTHER_HEAD.match(name) else f"transformer.{name}"


def why_skipped(name: str) -> str | None:
    """Return why a canonical name is none of the model's parameters by design, or None when nothing says so."""
    if _MASK_BUFFER.fullmatch(name.removeprefix("transformer.")):
        return "mask buffer"
    if _OTHER_HEAD.match(name):
        return "head of another task"
    return None


def is_conv1d(name: str) -> bool:
    """Say whether this canonical name is one of the weights that OpenAI and Hugging Face store [in, out]."""
    return name.endswith(CONV1D)


def canonical_shapes(config: GPT2Config) -> dict[str, tuple[int, ...]]:
    """Return the name and shape of every tensor of the canonical state dict, `lm_head.weight` included."""
    n_embd, n_inner = config.n_embd, config.intermediate_size
    shapes: dict[str, tuple[int, ...]] = {
        WTE: (config.vocab_size, n_embd),
        "transformer.wpe.weight": (config.n_positions, n_embd),
    }
    for layer in range(config.n_layer):
        block = f"transformer.h.{layer}"
        shapes |= {
            f"{block}.ln_1.weight": (n_embd,),
            f"{block}.ln_1.bias": (n_embd,),
            f"{block}.attn.c_attn.weight": (n_embd, 3 * n_embd),
            f"{block}.attn.c_attn.bias": (3 * n_embd,),
            f"{block}.attn.c_proj.weight": (n_embd, n_embd),
            f"{block}.attn.c_proj.bias": (n_embd,),
            f"{block}.ln_2.weight": (n_embd,),
            f"{block}.ln_2.bias": (n_embd,),
            f"{block}.mlp.c_fc.weight": (n_embd, n_inner),
            f"{block}.mlp.c_fc.bias": (n_inner,),
            f"{block}.mlp.c_proj.weight": (n_inner, n_embd),
            f"{block}.mlp.c_proj.bias": (n_embd,),
        }
    return shapes | {
        "transformer.ln_f.weight": (n_embd,),
        "transformer.ln_f.bias": (n_embd,),
        LM_HEAD: (config.vocab_size, n_embd),
    }

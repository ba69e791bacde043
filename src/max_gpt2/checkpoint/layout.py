"""The canonical layout: names and shapes of the tensors in a loaded state dict.

They are those of Hugging Face's `GPT2LMHeadModel`, so the weights of the four Conv1D layers are `[in, out]`, as in
OpenAI's code. Stored checkpoints differ in prefixes and in buffers saved by old versions of transformers; other
programs store the Conv1D weights as `[out, in]`, like PyTorch's `Linear`.
"""

import re

from max_gpt2.config import GPT2Config
from max_gpt2.weights.types import CONV1D as CONV1D
from max_gpt2.weights.types import LM_HEAD as LM_HEAD
from max_gpt2.weights.types import WPE as WPE
from max_gpt2.weights.types import WTE as WTE

#: Constants, not parameters: the causal mask that old versions of transformers saved. Note the dot: the
#: parameter `attn.c_attn.bias` ends in `attn.bias` as well.
_MASK_BUFFER = re.compile(r"h\.\d+\.(attn\.bias|attn\.masked_bias|crossattention\.bias)")
_OTHER_HEAD = re.compile(r"(multiple_choice_head|score|classifier|qa_outputs)\.")
#: Prefixes of wrappers: DataParallel and DeepSpeed, torch.compile, Lightning, Opacus, Fabric, FSDP.
_PREFIXES = ("module.", "_orig_mod.", "model.", "_module.", "_forward_module.", "transformer.")
#: FSDP and activation checkpointing wrap modules at any depth.
_INFIXES = re.compile(r"(_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
#: The head in DialoGPT's first files.
_DECODER = "lm_head.decoder.weight"


#: The ends of tensor names by the method that quantised the weights.
_QUANTISED = {
    "GPTQ or AWQ": re.compile(r"\.(qweight|qzeros|g_idx|scales)$"),
    "bitsandbytes": re.compile(r"\.weight\.(absmax|quant_map|nested_absmax|nested_quant_map|quant_state\..*)$|\.SCB$"),
}


def canonical_name(stored: str) -> str:
    """Return a tensor's canonical name, without the prefixes of wrappers: `h.0.x` -> `transformer.h.0.x`."""
    name = _INFIXES.sub("", stored)
    while prefix := next((prefix for prefix in _PREFIXES if name.startswith(prefix)), ""):
        name = name[len(prefix) :]
    if name == _DECODER:
        return LM_HEAD
    return name if name == LM_HEAD or _OTHER_HEAD.match(name) else f"transformer.{name}"


def why_skipped(name: str) -> str | None:
    """Return the reason for skipping a tensor that is not a parameter of the model, or None if it is not skipped."""
    if _MASK_BUFFER.fullmatch(name.removeprefix("transformer.")):
        return "mask buffer"
    if _OTHER_HEAD.match(name):
        return "head of another task"
    return None


def quantisation(name: str) -> str | None:
    """Return the name of the method that stores a quantised weight under this name, or None."""
    return next((method for method, pattern in _QUANTISED.items() if pattern.search(name)), None)


def is_conv1d(name: str) -> bool:
    """Return True for the canonical name of a Conv1D weight, which OpenAI and Hugging Face store as [in, out]."""
    return name.endswith(CONV1D)


def canonical_shapes(config: GPT2Config) -> dict[str, tuple[int, ...]]:
    """Return the name and shape of every tensor of the canonical state dict, including `lm_head.weight`."""
    n_embd, n_inner = config.n_embd, config.intermediate_size
    shapes: dict[str, tuple[int, ...]] = {
        WTE: (config.vocab_size, n_embd),
        WPE: (config.n_positions, n_embd),
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

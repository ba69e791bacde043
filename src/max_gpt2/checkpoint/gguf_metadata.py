"""The metadata of a GGUF file: the config and the tokenizer, under the keys of llama.cpp's converter for GPT-2."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from max_gpt2.checkpoint.convert import eos_token_ids, first, is_standard
from max_gpt2.checkpoint.plan import LoadPlan
from max_gpt2.config import ACTIVATIONS, GPT2Config
from max_gpt2.errors import ConfigError, TokenizerError, listed
from max_gpt2.tokenizer import GPT2Tokenizer
from max_gpt2.tokenizer.chat_template import read_chat_template

if TYPE_CHECKING:
    import gguf

#: Roles of special tokens beside the end and the start of a text, with their names in the methods of GGUFWriter.
_ROLES = ("unk", "sep", "pad", "mask")


def check_config(config: GPT2Config, source: str) -> None:
    """Raise ConfigError for a config that llama.cpp's GPT-2 does not compute; `source` is the name of the checkpoint.

    llama.cpp always uses the tanh approximation of GELU and divides attention scores by the root of the head's width.
    """
    problems = []
    if ACTIVATIONS[config.activation_function] != "gelu_tanh":
        problems.append(f"activation_function is {config.activation_function}, and llama.cpp computes gelu_new")
    if not config.scale_attn_weights:
        problems.append("scale_attn_weights is false, and llama.cpp scales attention scores")
    if config.scale_attn_by_inverse_layer_idx:
        problems.append("scale_attn_by_inverse_layer_idx is true, and llama.cpp scales all layers alike")
    if problems:
        remedy = "Convert it to safetensors instead, without --to gguf."
        raise ConfigError(listed(f"{source} cannot be written as GGUF", problems, remedy))


def check_tokenizer(tokenizer: GPT2Tokenizer, source: str) -> None:
    """Raise TokenizerError for a tokenizer other than GPT-2's byte-level BPE, the only one llama.cpp has for GPT-2."""
    content = json.loads(tokenizer.json)
    model = content["model"]
    problem = ""
    if model.get("type", "BPE") != "BPE" or not is_standard(content):
        problem = "it is not a byte-level BPE that splits text as GPT-2's does"
    elif content["pre_tokenizer"].get("add_prefix_space"):
        problem = "add_prefix_space is true"
    elif changed := [name for name in ("ignore_merges", "end_of_word_suffix") if model.get(name)]:
        problem = f"{changed[0]} is set"
    elif not model["merges"]:
        problem = "it has no merges"
    elif any(" " in part for pair in model["merges"] if not isinstance(pair, str) for part in pair):
        problem = "its merges contain spaces"
    if problem:
        raise TokenizerError(
            f"The tokenizer of {source} cannot be written as GGUF: {problem}. Convert the checkpoint to safetensors "
            "instead, or give a folder with another tokenizer: --tokenizer FOLDER."
        )


def add_config(writer: "gguf.GGUFWriter", plan: LoadPlan, name: str) -> None:
    """Add the sizes of the model, and `name`, which llama.cpp shows."""
    import gguf

    config = plan.config
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_name(name)
    writer.add_size_label(gguf.size_label(plan.parameters, 0, 0, 0))
    writer.add_block_count(config.n_layer)
    writer.add_context_length(config.n_positions)
    writer.add_embedding_length(config.n_embd)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.n_head)
    writer.add_layer_norm_eps(config.layer_norm_epsilon)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)


def add_tokenizer(writer: "gguf.GGUFWriter", plan: LoadPlan, tokenizer: GPT2Tokenizer) -> list[str]:
    """Add the tokenizer, its special tokens and its chat template; return what the file cannot hold, as sentences."""
    tokens, types = _tokens(tokenizer, plan.config.vocab_size)
    pairs = json.loads(tokenizer.json)["model"]["merges"]
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in pairs]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(merges)
    eos_ids = eos_token_ids(plan, tokenizer)
    bos_id = tokenizer.bos_token_id if plan.origin.config_json else first(tokenizer.bos_token_id, *eos_ids)
    if bos_id is not None:
        writer.add_bos_token_id(bos_id)
    if eos_ids:
        writer.add_eos_token_id(eos_ids[0])
    for role, id_ in _roles(tokenizer).items():
        getattr(writer, f"add_{role}_token_id")(id_)
    before, after = _added(tokenizer)
    writer.add_add_bos_token(bos_id is not None and before == bos_id)
    writer.add_add_eos_token(after in eos_ids)
    if tokenizer.folder and (template := read_chat_template(tokenizer.folder)):
        writer.add_chat_template(template[0])
    if not eos_ids:
        return [f"The model has no end-of-text token; llama.cpp assumes {tokens[min(11, len(tokens) - 1)]!r}, id 11."]
    return [f"GGUF holds one end-of-text id: {eos_ids[0]} of {eos_ids}."] if eos_ids[1:] else []


def _tokens(tokenizer: GPT2Tokenizer, vocab_size: int) -> tuple[list[str], list[int]]:
    """Return the token and the type of each id; ids without a token are unused."""
    import gguf

    content = json.loads(tokenizer.json)
    special = {token["id"]: bool(token.get("special")) for token in content.get("added_tokens") or []}
    known = {id_: token for token, id_ in tokenizer.vocab.items()}
    tokens = [known.get(id_, f"[PAD{id_}]") for id_ in range(vocab_size)]
    kinds = gguf.TokenType
    added = {id_: kinds.CONTROL if flag else kinds.USER_DEFINED for id_, flag in special.items()}
    types = [added.get(id_, kinds.NORMAL) if id_ in known else kinds.UNUSED for id_ in range(vocab_size)]
    return tokens, [int(kind) for kind in types]


def _roles(tokenizer: GPT2Tokenizer) -> Mapping[str, int]:
    """Return the ids of the special tokens that have one of `_ROLES`."""
    vocab: dict[str, Any] = tokenizer.vocab
    named = {role: vocab.get(tokenizer.special_tokens.get(f"{role}_token", "")) for role in _ROLES}
    return {role: id_ for role, id_ in named.items() if id_ is not None}


def _added(tokenizer: GPT2Tokenizer) -> tuple[int | None, int | None]:
    """Return the ids that the tokenizer's post-processor adds before and after a text; None for no id."""
    text = next((token for token in tokenizer.vocab if len(token) == 1 and token.isalpha() and token.isascii()), "a")
    plain, around = tokenizer.encode_special(text, template=False), tokenizer.encode_special(text)
    extra = len(around) - len(plain)
    starts = next((start for start in range(extra + 1) if around[start : start + len(plain)] == plain), 0)
    return around[0] if starts else None, around[-1] if extra > starts else None

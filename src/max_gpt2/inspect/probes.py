"""The names and shapes of the activations that can be read and replaced."""

import difflib
import re
from collections.abc import Iterable, Sequence

from max_gpt2.config import GPT2Config
from max_gpt2.errors import RequestError
from max_gpt2.model import cache_bytes
from max_gpt2.system.machine import memory

#: The parts of a layer: [seq, n_embd] unless `shape` says otherwise. "" is the output of the block.
PARTS = (
    "resid_pre",
    "ln_1",
    "attn.q",
    "attn.k",
    "attn.v",
    "attn.scores",
    "attn.pattern",
    "attn.z",
    "attn.heads",
    "attn",
    "resid_mid",
    "ln_2",
    "mlp.pre",
    "mlp.post",
    "mlp",
    "",
)
#: Computed from others, so that replacing them would change nothing: the part to edit instead.
READ_ONLY = {"attn.scores": "attn.pattern", "attn.heads": "attn.z", "mlp.pre": "mlp.post"}
#: The names of TransformerLens, by their end after "blocks.N.".
_ALIASES = {
    "hook_resid_pre": "resid_pre",
    "attn.hook_q": "attn.q",
    "attn.hook_k": "attn.k",
    "attn.hook_v": "attn.v",
    "attn.hook_attn_scores": "attn.scores",
    "attn.hook_pattern": "attn.pattern",
    "attn.hook_z": "attn.z",
    "attn.hook_result": "attn.heads",
    "hook_attn_out": "attn",
    "hook_resid_mid": "resid_mid",
    "mlp.hook_pre": "mlp.pre",
    "mlp.hook_post": "mlp.post",
    "hook_mlp_out": "mlp",
    "hook_resid_post": "",
}
_LAYER = re.compile(r"h\.(\d+)(?:\.(.*))?")


def probe_names(config: GPT2Config) -> list[str]:
    """Return the names of all activations, in the order in which they are computed."""
    layers = [name_in(layer, part) for layer in range(config.n_layer) for part in PARTS]
    return ["embeddings", *layers, "ln_f", "logits"]


def name_in(layer: int, part: str) -> str:
    """Return the name of a part of a layer; the output of the block is h.N."""
    return f"h.{layer}.{part}" if part else f"h.{layer}"


def split_name(name: str) -> tuple[int | None, str]:
    """Return the layer and the part of a name; no layer for "embeddings", "ln_f" and "logits"."""
    found = _LAYER.fullmatch(name)
    return (int(found[1]), found[2] or "") if found else (None, name)


def resolve(patterns: Iterable[str], config: GPT2Config) -> list[str]:
    """Return the names that patterns match, in the order in which they are computed.

    * matches within one component, so that "h.*" are the outputs of all blocks, and ** matches any components. The
    names of TransformerLens, such as blocks.3.attn.hook_pattern, are aliases, and so is h.N.resid_post. Raises
    RequestError for a pattern without a match.
    """
    names, chosen = probe_names(config), set[str]()
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        if not isinstance(pattern, str):
            raise RequestError(f'{pattern!r} is not the name of an activation, such as "h.0.attn.pattern".')
        found = _match(canonical(pattern), names)
        if not found:
            raise RequestError(_unknown(pattern, config))
        chosen.update(found)
    return [name for name in names if name in chosen]


def canonical(name: str) -> str:
    """Return a name or a pattern with an alias replaced by this package's name."""
    if found := re.fullmatch(r"blocks\.([^.]+)\.(.+)", name):
        part = _ALIASES.get(found[2])
        if part is not None:
            return f"h.{found[1]}.{part}" if part else f"h.{found[1]}"
    return name.removesuffix(".resid_post")


def _match(pattern: str, names: Sequence[str]) -> list[str]:
    if pattern in names:  # without a regular expression for each of many names
        return [pattern]
    parts = [re.escape(part).replace(r"\*", "[^.]*").replace(r"\?", "[^.]") for part in pattern.split(".")]
    compiled = re.compile(r"\.".join(parts).replace("[^.]*[^.]*", ".*"))
    return [name for name in names if compiled.fullmatch(name)]


def _unknown(pattern: str, config: GPT2Config) -> str:
    shown = pattern.replace("\n", "\\n")  # a message is one line
    found = re.match(r"h\.(-?\d+)(\.|$)", canonical(pattern))
    if found and not 0 <= int(found[1]) < config.n_layer:
        return f'There is no activation "{shown}": the model has the layers 0 to {config.n_layer - 1}.'
    close = difflib.get_close_matches(canonical(pattern), probe_names(config), n=3, cutoff=0.3)
    return f'There is no activation "{shown}". The nearest names are {", ".join(close) or "embeddings, h.0, logits"}.'


def shape(name: str, config: GPT2Config, seq: int) -> tuple[int, ...]:
    """Return the shape of an activation of a text of `seq` tokens."""
    _, part = split_name(name)
    shapes: dict[str, tuple[int, ...]] = {
        **dict.fromkeys(("attn.q", "attn.k", "attn.v", "attn.z"), (config.n_head, seq, config.head_dim)),
        **dict.fromkeys(("attn.scores", "attn.pattern"), (config.n_head, seq, seq)),
        "attn.heads": (config.n_head, seq, config.n_embd),
        **dict.fromkeys(("mlp.pre", "mlp.post"), (seq, config.intermediate_size)),
        "logits": (seq, config.vocab_size),
    }
    return shapes.get(part, (seq, config.n_embd))


def check_memory(names: Sequence[str], config: GPT2Config, lengths: Sequence[int]) -> None:
    """Raise RequestError if the activations of texts, and what computes them, would not fit into the memory."""
    needed = sum(_bytes(shape(name, config, seq)) for name in names for seq in lengths)
    needed += cache_bytes(config, len(lengths), max(lengths))
    # In a block, all texts at once: the residual stream, normed, queries, keys, values, z, attn, and the MLP.
    needed += _bytes((sum(lengths), 8 * config.n_embd + config.intermediate_size))
    _, available = memory()
    if needed > available:
        largest = max(names, key=lambda name: _bytes(shape(name, config, max(lengths))), default="")
        fewer = [f"activations ({largest} is the largest)"] * bool(names) + ["texts at once"] * (len(lengths) > 1)
        raise RequestError(
            f"The trace needs {needed / 1e9:.1f} GB of memory, but {available / 1e9:.1f} GB are available. "
            f"Ask for fewer {' or fewer '.join(fewer) or 'tokens'}."
        )


def _bytes(shape_: tuple[int, ...]) -> int:
    total = 4
    for one in shape_:
        total *= one
    return total

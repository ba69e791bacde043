"""The config of a GPT-2: the fields of `config.json` that change the computation."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from max_gpt2.errors import ConfigError, listed

#: The implementation of the model's operations: the kernels of this package, or MAX's own operations.
Kernels = Literal["mojo", "builtin"]

#: "none" and the six activation functions, by the names in `kernels/activations.mojo`.
#: gelu_tanh is 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))), gelu_erf x Phi(x) with the normal distribution's Phi,
#: quick_gelu x sigmoid(1.702 x): Hendrycks and Gimpel 2016, section 2; silu is x sigmoid(x).
Activation = Literal["none", "gelu_tanh", "gelu_erf", "quick_gelu", "relu", "silu", "tanh"]

#: The activation functions by Hugging Face's names; several names can mean the same function.
ACTIVATIONS: dict[str, Activation] = {
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_accurate": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu": "gelu_erf",
    "gelu_python": "gelu_erf",
    "quick_gelu": "quick_gelu",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
    "tanh": "tanh",
}
#: The names that transformers uses for the sizes of every model (`GPT2Config.attribute_map`), and GPT-2's own.
ALIASES = {
    "hidden_size": "n_embd",
    "num_hidden_layers": "n_layer",
    "num_attention_heads": "n_head",
    "max_position_embeddings": "n_positions",
}
_REMEDY = "Correct config.json, or choose a GPT-2 checkpoint."


@dataclass(frozen=True)
class GPT2Config:
    """A GPT-2's config, with the names and defaults of Hugging Face's `GPT2Config` (the defaults are `gpt2`).

    `n_inner` is None for `4 * n_embd`: `intermediate_size` resolves it. `reorder_and_upcast_attn` has no
    effect in float32. `eos_token_ids` are the ids that end a sequence; `bos_token_id` is the one that starts
    an empty prompt, if the checkpoint names it.
    """

    vocab_size: int = 50257
    n_positions: int = 1024
    n_embd: int = 768
    n_layer: int = 12
    n_head: int = 12
    n_inner: int | None = None
    activation_function: str = "gelu_new"
    layer_norm_epsilon: float = 1e-5
    scale_attn_weights: bool = True
    scale_attn_by_inverse_layer_idx: bool = False
    reorder_and_upcast_attn: bool = False
    tie_word_embeddings: bool = True
    eos_token_ids: tuple[int, ...] = (50256,)
    bos_token_id: int | None = None

    @property
    def intermediate_size(self) -> int:
        """The width of the MLP's hidden layer."""
        return 4 * self.n_embd if self.n_inner is None else self.n_inner

    @property
    def head_dim(self) -> int:
        """The width of one attention head."""
        return self.n_embd // self.n_head

    def attention_scale(self, layer: int) -> float:
        """Return the factor of the attention scores in layer number `layer`, counted from 0."""
        scale = self.head_dim**-0.5 if self.scale_attn_weights else 1.0
        return scale / (layer + 1) if self.scale_attn_by_inverse_layer_idx else scale

    @classmethod
    def from_pretrained(cls, model: str | Path) -> "GPT2Config":
        """Read the config of "demo", a hub id or a folder; raises ModelNotFoundError or ConfigError."""
        from max_gpt2.checkpoint.locate import locate  # hub code is slow to import, and only needed here

        path = locate(model)
        return read_config(path if path.is_dir() else path.parent)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], source: str = "config.json", remedy: str = _REMEDY) -> "GPT2Config":
        """Create a config from the fields of a `config.json`; raises ConfigError with all problems of `source`.

        The names in `ALIASES` are accepted too. `n_head` has no default here, because no tensor would contradict it.
        """
        values, problems = _with_own_names(values)
        if problems := [*_foreign(values), *problems, *_wrong(values), *_unsupported(values)]:
            raise ConfigError(listed(source, problems, remedy))
        names = {field.name for field in fields(cls)}
        known = {name: value for name, value in values.items() if name in names}
        known["bos_token_id"] = values.get("bos_token_id", 50256)
        config = cls(**known, eos_token_ids=_ids(values.get("eos_token_id", 50256)))
        if config.n_embd % config.n_head:
            problem = f"n_embd {config.n_embd} is not a multiple of n_head {config.n_head}"
            raise ConfigError(listed(source, [problem], remedy))
        return config


SIZES: dict[str, GPT2Config] = {
    "gpt2": GPT2Config(n_layer=12, n_head=12, n_embd=768),  # 124 M parameters
    "gpt2-medium": GPT2Config(n_layer=24, n_head=16, n_embd=1024),  # 355 M
    "gpt2-large": GPT2Config(n_layer=36, n_head=20, n_embd=1280),  # 774 M
    "gpt2-xl": GPT2Config(n_layer=48, n_head=25, n_embd=1600),  # 1558 M
}


def read_json(path: Path) -> dict[str, Any]:
    """Read a file that contains a JSON object; raises ConfigError when it does not."""
    try:
        values = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not readable JSON ({error}). Download the file again.") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path} does not contain a JSON object. Download the file again.")
    return values


def read_config(folder: Path) -> GPT2Config:
    """Read `config.json` in a checkpoint's folder; `generation_config.json` overrides its special token ids."""
    path = folder / "config.json"
    if not path.is_file():
        raise ConfigError(f"{folder} has no config.json. Give a folder with a Hugging Face GPT-2 checkpoint.")
    values = read_json(path)
    generation = folder / "generation_config.json"
    if generation.is_file():
        overrides = read_json(generation)
        values |= {"eos_token_id": overrides.get("eos_token_id", values.get("eos_token_id", 50256))}
        if overrides.get("bos_token_id") is not None:
            values |= {"bos_token_id": overrides["bos_token_id"]}
    return GPT2Config.from_dict(values, source=str(path))


def _with_own_names(values: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the fields under GPT-2's own names, and the problems of sizes that are missing or contradictory."""
    own = {name: value for name, value in values.items() if name not in ALIASES}
    problems = []
    for alias, name in ALIASES.items():
        if alias not in values:
            continue
        if name in own and own[name] != values[alias]:
            problems.append(f"{name} is {json.dumps(own[name])} but {alias} is {json.dumps(values[alias])}")
        own[name] = values[alias]
    if "n_head" not in own:
        problems.append("n_head is missing, and the weights do not reveal the number of attention heads")
    return own, problems


def _foreign(values: Mapping[str, Any]) -> list[str]:
    problems = []
    model_type, architectures = values.get("model_type"), values.get("architectures") or []
    if model_type != "gpt2":
        problems.append(f'model_type is {json.dumps(model_type)}, not "gpt2"')
    names = architectures if isinstance(architectures, list) else [architectures]
    return problems + [f"the architecture {name} is not a GPT-2" for name in names if not str(name).startswith("GPT2")]


def _is_size(value: object, limit: int = 2**31) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < limit


def _is_epsilon(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf


def _are_ids(value: object) -> bool:
    return all(isinstance(one, int) and not isinstance(one, bool) and one >= 0 for one in _ids(value))


def _ids(value: Any) -> tuple[Any, ...]:
    if isinstance(value, list):
        return tuple(value)
    return () if value is None else (value,)


_CHECKS: dict[str, tuple[Callable[[object], bool], str]] = {
    **dict.fromkeys(("vocab_size", "n_positions", "n_embd", "n_head"), (_is_size, "a positive integer")),
    "n_layer": (lambda value: _is_size(value, limit=10_000), "an integer from 1 to 9999"),
    "n_inner": (lambda value: value is None or _is_size(value), "a positive integer or null"),
    "layer_norm_epsilon": (_is_epsilon, "a positive number"),
    **dict.fromkeys(
        (
            "scale_attn_weights",
            "scale_attn_by_inverse_layer_idx",
            "reorder_and_upcast_attn",
            "tie_word_embeddings",
            "add_cross_attention",
        ),
        (lambda value: isinstance(value, bool), "true or false"),
    ),
    "activation_function": (
        lambda value: isinstance(value, str) and value in ACTIVATIONS,
        f"one of {', '.join(ACTIVATIONS)}",
    ),
    "eos_token_id": (_are_ids, "an id or a list of ids"),
    "bos_token_id": (lambda value: value is None or (_are_ids(value) and isinstance(value, int)), "an id or null"),
}


def _wrong(values: Mapping[str, Any]) -> list[str]:
    return [
        f"{name} is {json.dumps(values[name])}, not {expected}"
        for name, (fits, expected) in _CHECKS.items()
        if name in values and not fits(values[name])
    ]


def _method(values: Mapping[str, Any]) -> str:
    """Return " with" and the method of a `quantization_config`, or an empty string."""
    settings = values.get("quantization_config")
    method = settings.get("quant_method") if isinstance(settings, dict) else None
    return f" with {method}" if isinstance(method, str) else ""


def _unsupported(values: Mapping[str, Any]) -> list[str]:
    reasons = {
        "add_cross_attention": "GPT-2 has no cross-attention",
        "pruned_heads": "checkpoints with pruned heads are not supported",
        "configuration_files": "the config that transformers reads depends on its version",
        "quantization_config": f"weights quantized{_method(values)} are not exact; use the original checkpoint",
    }
    problems = [f"{name} is set: {reason}" for name, reason in reasons.items() if values.get(name)]
    if not values.get("is_causal", True):
        problems.append("is_causal is not true: attention to later tokens is not supported")
    return problems

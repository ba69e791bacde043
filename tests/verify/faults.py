"""Ten typical implementation faults to plant in PyTorch's model, each with the probe that must diverge first."""

from collections.abc import Callable
from typing import Any

import torch

#: Changes a `GPT2LMHeadModel` in place; its parts are typed as Any.
Fault = Callable[[Any], None]


def transposed_c_proj(model: Any) -> None:
    weight = model.transformer.h[1].attn.c_proj.weight
    weight.copy_(weight.T.clone())


def swapped_query_and_key(model: Any) -> None:
    layer = model.transformer.h[1].attn.c_attn
    for tensor in (layer.weight, layer.bias):
        query, key, value = tensor.clone().chunk(3, dim=-1)
        tensor.copy_(torch.cat([key, query, value], dim=-1))


def another_epsilon(model: Any) -> None:
    model.transformer.h[2].ln_1.eps = 1e-5


def erf_for_tanh(model: Any) -> None:
    model.transformer.h[1].mlp.act = torch.nn.GELU()


def mask_off_by_one(model: Any) -> None:
    def one_token_ahead(_module: object, inputs: Any, options: dict[str, Any]) -> Any:
        seq = inputs[0].shape[1]
        visible = torch.ones(seq, seq, dtype=torch.bool).tril(diagonal=1)
        return inputs, options | {"attention_mask": visible[None, None]}

    model.transformer.h[0].attn.register_forward_pre_hook(one_token_ahead, with_kwargs=True)


def dropped_bias(model: Any) -> None:
    model.transformer.h[2].mlp.c_proj.bias.zero_()


def scale_by_layer_index(model: Any) -> None:
    for index, block in enumerate(model.transformer.h):
        block.attn.scaling /= index + 1


def untied_head(model: Any) -> None:
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight * 1.001)


def shifted_positions(model: Any) -> None:
    weight = model.transformer.wpe.weight
    weight.copy_(weight.roll(1, dims=0))


def one_row_of_wte(model: Any) -> None:
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.clone())
    model.transformer.wte.weight[310] += 0.01  # an id that the tokenizer does not have


FAULTS: dict[Fault, str] = {
    transposed_c_proj: "h.1.attn",
    swapped_query_and_key: "h.1.attn",
    another_epsilon: "h.2.ln_1",
    erf_for_tanh: "h.1.mlp",
    mask_off_by_one: "h.0.attn",
    dropped_bias: "h.2.mlp",
    scale_by_layer_index: "h.1.attn",
    untied_head: "logits",
    shifted_positions: "embeddings",
    one_row_of_wte: "wte",
}

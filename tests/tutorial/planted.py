"""Typical mistakes of learners, each as an edit of a solution with the key of the expected diagnosis."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Planted:
    """An edit of the solution of `step`: replace `right`, which occurs once, with `wrong`.

    With `compiles`, the edit uses an operation that MAX compiles for ten seconds or more.
    """

    step: int
    mistake: str
    right: str
    wrong: str
    compiles: bool = False


BAND = "F.band_part(nothing_seen, num_lower=None, num_upper=0, exclude=True)"
NORM = "F.layer_norm(x, gamma=self.weight, beta=self.bias, epsilon=self.eps)"
CENTERED = "(x - F.mean(x, axis=-1))"
VARIANCE = f"F.mean({CENTERED} * {CENTERED}, axis=-1)"
ORDER = "return query, key, value"
SPLIT = "x.reshape([batch, seq, self.n_head, self.head_dim]).transpose(1, 2)"
MERGE = "x.transpose(1, 2).reshape([batch, seq, self.n_head * self.head_dim])"
SCORES = "scores / math.sqrt(head_dim) + causal_mask(seq)"
RESIDUAL = "return apply_residual_connection(x, self.layer(self.norm(x)))"
BLOCK = "x = ResidualBlock(self.ln_1, self.attn)(x)\n        return ResidualBlock(self.ln_2, self.mlp)(x)"
LOOP = 'x = as_subgraph(block, name="block")(x)  # compile one block for all layers'
TOKEN = "generate_next_token(model, rows, temperature, do_sample, random)"
CDF = "cdf = np.exp(scaled).cumsum(axis=-1)"

PLANTED = [
    Planted(1, "unresolved", "self.n_inner = 4 * self.n_embd", "pass"),
    Planted(1, "always", "if self.n_inner is None:", "if True:"),
    Planted(1, "no factor", "4 * self.n_embd", "self.n_embd"),
    Planted(1, "gpt2 only", "4 * self.n_embd", "3072"),
    Planted(1, "unchecked", "if self.n_embd % self.n_head:", "if False:"),
    Planted(
        1,
        "nested",
        "\n        if self.n_embd % self.n_head:\n            raise",
        "\n            if self.n_embd % self.n_head:\n                raise",
    ),
    Planted(1, "reversed", "self.n_embd % self.n_head:", "self.n_head % self.n_embd:"),
    Planted(1, "assertion", "raise ValueError(", "raise AssertionError("),
    Planted(2, "sign", 'float("-inf")', 'float("inf")'),
    Planted(2, "self hidden", BAND, f"{BAND} + F.band_part(nothing_seen, num_lower=0, num_upper=0)"),
    Planted(2, "next seen", "num_upper=0", "num_upper=1"),
    Planted(2, "upside down", "num_lower=None, num_upper=0", "num_lower=0, num_upper=None"),
    Planted(2, "inverse", "exclude=True", "exclude=False"),
    Planted(2, "all hidden", BAND, "nothing_seen"),
    Planted(2, "nothing hidden", 'float("-inf")', "0.0"),
    Planted(2, "small", 'float("-inf")', "-1.0"),
    Planted(3, "mean", NORM, "x / F.sqrt(F.mean(x * x, axis=-1) + self.eps) * self.weight + self.bias"),
    Planted(3, "unbiased", NORM, f"{CENTERED} / F.sqrt({VARIANCE} * 20 / 19 + self.eps) * self.weight + self.bias"),
    Planted(3, "square root", NORM, f"{CENTERED} / ({VARIANCE} + self.eps) * self.weight + self.bias"),
    Planted(3, "epsilon outside", NORM, f"{CENTERED} / (F.sqrt({VARIANCE}) + self.eps) * self.weight + self.bias"),
    Planted(3, "weight", "gamma=self.weight", "gamma=Tensor.ones([20])"),
    Planted(3, "bias", "beta=self.bias", "beta=Tensor.zeros([20])"),
    Planted(3, "epsilon", "epsilon=self.eps", "epsilon=1e-5"),
    Planted(4, "erf", 'approximate="tanh"', 'approximate="none"'),
    Planted(4, "sigmoid", 'approximate="tanh"', 'approximate="quick"', compiles=True),
    Planted(4, "relu", 'F.gelu(x, approximate="tanh")', "F.relu(x)", compiles=True),
    Planted(4, "silu", 'F.gelu(x, approximate="tanh")', "F.silu(x)", compiles=True),
    Planted(4, "no activation", 'F.gelu(x, approximate="tanh")', "x"),
    Planted(
        4,
        "gelu last",
        'x = F.gelu(x, approximate="tanh")\n        return self.c_proj(x)',
        'return F.gelu(self.c_proj(x), approximate="tanh")',
    ),
    Planted(4, "gelu twice", "return self.c_proj(x)", 'return F.gelu(self.c_proj(x), approximate="tanh")'),
    Planted(5, "next row", "self.weight, input_ids,", "self.weight, (input_ids + 1) % 37,", compiles=True),
    Planted(5, "row before", "self.weight, input_ids,", "self.weight, (input_ids + 36) % 37,", compiles=True),
    Planted(5, "scaled", "axis=0)", "axis=0) * 20**0.5"),
    Planted(6, "from 1", "F.gather(self.weight, positions", "F.gather(self.weight, positions + 1", compiles=True),
    Planted(6, "all first", "F.gather(self.weight, positions", "F.gather(self.weight, positions * 0", compiles=True),
    Planted(6, "whole table", "F.gather(self.weight, positions, axis=0)", "self.weight"),
    Planted(6, "scaled", "axis=0)", "axis=0) * 2"),
    Planted(7, "kqv", ORDER, "return key, query, value"),
    Planted(7, "vkq", ORDER, "return value, key, query"),
    Planted(7, "qvk", ORDER, "return query, value, key"),
    Planted(7, "kvq", ORDER, "return key, value, query"),
    Planted(7, "vqk", ORDER, "return value, query, key"),
    Planted(7, "all the same", ORDER, "return query, query, query"),
    Planted(7, "no bias", "self.c_attn(x)", "x @ self.c_attn.weight.T"),
    Planted(8, "no mask", SCORES, "scores / math.sqrt(head_dim)"),
    Planted(8, "subtracted", SCORES, "scores / math.sqrt(head_dim) - causal_mask(seq)"),
    Planted(8, "mask late", SCORES, "scores / math.sqrt(head_dim)"),
    Planted(8, "no scale", SCORES, "scores + causal_mask(seq)"),
    Planted(8, "head_dim", "math.sqrt(head_dim)", "head_dim"),
    Planted(8, "multiplied", "scores / math", "scores * math"),
    Planted(8, "axis", "F.softmax(scores)", "F.softmax(scores, axis=-2)"),
    Planted(8, "swapped", SCORES, "scores.transpose(-2, -1) / math.sqrt(head_dim) + causal_mask(seq)"),
    Planted(8, "no softmax", "F.softmax(scores)", "scores"),
    Planted(9, "split", SPLIT, "x.reshape([batch, self.n_head, seq, self.head_dim])"),
    Planted(9, "merge", MERGE, "x.reshape([batch, seq, self.n_head * self.head_dim])"),
    Planted(9, "no c_proj", "self.c_proj(self.merge_heads(found))", "self.merge_heads(found)"),
    Planted(
        9,
        "transposed",
        "self.c_proj(self.merge_heads(found))",
        "self.merge_heads(found) @ self.c_proj.weight + self.c_proj.bias",
    ),
    Planted(10, "change only", "return x + change", "return change"),
    Planted(10, "x only", "return x + change", "return x"),
    Planted(10, "minus", "return x + change", "return x - change"),
    Planted(10, "x twice", "return x + change", "return x + x + change"),
    Planted(10, "no residual", RESIDUAL, "return self.layer(self.norm(x))"),
    Planted(10, "post-norm", RESIDUAL, "return self.norm(apply_residual_connection(x, self.layer(x)))"),
    Planted(10, "no norm", RESIDUAL, "return apply_residual_connection(x, self.layer(x))"),
    Planted(10, "normalized stream", RESIDUAL, "x = self.norm(x)\n        return x + self.layer(x)"),
    Planted(10, "no layer", RESIDUAL, "return x + self.norm(x)"),
    Planted(10, "norm after", RESIDUAL, "return x + self.norm(self.layer(x))"),
    Planted(
        11,
        "norms swapped",
        BLOCK,
        "x = ResidualBlock(self.ln_2, self.attn)(x)\n        return ResidualBlock(self.ln_1, self.mlp)(x)",
    ),
    Planted(11, "ln_1 twice", "(self.ln_2, self.mlp)", "(self.ln_1, self.mlp)"),
    Planted(
        11,
        "mlp first",
        BLOCK,
        "x = ResidualBlock(self.ln_2, self.mlp)(x)\n        return ResidualBlock(self.ln_1, self.attn)(x)",
    ),
    Planted(11, "parallel", BLOCK, "return x + self.attn(self.ln_1(x)) + self.mlp(self.ln_2(x))"),
    Planted(11, "no mlp", "return ResidualBlock(self.ln_2, self.mlp)(x)", "return x"),
    Planted(11, "no attention", "x = ResidualBlock(self.ln_1, self.attn)(x)", "pass"),
    Planted(11, "no residual mlp", "return ResidualBlock(self.ln_2, self.mlp)(x)", "return self.mlp(self.ln_2(x))"),
    Planted(11, "no residual attention", "x = ResidualBlock(self.ln_1, self.attn)(x)", "x = self.attn(self.ln_1(x))"),
    Planted(11, "post-norm", BLOCK, "x = self.ln_1(x + self.attn(x))\n        return self.ln_2(x + self.mlp(x))"),
    Planted(11, "no norms", BLOCK, "x = x + self.attn(x)\n        return x + self.mlp(x)"),
    Planted(12, "no positions", "self.wte(input_ids) + self.wpe(seq)", "self.wte(input_ids)"),
    Planted(12, "no blocks", LOOP, "pass"),
    Planted(12, "one block", LOOP, "x = block(x)\n            break"),
    Planted(12, "one less", "in self.h:", "in list(self.h)[:-1]:"),
    Planted(12, "same block", LOOP, "x = list(self.h)[0](x)"),
    Planted(12, "reversed", "in self.h:", "in list(self.h)[::-1]:"),
    Planted(12, "no ln_f", "return self.ln_f(x)", "return x"),
    Planted(
        12, "ln_f in the loop", f"{LOOP}\n        return self.ln_f(x)", "x = self.ln_f(block(x))\n        return x"
    ),
    Planted(
        12,
        "epsilon",
        "self.ln_f = LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)",
        "self.ln_f = LayerNorm(config.n_embd)",
    ),
    Planted(13, "no head", "self.lm_head(self.transformer(input_ids))", "self.transformer(input_ids)"),
    Planted(
        13,
        "softmax",
        "self.lm_head(self.transformer(input_ids))",
        "F.softmax(self.lm_head(self.transformer(input_ids)))",
    ),
    Planted(
        13,
        "wte",
        "self.lm_head(self.transformer(input_ids))",
        "self.transformer(input_ids) @ self.transformer.wte.weight.T",
    ),
    Planted(14, "first", "model(input_ids)[:, -1]", "model(input_ids)[:, 0]"),
    Planted(14, "argmin", "logits.argmax(axis=-1)[:, None]", "logits.argmin(axis=-1)[:, None]"),
    Planted(
        14,
        "first row",
        "return logits.argmax(axis=-1)[:, None]",
        "return logits.argmax(axis=-1)[:1, None].repeat(len(logits), 0)",
    ),
    Planted(14, "only new", "return rows\n", "return rows[:, -max_new_tokens:]\n"),
    Planted(14, "one more", "range(max_new_tokens)", "range(max_new_tokens + 1)"),
    Planted(14, "one less", "range(max_new_tokens)", "range(max_new_tokens - 1)"),
    Planted(14, "stale", TOKEN, TOKEN.replace("rows", "input_ids")),
    Planted(14, "greedy ignored", "if not do_sample:", "if False:"),
    Planted(14, "always greedy", "if not do_sample:", "if True:"),
    Planted(14, "multiplied", "/ temperature\n", "* temperature\n"),
    Planted(14, "ignored", "/ temperature\n", "\n"),
    Planted(14, "uniform", CDF, "cdf = np.ones_like(scaled).cumsum(axis=-1)"),
    Planted(14, "no seed", "np.random.default_rng(seed)", "np.random.default_rng()"),
    Planted(14, "seed again", TOKEN, TOKEN.replace(", random)", ", np.random.default_rng(seed))")),
    Planted(14, "one draw", "random.random((len(logits), 1))", "random.random()"),
    Planted(14, "at least one", "range(max_new_tokens)", "range(max(1, max_new_tokens))"),
    Planted(14, "overflow", "(logits - logits.max(axis=-1, keepdims=True)) /", "logits /"),
    Planted(14, "seed 0", "np.random.default_rng(seed)", "np.random.default_rng(seed or None)"),
    Planted(14, "fixed seed", "np.random.default_rng(seed)", "np.random.default_rng(1)"),
    Planted(14, "context", "if length > context:", "if False:"),
    Planted(14, "one short", "if length > context:", "if length >= context:"),
    Planted(14, "zero", "if do_sample and temperature <= 0:", "if False:"),
    Planted(14, "negative", "temperature <= 0:", "temperature == 0:"),
    Planted(14, "greedy rejected", "if do_sample and temperature <= 0:", "if temperature <= 0:"),
    Planted(14, "late", "# [batch, seq]\n    length,", "# [batch, seq]\n    model(rows)\n    length,"),
]

PREVIOUS = "np.arange(1, seq), np.arange(seq - 1)].mean(axis=-1)"
STRONGEST = "return layer, head"
TWICE = "return np.concatenate([once, once])"
DRAWN = "np.random.default_rng(seed).permutation(vocab_size)[:length]"
COPIED = "queries, queries - length + 1].mean(axis=-1)"
ZEROED = "changed[:, head * head_dim : (head + 1) * head_dim] = 0"
CHOSEN = "logits[length:-1].astype(np.float64), ids[length + 1 :]"
SHIFTED = "shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))"
LOSS = "return float(-logprobs[np.arange(length - 1), targets].mean())"

#: Mistakes in the exercises of the chapter "Look inside".
INSIDE = [
    Planted(15, "same token", "np.arange(1, seq), np.arange(seq - 1)", "np.arange(seq), np.arange(seq)"),
    Planted(15, "next token", "np.arange(1, seq), np.arange(seq - 1)", "np.arange(seq - 1), np.arange(1, seq)"),
    Planted(15, "two before", "np.arange(1, seq), np.arange(seq - 1)", "np.arange(2, seq), np.arange(seq - 2)"),
    Planted(15, "divided by seq", PREVIOUS, PREVIOUS.replace("mean(axis=-1)", "sum(axis=-1) / seq")),
    Planted(15, "sum", PREVIOUS, PREVIOUS.replace("mean", "sum")),
    Planted(15, "over heads", PREVIOUS, PREVIOUS.replace("axis=-1", "axis=1")),
    Planted(15, "per position", PREVIOUS, PREVIOUS.removesuffix(".mean(axis=-1)")),
    Planted(15, "maximum", PREVIOUS, PREVIOUS.replace("mean", "max")),
    Planted(15, "head first", STRONGEST, "return head, layer"),
    Planted(15, "flat", STRONGEST, "return int(scores.argmax())"),
    Planted(15, "from 1", STRONGEST, "return layer + 1, head + 1"),
    Planted(15, "weakest", "argmax", "argmin"),
    Planted(16, "once", TWICE, "return once"),
    Planted(16, "interleaved", TWICE, "return once.repeat(2)"),
    Planted(16, "duplicates", DRAWN, "np.random.default_rng(seed).integers(0, vocab_size, length)"),
    Planted(16, "no seed", "default_rng(seed)", "default_rng()"),
    Planted(16, "fixed seed", "default_rng(seed)", "default_rng(0)"),
    Planted(16, "same token", COPIED, COPIED.replace(" + 1", "")),
    Planted(16, "one further", COPIED, COPIED.replace("+ 1", "+ 2")),
    Planted(16, "one before", COPIED, COPIED.replace("+ 1", "- 1")),
    Planted(16, "transposed", COPIED, "queries - length + 1, queries].mean(axis=-1)"),
    Planted(16, "whole stripe", "np.arange(length, 2 * length)", "np.arange(length - 1, 2 * length)"),
    Planted(16, "divided by seq", COPIED, COPIED.replace("mean(axis=-1)", "sum(axis=-1) / (2 * length)")),
    Planted(
        16,
        "previous token",
        "np.arange(length, 2 * length)\n    return patterns[..., queries, queries - length + 1]",
        "np.arange(1, 2 * length)\n    return patterns[..., queries, queries - 1]",
    ),
    Planted(16, "sum", COPIED, COPIED.replace("mean", "sum")),
    Planted(16, "over heads", COPIED, COPIED.replace("axis=-1", "axis=1")),
    Planted(
        17,
        "rows",
        ZEROED,
        ZEROED.replace("[:, head * head_dim : (head + 1) * head_dim]", "[head * head_dim : (head + 1) * head_dim]"),
    ),
    Planted(17, "one column", ZEROED, "changed[:, head] = 0"),
    Planted(17, "every head_dim-th", ZEROED, "changed[:, head :: len(weight) // head_dim] = 0"),
    Planted(17, "head before", ZEROED, "changed[:, (head - 1) * head_dim : head * head_dim] = 0"),
    Planted(
        17,
        "all others",
        "changed = weight.copy()\n    " + ZEROED,
        "changed = weight.copy()\n    changed[:, : head * head_dim] = changed[:, (head + 1) * head_dim :] = 0",
    ),
    Planted(17, "in place", "weight.copy()", "weight"),
    Planted(17, "shift", "logits[length:-1]", "logits[length + 1 :]"),
    Planted(17, "first copy", CHOSEN, "logits[: length - 1].astype(np.float64), ids[1:length]"),
    Planted(
        17,
        "whole",
        CHOSEN + "  # [length - 1, vocab] and [length - 1]\n",
        "logits[:-1].astype(np.float64), ids[1:]\n    length *= 2\n",
    ),
    Planted(
        17,
        "with its first",
        CHOSEN + "  # [length - 1, vocab] and [length - 1]\n",
        "logits[length - 1 : -1].astype(np.float64), ids[length:]\n    length += 1\n",
    ),
    Planted(17, "logits", "logprobs = " + SHIFTED, "logprobs = shifted + rows.max(axis=-1, keepdims=True)"),
    Planted(17, "probability", LOSS, "return float(np.exp(logprobs[np.arange(length - 1), targets]).mean())"),
    Planted(17, "log of mean", LOSS, "return float(-np.log(np.exp(logprobs[np.arange(length - 1), targets]).mean()))"),
    Planted(17, "sign", LOSS, LOSS.replace("-logprobs", "logprobs")),
    Planted(17, "bits", LOSS, LOSS.replace(".mean()", ".mean() / np.log(2)")),
    Planted(17, "sum", LOSS, LOSS.replace("mean", "sum")),
]

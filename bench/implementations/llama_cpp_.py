"""llama.cpp, through the C API bound by llama-cpp-python, with its default KV cache in float16."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

CONVERTED = "gpt2.gguf"
#: The limit of one context in versions that were released until 2025; later ones allow more.
MAX_SEQUENCES = 64


def convert(folder: str, target: Path) -> None:
    """Write a GGUF file; runs in the environment of max-gpt2."""
    from max_gpt2.checkpoint.gguf_convert import convert_to_gguf

    convert_to_gguf(folder, target / CONVERTED, "f32", force=True)


def load(folder: str) -> Callable[[list[list[int]], int], list[list[int]]]:
    """Load a GGUF file, or that of a folder, which is in float32."""
    import llama_cpp
    import numpy as np

    model = _load_model(folder)
    vocab = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
    contexts: dict[int, Any] = {}

    def context(batch: int) -> Any:
        if batch not in contexts:
            options = llama_cpp.llama_context_default_params()
            options.n_ctx = batch * (1024 if batch == 1 else 256)
            options.n_seq_max, options.n_batch = batch, 2048
            options.n_threads = options.n_threads_batch = 2
            contexts[batch] = llama_cpp.llama_init_from_model(model, options)
        return contexts[batch]

    def generate(prompts: list[list[int]], new: int) -> list[list[int]]:
        ctx, outputs = context(len(prompts)), [list[int]() for _ in prompts]
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(ctx), False)
        batch = llama_cpp.llama_batch_init(len(prompts) * len(prompts[0]), 0, 1)
        inputs, length = prompts, 0
        for _ in range(new):
            last = []
            batch.n_tokens = 0
            for sequence, ids in enumerate(inputs):
                for offset, id_ in enumerate(ids):
                    at = batch.n_tokens
                    batch.token[at], batch.pos[at] = id_, length + offset
                    batch.n_seq_id[at], batch.seq_id[at][0] = 1, sequence
                    batch.logits[at] = offset == len(ids) - 1
                    batch.n_tokens += 1
                last.append(batch.n_tokens - 1)
            if llama_cpp.llama_decode(ctx, batch):
                raise RuntimeError("llama_decode failed")
            length += len(inputs[0])
            for row, at in zip(outputs, last, strict=True):
                logits = np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(ctx, at), (vocab,))
                row.append(int(logits.argmax()))
            inputs = [row[-1:] for row in outputs]
        llama_cpp.llama_batch_free(batch)
        return outputs

    return generate


def load_scorer(folder: str) -> Callable[[list[list[int]]], list[list[float]]]:
    """Load the GGUF file; a score takes the logits of all positions, and the log-softmax is numpy's."""
    import llama_cpp
    import numpy as np

    model = _load_model(folder)
    vocab = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
    contexts: dict[tuple[int, int], Any] = {}

    def context(sequences: int, length: int) -> Any:
        if (sequences, length) not in contexts:
            options = llama_cpp.llama_context_default_params()
            # Each sequence has an equal share of the context, a multiple of 256.
            options.n_ctx, options.n_seq_max = sequences * 256 * -(-length // 256), sequences
            options.n_batch = options.n_ctx
            options.n_threads = options.n_threads_batch = 2
            contexts[sequences, length] = llama_cpp.llama_init_from_model(model, options)
        return contexts[sequences, length]

    def score_some(texts: list[list[int]]) -> list[list[float]]:
        length = len(texts[0]) - 1
        ctx, batch = context(len(texts), length), llama_cpp.llama_batch_init(len(texts) * length, 0, 1)
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(ctx), False)
        batch.n_tokens = len(texts) * length
        for at in range(batch.n_tokens):
            sequence, position = divmod(at, length)
            batch.token[at], batch.pos[at] = texts[sequence][position], position
            batch.n_seq_id[at], batch.seq_id[at][0] = 1, sequence
            batch.logits[at] = True
        failed = llama_cpp.llama_decode(ctx, batch)
        llama_cpp.llama_batch_free(batch)
        if failed:
            raise RuntimeError("llama_decode failed")
        logits = np.ctypeslib.as_array(llama_cpp.llama_get_logits(ctx), (len(texts), length, vocab))
        largest = logits.max(-1, keepdims=True)
        sums = np.log(np.exp(logits - largest).sum(-1)) + largest[..., 0]
        targets = np.array(texts)[:, 1:, None]
        scores: list[list[float]] = (np.take_along_axis(logits, targets, -1)[..., 0] - sums).tolist()
        return scores

    def score(texts: list[list[int]]) -> list[list[float]]:
        parts = (texts[start : start + MAX_SEQUENCES] for start in range(0, len(texts), MAX_SEQUENCES))
        return [row for part in parts for row in score_some(part)]

    return score


def _load_model(folder: str) -> Any:
    import llama_cpp

    path = folder if folder.endswith(".gguf") else f"{folder}/{CONVERTED}"
    return llama_cpp.llama_model_load_from_file(path.encode(), llama_cpp.llama_model_default_params())

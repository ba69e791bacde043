"""What `max-gpt2 generate` and `max-gpt2 score` show."""

import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from max_gpt2.cli.console import numeric, stderr, stdout, table
from max_gpt2.generation import BeamText, Generation, Loaded, Request, Score
from max_gpt2.tokenizer import GPT2Tokenizer


def generation_facts(model: str, loaded: Loaded, texts: Sequence[Generation]) -> dict[str, Any]:
    """Return what `max-gpt2 generate` says, as JSON values: one text, or a list `texts` of several."""
    opened = {"load_s": loaded.load_s, "compile_s": loaded.compile_s}
    facts = [_text_facts(one) for one in texts]
    if len(facts) > 1:
        return {"model": model, "texts": facts, "timing": opened}
    return {"model": model, **facts[0], "timing": opened | facts[0]["timing"]}


def _text_facts(written: Generation) -> dict[str, Any]:
    return {
        "prompt_tokens": written.prompt_tokens,
        "tokens": written.tokens,
        "text": written.text,
        "finish_reason": written.finish_reason,
        "seed": written.seed,
        "logprobs": [asdict(one) for one in written.logprobs],
        "timing": asdict(written.timing),
    }


def show_samples(loaded: Loaded, requests: Sequence[Request], batch_size: int) -> None:
    """Print the prompt with each continuation as soon as it and those before it are there."""
    started, count = time.perf_counter(), 0
    prompt = loaded.engine.tokenizer.decode(requests[0].prompt_tokens)
    for number, one in enumerate(loaded.engine.generate_all(requests, batch_size), 1):
        print(f"--- {number} of {len(requests)}, seed {one.seed}\n{prompt}{one.text}", flush=True)
        count += len(one.tokens)
    speed = count / (time.perf_counter() - started)
    stderr.print(f"[dim]{count} tokens, {speed:.1f} tokens/s[/dim]")


def beam_facts(model: str, request: Request, texts: Sequence[BeamText]) -> dict[str, Any]:
    """Return what `max-gpt2 beams` says, as JSON values."""
    return {"model": model, "prompt_tokens": list(request.prompt_tokens), "texts": [asdict(one) for one in texts]}


def show_beams(texts: Sequence[BeamText]) -> None:
    """Print the texts, the best first, with what they are ranked by."""
    rows = [[f"{one.score:.4f}", f"{one.logprob:.4f}", one.finish_reason, one.text] for one in texts]
    stdout.print(table(*numeric("score", "log probability"), ("end", "left"), ("text", "left"), rows=rows))


def show_as_it_is_written(loaded: Loaded, request: Request) -> None:
    """Print the prompt and its continuation, each piece as soon as it is there, and on standard error how it went."""
    print(loaded.engine.tokenizer.decode(request.prompt_tokens), end="", flush=True)
    stamps, count, reason = [], 0, "length"
    for step in loaded.engine.steps(request):
        print(step.piece, end="", flush=True)
        stamps.append(time.perf_counter())
        count += step.token is not None
        reason = step.finish_reason or reason
    print()
    speed = f", {(len(stamps) - 1) / (stamps[-1] - stamps[0]):.1f} tokens/s" if len(stamps) > 1 else ""
    end = "the text ended" if reason == "stop" else "as many as asked for"
    stderr.print(f"[dim]{count} tokens ({end}), seed {request.sampling.seed}{speed}[/dim]")


def score_facts(model: str, scored: Score) -> dict[str, Any]:
    """Return what `max-gpt2 score` says, as JSON values."""
    return {
        "model": model,
        "tokens": scored.tokens,
        "logprobs": scored.logprobs,
        "logprob": scored.logprob,
        "perplexity": scored.perplexity,
    }


def show_score(scored: Score, tokenizer: GPT2Tokenizer) -> None:
    """Print each token with its logarithm, and the whole."""
    rows = [
        [str(id_), repr(tokenizer.decode([id_])), "" if logprob is None else f"{logprob:.4f}"]
        for id_, logprob in zip(scored.tokens, scored.logprobs, strict=True)
    ]
    stdout.print(table(("id", "right"), ("token", "left"), ("log probability", "right"), rows=rows))
    print(f"log probability {scored.logprob:.4f}, perplexity {scored.perplexity:.4f}")

"""What `max-gpt2 generate` shows."""

from typing import Any

from max_gpt2.console import stderr
from max_gpt2.generation import OneShot


def generation_facts(model: str, shot: OneShot) -> dict[str, Any]:
    """Return what `max-gpt2 generate` says, as JSON values."""
    written = shot.generation
    return {
        "model": model,
        "prompt_tokens": written.prompt_tokens,
        "tokens": written.tokens,
        "text": written.text,
        "finish_reason": written.finish_reason,
        "seed": written.seed,
        "timing": {
            "load_s": shot.load_s,
            "compile_s": shot.compile_s,
            "prefill_s": written.prefill_s,
            "decode_tokens_per_s": written.decode_tokens_per_s,
        },
    }


def show_generation(shot: OneShot) -> None:
    """Print the prompt and its continuation, and on standard error how it went."""
    written = shot.generation
    print(shot.prompt + written.text)
    speed = f", {written.decode_tokens_per_s:.1f} tokens/s" if written.decode_tokens_per_s else ""
    end = "the text ended" if written.finish_reason == "stop" else "as many as asked for"
    stderr.print(f"[dim]{len(written.tokens)} tokens ({end}), seed {written.seed}{speed}[/dim]")

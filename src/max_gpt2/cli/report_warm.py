"""What `max-gpt2 warm` shows."""

from typing import Any

from max_gpt2.cli.warm import Warmed


def warm_facts(model: str, warmed: Warmed) -> dict[str, Any]:
    """Return what `max-gpt2 warm` says, as JSON values."""
    return {
        "model": model,
        "load_s": warmed.load_s,
        "compile_s": warmed.compile_s,
        "verify_compile_s": warmed.verify_s,
        "folder": None if warmed.folder is None else str(warmed.folder),
        "grown_bytes": warmed.grown,
    }


def show_warmed(facts: dict[str, Any]) -> None:
    """Print how long it took and what the next start has from it."""
    seconds = facts["compile_s"] + (facts["verify_compile_s"] or 0)
    commands = "generate, score and verify" if facts["verify_compile_s"] is not None else "generate and score"
    if facts["grown_bytes"] > 0:
        print(f"Compiled {facts['model']} in {seconds:.1f} s and kept it in {facts['folder']}.")
    else:
        print(f"{facts['model']} was compiled already: {seconds:.1f} s to find it.")
    print(f"From now on {commands} start with it in seconds, until MAX or max-gpt2 is updated.")

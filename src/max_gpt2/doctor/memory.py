"""The memory, and which of the four sizes it has room for."""

from math import prod

from max_gpt2.checkpoint.layout import LM_HEAD, canonical_shapes
from max_gpt2.config import SIZES, GPT2Config
from max_gpt2.doctor.finding import Finding, gigabytes
from max_gpt2.machine import memory as machine

_BESIDES = 1 << 30


def memory() -> Finding:
    """Say how much memory there is, and which sizes fit into what is available."""
    total, available = machine.memory()
    fits = {name: needed(config) <= available for name, config in SIZES.items()}
    room = ", ".join(name for name, enough in fits.items() if enough) or "none of the four sizes, only the demo"
    says = f"{gigabytes(total)}, {gigabytes(available)} available: room for {room}"
    facts = {
        "total": total,
        "available": available,
        "needed": {name: needed(one) for name, one in SIZES.items()},
        "fits": fits,
    }
    if all(fits.values()):
        return Finding("memory", says, facts=facts)
    least = next(name for name, fit in fits.items() if not fit)
    enough = gigabytes(needed(SIZES[least]))
    remedy = f"For {least}, end other programs until {enough} are available, or take a larger machine."
    return Finding("memory", says, "note", remedy, facts)


def needed(config: GPT2Config) -> int:
    """Return about how much memory it takes to load, compile and run a size: docs/sizes.md has what was measured."""
    shapes = canonical_shapes(config)
    weights = 4 * sum(prod(shape) for name, shape in shapes.items() if name != LM_HEAD)
    return weights * 3 // 2 + _BESIDES

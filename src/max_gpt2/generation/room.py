"""Whether the memory holds the keys and values of so many texts."""

from max_gpt2.config import GPT2Config
from max_gpt2.errors import RequestError
from max_gpt2.machine.memory import memory
from max_gpt2.model import cache_bytes


def check_room(config: GPT2Config, slots: int, room: int) -> None:
    """Raise RequestError when `slots` texts of `room` tokens need more memory than is available."""
    needed, (_, available) = cache_bytes(config, slots, room), memory()
    if needed > available:
        fewer = "a smaller batch size, fewer samples" if slots > 1 else "a shorter prompt"
        raise RequestError(
            f"The keys and values of {slots} x {room} tokens need {needed / 1e9:.1f} GB of memory, and "
            f"{available / 1e9:.1f} GB are available. Use {fewer} or fewer new tokens."
        )

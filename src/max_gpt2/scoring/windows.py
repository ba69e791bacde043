"""Cut a sequence of token ids into windows, so that each id but the first is scored once."""

from collections.abc import Iterator, Sequence

from max_gpt2.errors import RequestError
from max_gpt2.model.scoring import NO_TARGET, Window


def check_window(n_positions: int, window: int, stride: int) -> None:
    """Raise RequestError unless 1 <= stride <= window <= n_positions."""
    if not 1 <= window <= n_positions:
        raise RequestError(
            f"The window {window} is not in 1 .. {n_positions}, the context of the model. Choose another."
        )
    if not 1 <= stride <= window:
        raise RequestError(f"The stride {stride} is not in 1 .. {window}, the window. Choose another.")


def sliding_windows(tokens: Sequence[int], window: int, stride: int, *, open_end: bool = False) -> Iterator[Window]:
    """Yield windows of at most `window` inputs that together score every id of `tokens` but the first, in order.

    The first window scores `window` ids, each later one the next `stride`. An id has all earlier ids of its window as
    context: between `window - stride + 1` and `window` of them once the text is longer than the window. No window
    depends on the ids after it. With `open_end`, the last window also returns the distribution after the last id.
    """
    ids = [*tokens, NO_TARGET] if open_end else list(tokens)
    scored, end = 0, window  # the last id with a score; the end of the window's inputs
    while scored < len(ids) - 1:
        last = min(end, len(ids) - 1)
        yield Window(ids[max(0, end - window) : last], ids[scored + 1 : last + 1])
        scored, end = last, end + stride


def context_lengths(windows: Sequence[Window]) -> list[int]:
    """Return the number of ids that each target of the windows was conditioned on."""
    return [
        length
        for window in windows
        for length in range(len(window.inputs) - len(window.targets) + 1, len(window.inputs) + 1)
    ]

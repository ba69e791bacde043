"""Define the protocols that published perplexities follow, each as windows with the tokens that count.

`docs/perplexity.md` explains them, with their sources.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from max_gpt2.errors import RequestError
from max_gpt2.model.scoring import Window
from max_gpt2.scoring.windows import check_window

ProtocolName = Literal["disjoint", "strided", "rolling", "lm-eval", "llama.cpp"]
Denominator = Literal["token", "word", "byte"]

#: The context of llama.cpp's perplexity program unless --ctx-size is given.
_LLAMA_CPP_CONTEXT = 512
#: The least window in which a token counts, if it is not 1.
_LEAST_WINDOW: dict[ProtocolName, int] = {"strided": 2, "llama.cpp": 3}


@dataclass(frozen=True)
class Settings:
    """The settings of a protocol: the window and the stride in tokens, and whether a BOS token is added."""

    window: int
    stride: int
    bos: bool


@dataclass(frozen=True)
class Block:
    """A window whose targets are scored, and the number of tokens that their mean counts for.

    `counted` differs from the number of targets in one protocol only, `strided`.
    """

    window: Window
    counted: int


@dataclass(frozen=True)
class Protocol:
    """A definition of perplexity.

    Attributes:
        name: The name on the command line.
        source: The program that it is the definition of.
        counted: A description of the tokens that count.
        denominators: The units that the negative log-likelihood is divided by, one result for each.
        bos: Whether a BOS token is added; None if the source leaves it open, and then none is added by default.
        stride: Whether the stride can be chosen; otherwise it is the window.
        cut: The function that cuts token ids into blocks, given the settings and the BOS id (None without BOS).
        minimum: The function that returns the least number of ids, BOS included.

    """

    name: ProtocolName
    source: str
    counted: str
    denominators: tuple[Denominator, ...]
    bos: bool | None
    stride: bool
    cut: Callable[[Sequence[int], Settings, int | None], Iterator[Block]]
    minimum: Callable[[Settings], int]

    def text(self, text: str) -> str:
        """Return the text that is scored: llama.cpp removes one newline at the end of a file."""
        return text.removesuffix("\n") if self.name == "llama.cpp" else text

    def settings(self, n_positions: int, window: int | None, stride: int | None, bos: bool | None) -> Settings:
        """Return the settings, with defaults for None.

        Raises RequestError for a window or stride out of range, and for a stride or BOS that the protocol fixes.
        """
        if bos is not None and self.bos is not None and bos != self.bos:
            raise RequestError(f"The protocol {self.name} always adds a BOS token. Remove --no-bos.")
        if stride is not None and not self.stride:
            raise RequestError(f"The stride of the protocol {self.name} is its window. Remove --stride.")
        default = min(_LLAMA_CPP_CONTEXT, n_positions) if self.name == "llama.cpp" else n_positions
        size = default if window is None else window
        step = (max(1, size // 2) if self.stride else size) if stride is None else stride
        check_window(n_positions, size, step)
        if size < (least := _LEAST_WINDOW.get(self.name, 1)):
            raise RequestError(f"The window {size} has no token to count with {self.name}. Use {least} or more.")
        return Settings(size, step, bool(self.bos) if bos is None else bos)


def check_names(names: Sequence[str]) -> None:
    """Raise RequestError for a name that is not a protocol."""
    known = get_args(ProtocolName)
    if unknown := [name for name in names if name not in known]:
        raise RequestError(f'The protocol "{unknown[0]}" does not exist. Use all or one of: {", ".join(known)}.')


def _disjoint(ids: Sequence[int], settings: Settings, bos: int | None) -> Iterator[Block]:
    """Yield blocks of `window` inputs that begin at multiples of `window`; each target is the next id.

    An incomplete block at the end is dropped.
    """
    sequence = [*_start(bos), *ids]
    size = settings.window
    for begin in range(0, len(sequence) - size, size):
        targets = sequence[begin + 1 : begin + size + 1]
        yield Block(Window(sequence[begin : begin + size], targets), len(targets))


def _strided(ids: Sequence[int], settings: Settings, bos: int | None) -> Iterator[Block]:
    """Yield windows that begin at multiples of `stride`; the ids that no earlier window had are its labels.

    The loss of a window is the mean over its labels that have a context, which are all but in windows without overlap;
    the recipe weights it with one less than the number of labels in every window.
    """
    sequence = [*_start(bos), *ids]
    scored = 0  # the end of the previous window
    for begin in range(0, len(sequence), settings.stride):
        end = min(begin + settings.window, len(sequence))
        labels = end - scored
        targets = sequence[max(scored, begin + 1) : end]
        if targets:  # none: a last window of one id, for which the recipe's loss is NaN
            yield Block(Window(sequence[begin : end - 1], targets), labels - 1)
        if end == len(sequence):
            return
        scored = end


def _rolling(ids: Sequence[int], settings: Settings, bos: int | None) -> Iterator[Block]:
    """Yield windows that score `window` ids each, the first after the BOS and the others after the id before them.

    The last window scores the ids that are left, with the context of a full window.
    """
    sequence = [*_start(bos), *ids]
    scored = 1  # the BOS
    while scored < len(sequence):
        end = min(scored + settings.window, len(sequence))
        begin = max(0, end - 1 - settings.window)
        yield Block(Window(sequence[begin : end - 1], sequence[scored:end]), end - scored)
        scored = end


def _llama_cpp(ids: Sequence[int], settings: Settings, bos: int | None) -> Iterator[Block]:
    """Yield complete chunks of `window` ids; the ids after position `window // 2` of each are its targets.

    With BOS, the ids begin with it, and it also replaces the first id of every chunk.
    """
    sequence = [*_start(bos), *ids]
    size, first = settings.window, settings.window // 2
    for begin in range(0, len(sequence) - size + 1, size):
        chunk = sequence[begin : begin + size]
        inputs = [chunk[0] if bos is None else bos, *chunk[1:-1]]
        yield Block(Window(inputs, chunk[first + 1 :]), size - first - 1)


def _start(bos: int | None) -> list[int]:
    return [] if bos is None else [bos]


PROTOCOLS: dict[ProtocolName, Protocol] = {
    one.name: one
    for one in (
        Protocol(
            name="disjoint",
            source="the validation loss of llm.c",
            counted="those of complete blocks, except the first",
            denominators=("token",),
            bos=None,
            stride=False,
            cut=_disjoint,
            minimum=lambda settings: settings.window + 1,
        ),
        Protocol(
            name="strided",
            source="the documentation of transformers",
            counted="all that are not first in a text or in a window without overlap",
            denominators=("token",),
            bos=None,
            stride=True,
            cut=_strided,
            minimum=lambda _: 2,
        ),
        Protocol(
            name="rolling",
            source="loglikelihood_rolling of lm-evaluation-harness",
            counted="all",
            denominators=("token",),
            bos=True,
            stride=False,
            cut=_rolling,
            minimum=lambda _: 2,
        ),
        Protocol(
            name="lm-eval",
            source="the task wikitext of lm-evaluation-harness",
            counted="all",
            denominators=("word", "byte"),
            bos=True,
            stride=False,
            cut=_rolling,
            minimum=lambda _: 2,
        ),
        Protocol(
            name="llama.cpp",
            source="llama-perplexity of llama.cpp",
            counted="the second halves of complete chunks, each without its first",
            denominators=("token",),
            bos=None,
            stride=False,
            cut=_llama_cpp,
            minimum=lambda settings: 2 * settings.window,
        ),
    )
}

"""Several texts at once: the weights are read once for a token of each."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice

import numpy as np

from max_gpt2.config import GPT2Config
from max_gpt2.generation.logits import History, make_sampler, token_logprob
from max_gpt2.generation.outputs import FinishReason, Step
from max_gpt2.generation.params import Request
from max_gpt2.model import CompiledModel, Session
from max_gpt2.tokenizer import GPT2Tokenizer
from max_gpt2.tokenizer.detokenizer import Detokenizer, TokenTable


class Writer:
    """Chooses one id after another, and says what the model has to read for the next: `new`.

    `anew` says that `new` takes the place of all that the model has read, since the text has outgrown the context.
    """

    def __init__(self, config: GPT2Config, tokenizer: GPT2Tokenizer, request: Request, seed: int) -> None:
        """Start after the prompt of a request that was checked."""
        self.seed = seed
        self._most, self._logprobs = request.max_new_tokens, request.logprobs
        self._endings = {*config.eos_token_ids, *request.stop_ids}
        self._sample = make_sampler(request.sampling, seed, tokenizer.size, sorted(self._endings))
        self._history, self._stream = (
            History(list(request.prompt_tokens)),
            Detokenizer(TokenTable(tokenizer), request.stop),
        )
        self._context, self._slides = config.n_positions, request.context_overflow == "slide"
        self.new = self._history.prompt
        if len(self.new) > self._context:
            self.new = self._last_half()
        self.anew = False
        self._read = 0

    def step(self, logits: np.ndarray) -> Step:
        """Choose from the logits [vocab] after `new`."""
        if self._most == 0:
            return Step(None, "", finish_reason="length")
        self._read = len(self.new) if self.anew else self._read + len(self.new)
        token = self._sample(logits, self._history)
        if token in self._endings:
            return Step(None, self._stream.end().text, finish_reason="stop")
        self._history.written.append(token)
        piece = self._stream.add([token]).text
        logprob = None if self._logprobs is None else token_logprob(logits, token, self._logprobs)
        reason = self._reason_to_end()
        if reason == "length":
            piece += self._stream.end().text
        self.anew = self._read == self._context
        self.new = self._last_half() if self.anew else [token]
        return Step(token, piece, logprob, reason)

    def _reason_to_end(self) -> FinishReason | None:
        if self._stream.stopped:
            return "stop"
        full = self._read == self._context and not self._slides
        return "length" if full or len(self._history.written) == self._most else None

    def _last_half(self) -> list[int]:
        """Return the part of the text that is kept when the context slides, half of what it holds."""
        return [*self._history.prompt, *self._history.written][-max(1, self._context // 2) :]


def write_together(
    model: CompiledModel, writers: Iterable[Writer], slots: int, room: int
) -> Iterator[tuple[Writer, Step]]:
    """Yield the steps of all texts as they are ready; each text gets the tokens that it would get alone.

    At most `slots` are written at a time; one that ends makes place for the next of `writers`. `room` is the largest
    `Writer.room`. A prompt that several have is computed once, as long as one of them is there.
    """
    waiting, running = iter(writers), dict[int, Writer]()
    session = model.session(slots, room)
    prompts = _Prompts(session)
    while True:
        free = [slot for slot in range(slots) if slot not in running]
        started = dict(zip(free, islice(waiting, len(free)), strict=False))
        if not running and not started:
            return
        for slot, writer in running.items():
            if writer.anew:
                session.clear(slot)
                prompts.forget(slot)
        new = {slot: writer.new for slot, writer in running.items()}
        running |= started
        for slot, logits in prompts.read({slot: writer.new for slot, writer in started.items()}, new).items():
            writer = running[slot]
            step = writer.step(logits)
            yield writer, step
            if step.finish_reason:
                del running[slot]


class _Prompts:
    """Knows the prompt that each slot begins with, and the logits after it."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._known = dict[int, tuple[Sequence[int], np.ndarray]]()

    def forget(self, slot: int) -> None:
        """Know that a slot begins with something else now."""
        self._known.pop(slot, None)

    def read(self, started: Mapping[int, Sequence[int]], running: Mapping[int, Sequence[int]]) -> dict[int, np.ndarray]:
        """Put prompts into their slots and add ids to other texts; return the logits [vocab] after each."""
        logits, fresh, twins = dict[int, np.ndarray](), dict[int, Sequence[int]](), dict[int, int]()
        for slot, prompt in started.items():
            if (source := self._slot_of(prompt, slot)) is not None:
                logits[slot] = self._copy(source, slot)
                continue
            twin = next((other for other in fresh if fresh[other] == prompt), None)
            if twin is None:
                self._session.clear(slot)
                fresh[slot] = prompt
            else:
                twins[slot] = twin
        if texts := {**running, **fresh}:
            logits |= {slot: rows[-1] for slot, rows in zip(texts, self._session.extend(texts), strict=True)}
        self._known |= {slot: (prompt, logits[slot].copy()) for slot, prompt in fresh.items()}
        return logits | {slot: self._copy(twin, slot) for slot, twin in twins.items()}

    def _slot_of(self, prompt: Sequence[int], preferred: int) -> int | None:
        """Return the slot that begins with a prompt, this one rather than another."""
        slots = [slot for slot, (known, _) in self._known.items() if known == prompt]
        return preferred if preferred in slots else next(iter(slots), None)

    def _copy(self, source: int, target: int) -> np.ndarray:
        prompt, logits = self._known[target] = self._known[source]
        self._session.copy(source, target, len(prompt))
        return logits

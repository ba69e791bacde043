"""Continuous batching: one pass over the weights computes a token for each running sequence."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice, zip_longest

import numpy as np

from max_gpt2.config import GPT2Config
from max_gpt2.errors import RequestError
from max_gpt2.generation.logits import History, make_sampler, token_logprob
from max_gpt2.generation.outputs import Drafts, FinishReason, TokenOutput
from max_gpt2.generation.params import Request
from max_gpt2.generation.speculation import Drafter, DraftLength
from max_gpt2.model import CompiledModel, Session
from max_gpt2.tokenizer import GPT2Tokenizer
from max_gpt2.tokenizer.detokenizer import Detokenizer, TokenTable


class SequenceState:
    """The state of one sequence. The model reads `new_tokens`; `advance` chooses the next token from its logits.

    If `needs_prefill` is true after `advance`, the context was shifted: `new_tokens` replaces the cached tokens.
    `cached` is the number of tokens in the cache that belong to the sequence.
    """

    def __init__(
        self,
        config: GPT2Config,
        tokenizer: GPT2Tokenizer,
        request: Request,
        seed: int,
        drafter: Drafter | None = None,
    ) -> None:
        """Start a request, which must have passed `check_request`."""
        self.seed = seed
        self.drafts = Drafts()
        self._drafter, self._draft_length = drafter, DraftLength()
        self._capacity = request.capacity(config)
        self._max_new_tokens, self._logprobs = request.max_new_tokens, request.logprobs
        self._stop_token_ids = {
            *config.eos_token_ids,
            *request.stop_ids,
            *tokenizer.special_token_ids(request.stop),
        }
        self._sample = make_sampler(request.sampling, seed, tokenizer.size, sorted(self._stop_token_ids))
        self._history = History(list(request.prompt_tokens))
        self._detokenizer = Detokenizer(TokenTable(tokenizer), request.stop)
        self._context, self._shifts_context = config.n_positions, request.context_overflow == "shift"
        self.new_tokens = self._history.prompt
        if len(self.new_tokens) > self._context:
            self.new_tokens = self._shifted_context()
        self.needs_prefill = False
        self.cached = 0

    def advance(self, logits: np.ndarray) -> TokenOutput:
        """Choose the next token from the logits [vocab] after `new_tokens`."""
        if self._max_new_tokens == 0:
            return TokenOutput(None, "", finish_reason="length")
        self.cached = len(self.new_tokens) if self.needs_prefill else self.cached + len(self.new_tokens)
        token = self._sample(logits, self._history)
        if token in self._stop_token_ids:
            return TokenOutput(None, self._detokenizer.end().text, finish_reason="stop")
        self._history.generated.append(token)
        text_delta = self._detokenizer.add([token]).text
        logprob = None if self._logprobs is None else token_logprob(logits, token, self._logprobs)
        finish_reason = self._finish_reason()
        if finish_reason == "length":
            text_delta += self._detokenizer.end().text
        self.needs_prefill = self.cached == self._context
        self.new_tokens = self._shifted_context() if self.needs_prefill else [token]
        return TokenOutput(token, text_delta, logprob, finish_reason)

    def draft(self) -> list[int]:
        """Return tokens that may follow `new_tokens`; none if nothing is drafted now."""
        most = min(
            self._max_new_tokens - len(self._history.generated) - 1, self._capacity - self.cached - len(self.new_tokens)
        )
        if self._drafter is None or self.needs_prefill or most < 1:
            return []
        if not (count := min(self._draft_length.next(), most)):
            return []
        try:
            return self._drafter.draft(self._history.tokens, count, self._choose)
        except RequestError:  # every token is banned after the draft, which may be wrong
            return []

    def learn(self, drafted: int, accepted: int) -> None:
        """Count a draft and adapt the length of the next one."""
        self.drafts = Drafts(self.drafts.drafted + drafted, self.drafts.accepted + accepted)
        self._draft_length.update(drafted, accepted)

    def _choose(self, logits: np.ndarray, drafted: list[int]) -> int:
        history = History(self._history.prompt, self._history.generated + drafted)
        return self._sample.ahead(logits, history, len(drafted))

    def _finish_reason(self) -> FinishReason | None:
        if self._detokenizer.stopped:
            return "stop"
        full = self.cached == self._context and not self._shifts_context
        return "length" if full or len(self._history.generated) == self._max_new_tokens else None

    def _shifted_context(self) -> list[int]:
        """Return the tokens that a context shift keeps: as many of the last ones as fill half the context."""
        return self._history.tokens[-max(1, self._context // 2) :]


def generate_batched(
    model: CompiledModel, sequences: Iterable[SequenceState], slots: int, capacity: int
) -> Iterator[tuple[SequenceState, TokenOutput]]:
    """Yield the outputs of all sequences as they are computed; batching does not change their tokens.

    At most `slots` sequences run at a time; when one finishes, the next one takes its slot. `capacity` is the number of
    tokens per slot, the largest `Request.capacity`. Duplicate prompts are computed once while one of their sequences
    is in a slot.
    """
    waiting, running = iter(sequences), dict[int, SequenceState]()
    session = model.session(slots, capacity)
    prompts = _SharedPrompts(session)
    while True:
        free = [slot for slot in range(slots) if slot not in running]
        started = dict(zip(free, islice(waiting, len(free)), strict=False))
        if not running and not started:
            return
        for slot, sequence in running.items():
            if sequence.needs_prefill:
                session.clear(slot)
                prompts.forget(slot)
        new_prompts = {slot: sequence.new_tokens for slot, sequence in started.items()}
        extensions = {slot: sequence.new_tokens for slot, sequence in running.items()}
        # All logits are computed if there are drafts, which would be a waste for the tokens of a prompt.
        prefills = bool(started) or any(sequence.needs_prefill for sequence in running.values())
        drafts = {} if prefills else {slot: sequence.draft() for slot, sequence in running.items()}
        running |= started
        for slot, rows in prompts.extend(new_prompts, extensions, drafts).items():
            sequence = running[slot]
            for output in _advance(sequence, rows, drafts.get(slot, [])):
                yield sequence, output
                if output.finish_reason:
                    del running[slot]
            session.copy(slot, slot, sequence.cached)  # without the rest of the draft


def _advance(sequence: SequenceState, rows: np.ndarray, draft: list[int]) -> list[TokenOutput]:
    """Return the outputs of a sequence from the logits [rows, vocab] after its new tokens and each drafted one.

    The logits after a drafted token count if it is the token that was chosen.
    """
    outputs, accepted = list[TokenOutput](), 0
    for logits, drafted in zip_longest(rows, draft):
        outputs.append(output := sequence.advance(logits))
        same = output.token is not None and output.token == drafted
        accepted += same
        if not same or output.finish_reason:
            break
    if draft:
        sequence.learn(len(draft), accepted)
    return outputs


class _SharedPrompts:
    """Extends a session, computing duplicate prompts once: keeps each slot's prompt and the logits after it."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._prompts = dict[int, tuple[Sequence[int], np.ndarray]]()

    def forget(self, slot: int) -> None:
        """Remove the prompt of a slot that was cleared."""
        self._prompts.pop(slot, None)

    def extend(
        self,
        prompts: Mapping[int, Sequence[int]],
        extensions: Mapping[int, Sequence[int]],
        drafts: Mapping[int, Sequence[int]],
    ) -> dict[int, np.ndarray]:
        """Prefill the prompts of new sequences and extend running ones; return the logits [rows, vocab] of each slot.

        There is a row for the last token and, if there is a draft, which follows the extension, for each drafted token.
        """
        logits, prefills, duplicates = dict[int, np.ndarray](), dict[int, Sequence[int]](), dict[int, int]()
        for slot, prompt in prompts.items():
            if (source := self._slot_of(prompt, slot)) is not None:
                logits[slot] = self._copy(source, slot)
                continue
            original = next((other for other in prefills if prefills[other] == prompt), None)
            if original is None:
                self._session.clear(slot)
                prefills[slot] = prompt
            else:
                duplicates[slot] = original
        batch = {slot: [*new, *drafts.get(slot, ())] for slot, new in extensions.items()} | prefills
        if batch:
            every = any(drafts.values())  # then an extension is one token
            found = self._session.extend(batch, None if every else 1)
            logits |= dict(zip(batch, found, strict=True))
        self._prompts |= {slot: (prompt, logits[slot].copy()) for slot, prompt in prefills.items()}
        return logits | {slot: self._copy(original, slot) for slot, original in duplicates.items()}

    def _slot_of(self, prompt: Sequence[int], preferred: int) -> int | None:
        """Return a slot that starts with a prompt, `preferred` if it does, or None."""
        slots = [slot for slot, (known, _) in self._prompts.items() if known == prompt]
        return preferred if preferred in slots else next(iter(slots), None)

    def _copy(self, source: int, target: int) -> np.ndarray:
        prompt, logits = self._prompts[target] = self._prompts[source]
        self._session.copy(source, target, len(prompt))
        return logits

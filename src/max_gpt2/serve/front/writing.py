"""A choice as it is written: tokens in, parts of its text and of its logprobs out."""

from dataclasses import dataclass, field

from max_gpt2.serve.front.job import Job
from max_gpt2.serve.front.served import Served
from max_gpt2.serve.front.text import GrowingText
from max_gpt2.serve.front.upstream import Finish, Piece, Token


@dataclass(frozen=True)
class Scored:
    """A token as `logprobs` shows it, and where it begins in the text."""

    name: str
    raw: bytes
    logprob: float | None
    top: dict[str, float] | None
    offset: int


@dataclass
class Part:
    """A piece of a choice, and why the choice ends if it does."""

    text: str = ""
    tokens: list[Scored] = field(default_factory=list)
    finish: Finish | None = None

    def join(self, other: "Part") -> None:
        """Take what follows."""
        self.text += other.text
        self.tokens += other.tokens
        self.finish = other.finish or self.finish


class Writer:
    """Makes the parts of one choice; `done` says that it ends, whatever the worker would still write."""

    def __init__(self, job: Job, served: Served) -> None:
        """Start with an empty text."""
        self.count = 0  # of tokens that were written
        self.total_logprob = 0.0
        self.done = False
        self._job = job
        self._served = served
        self._text = GrowingText(served.texts, job.sampling.stop)
        self._start = 0
        self._pending: list[Token] = []

    def begin(self, prompt: list[Token]) -> Part:
        """Return the prompt if it is echoed: the text as it was sent, or the text of its ids, special tokens, too."""
        job, texts = self._job, self._served.texts
        if not job.echo:
            return Part()
        text = texts.text(job.prompt.ids, special=True) if job.prompt.text is None else job.prompt.text
        self._start = len(text)
        if not job.scored:
            return Part(text)
        growing = GrowingText(texts)
        offsets = [*growing.add(job.prompt.ids, special=True).offsets, *growing.end().offsets]
        found = zip(prompt or [Token(id_) for id_ in job.prompt.ids], offsets, strict=True)
        return Part(text, [self._scored(token, offset) for token, offset in found])

    def add(self, piece: Piece) -> Part:
        """Take what the worker wrote and return what can be shown."""
        tokens = piece.tokens[: self._job.max_tokens - self.count]
        self.count += len(tokens)
        self.total_logprob += sum(token.logprob or 0.0 for token in tokens)
        self._pending += tokens
        written = self._text.add([token.id for token in tokens])
        part = Part(written.piece, self._shown(written.offsets))
        if self._text.stopped:
            part.finish, self.done = "stop", True
        elif piece.finish or self.count >= self._job.max_tokens:
            rest = self._text.end()
            part.join(Part(rest.piece, self._shown(rest.offsets)))
            stopped = self._text.stopped or piece.finish == "stop"
            part.finish, self.done = "stop" if stopped else "length", True
        return part

    def nothing(self) -> Part:
        """Return the end of a choice of no tokens."""
        self.done = True
        return Part(finish="length")

    def _shown(self, offsets: list[int]) -> list[Scored]:
        if self._job.logprobs is None:
            return []
        tokens, self._pending = self._pending[: len(offsets)], self._pending[len(offsets) :]
        return [self._scored(token, self._start + offset) for token, offset in zip(tokens, offsets, strict=True)]

    def _scored(self, token: Token, offset: int) -> Scored:
        """Name a token; it is among the likeliest of its place, or beside them, with exactly its own number."""
        name = self._served.texts.name(token.id)
        top = token.top
        if top is not None and token.logprob is not None:
            likeliest = sorted(top.items(), key=lambda one: -one[1])[: self._job.logprobs]
            top = dict(likeliest) | {name: token.logprob}
        return Scored(name, self._served.texts.raw(token.id, special=True), token.logprob, top, offset)

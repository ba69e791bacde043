"""The JSON of completions and chat completions, whole and in pieces, as OpenAI documents it."""

import secrets
import time
from dataclasses import dataclass, field
from typing import Any, Literal

from max_gpt2.serve.front.job import Job
from max_gpt2.serve.front.served import Served
from max_gpt2.serve.front.writing import Part, Scored

Kind = Literal["completion", "chat"]


@dataclass
class Usage:
    """The tokens of a request: each prompt once, all texts that were written, also those that `best_of` drops."""

    prompt_tokens: int
    completion_tokens: int = 0

    def written(self, count: int) -> None:
        """Count the tokens of one text."""
        self.completion_tokens += count

    def to_json(self) -> dict[str, int]:
        """Return the usage as it is sent."""
        total = self.prompt_tokens + self.completion_tokens
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": total,
        }


@dataclass
class Answer:
    """One answer: its head is the same in each of its pieces."""

    kind: Kind
    served: Served
    id: str = field(init=False)
    created: int = field(default_factory=lambda: int(time.time()))

    def __post_init__(self) -> None:
        """Draw an id."""
        self.id = ("cmpl-" if self.kind == "completion" else "chatcmpl-") + secrets.token_hex(12)

    def head(self, *, piece: bool = False) -> dict[str, Any]:
        """Return what each object begins with."""
        names = {"completion": "text_completion", "chat": "chat.completion" + ".chunk" * piece}
        return {"id": self.id, "object": names[self.kind], "created": self.created, "model": self.served.name}

    def whole(self, index: int, part: Part, job: Job) -> dict[str, Any]:
        """Return a whole choice."""
        logprobs = self._logprobs(part, job)
        if self.kind == "completion":
            return {"index": index, "text": part.text, "logprobs": logprobs, "finish_reason": part.finish}
        message = {"role": "assistant", "content": part.text, "refusal": None}
        return {"index": index, "message": message, "logprobs": logprobs, "finish_reason": part.finish}

    def piece(self, index: int, part: Part, job: Job) -> dict[str, Any]:
        """Return a piece of a choice."""
        logprobs = self._logprobs(part, job)
        if self.kind == "completion":
            return {"index": index, "text": part.text, "logprobs": logprobs, "finish_reason": part.finish}
        delta = {"content": part.text} if part.text or part.tokens else {}
        return {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": part.finish}

    def first(self, index: int) -> dict[str, Any]:
        """Return the piece that begins a chat's choice."""
        delta = {"role": "assistant", "content": ""}
        return {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}

    def _logprobs(self, part: Part, job: Job) -> dict[str, Any] | None:
        if job.logprobs is None:
            return None
        if self.kind == "chat":
            return {"content": [_chat_token(token, job.logprobs) for token in part.tokens], "refusal": None}
        return {
            "tokens": [token.name for token in part.tokens],
            "token_logprobs": [token.logprob for token in part.tokens],
            "top_logprobs": [token.top for token in part.tokens] if job.logprobs else None,
            "text_offset": [token.offset for token in part.tokens],
        }


def _chat_token(token: Scored, most: int) -> dict[str, Any]:
    top = list((token.top or {}).items())[:most]
    return {
        "token": token.name,
        "logprob": token.logprob,
        "bytes": list(token.raw),
        "top_logprobs": [{"token": name, "logprob": value, "bytes": _raw(name)} for name, value in top],
    }


def _raw(name: str) -> list[int]:
    r"""Return the bytes of a token by its name, which may be of the form `bytes:\xe2\x80`."""
    if name.startswith("bytes:\\x"):
        return list(bytes.fromhex(name.removeprefix("bytes:").replace("\\x", "")))
    return list(name.encode())

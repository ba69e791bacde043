"""GPT-2 in Python: `from max_gpt2 import GPT2`."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from max_gpt2.config import GPT2Config
from max_gpt2.generation import Engine, Generation, Request, Sampling, Score, encode_prompt, open_model, score
from max_gpt2.progress import Runner, silently
from max_gpt2.tokenizer import GPT2Tokenizer

Prompt = str | Sequence[int]


class GPT2:
    """A GPT-2 that is loaded and compiled; a prompt is a text or a list of ids.

    The keyword options of `generate` and `stream` are those of `Request` (`max_new_tokens`, `stop`, `stop_ids`,
    `logprobs`) and of `Sampling` (`temperature`, `top_k`, `top_p`, `min_p`, `seed`, ...). Each method raises
    RequestError when a request cannot be carried out.
    """

    def __init__(self, engine: Engine) -> None:
        """Wrap an engine; `from_pretrained` makes one from a checkpoint."""
        self.engine = engine

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path = "gpt2",
        run: Runner = silently,
        *,
        tokenizer: str | Path | None = None,
        allow_pickle: bool = False,
        allow_nonfinite: bool = False,
    ) -> "GPT2":
        """Load "demo", a hub id, a folder or a file, and compile; `run` may show what is going on.

        The options are those of `max_gpt2.checkpoint.load_checkpoint`. Raises MaxGPT2Error when it is refused.
        """
        opened = open_model(model, tokenizer=tokenizer, allow_pickle=allow_pickle)
        return cls(opened.load(run, allow_nonfinite=allow_nonfinite).engine)

    @property
    def config(self) -> GPT2Config:
        """The model's config."""
        return self.engine.model.config

    @property
    def tokenizer(self) -> GPT2Tokenizer:
        """The model's tokenizer."""
        return self.engine.tokenizer

    def generate(self, prompt: Prompt, **options: Any) -> Generation:
        """Continue a prompt."""
        return self.engine.generate(self._request(prompt, options))

    def stream(self, prompt: Prompt, **options: Any) -> Iterator[str]:
        """Continue a prompt and yield the text piece by piece, each of them valid Unicode and none of them empty."""
        steps = self.engine.steps(self._request(prompt, options))
        return (step.piece for step in steps if step.piece)

    def score(self, text: Prompt) -> Score:
        """Return how likely the model finds each token of a text, and the whole."""
        return score(self.engine, self._ids(text))

    def _ids(self, prompt: Prompt) -> list[int]:
        return encode_prompt(self.tokenizer, prompt) if isinstance(prompt, str) else list(prompt)

    def _request(self, prompt: Prompt, options: dict[str, Any]) -> Request:
        """Sort the options; Python's own TypeError names one that does not exist."""
        names = Sampling.__dataclass_fields__.keys()
        sampling = Sampling(**{name: value for name, value in options.items() if name in names})
        rest = {name: value for name, value in options.items() if name not in names}
        return Request(self._ids(prompt), sampling=sampling, **rest)

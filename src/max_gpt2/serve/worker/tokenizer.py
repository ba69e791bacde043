"""Turns requests into contexts for MAX's scheduler, with the tokenizer and the checks of this package."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from max.pipelines.context import TextContext
from max.pipelines.context.exceptions import InputError, PromptTooLongError
from max.pipelines.lib import PipelineConfig, TextTokenizer

from max_gpt2.checkpoint import inspect_checkpoint, read_tokenizer
from max_gpt2.errors import RequestError
from max_gpt2.generation.params import check_ids
from max_gpt2.serve.worker.sequence import SequenceState
from max_gpt2.tokenizer.detokenizer import TokenTable


class ServedTokenizer(TextTokenizer):
    """MAX's tokenizer with the encoding, the id checks and the end-of-text ids of this package.

    Without the checks, an id beyond the vocabulary would read past the end of the embedding table.
    """

    def __init__(self, model_path: str, pipeline_config: PipelineConfig, **options: Any) -> None:
        """Read the tokenizer of the model's folder; `options` are passed to MAX's tokenizer."""
        super().__init__(model_path, pipeline_config, **options)
        _, self._gpt2_config, plan = inspect_checkpoint(model_path)
        self._gpt2_tokenizer = read_tokenizer(plan)
        self._eos_token_ids = set(self._gpt2_config.eos_token_ids)
        self._token_table = TokenTable(self._gpt2_tokenizer)

    async def new_context(self, request: Any) -> TextContext:
        """Create the context of a request; raises InputError for invalid sampling parameters."""
        context = await super().new_context(request)
        try:
            SequenceState.of(context, self._gpt2_tokenizer.size)
        except (RequestError, ValueError, TypeError, AttributeError) as error:
            raise InputError(str(error)) from error
        return context

    async def encode(self, prompt: str | Sequence[int], add_special_tokens: bool = True) -> np.ndarray:
        """Return the ids of a text, or check the given ids; raises InputError, which MAX reports to the client."""
        del add_special_tokens  # GPT-2 has none
        try:
            ids = self._gpt2_tokenizer.encode(prompt) if isinstance(prompt, str) else list(prompt)
            check_ids(ids, self._gpt2_config.vocab_size, "prompt id")
        except RequestError as error:
            raise InputError(str(error)) from error
        if self.max_length and len(ids) > self.max_length:
            raise PromptTooLongError(len(ids), self.max_length)
        return np.array(ids, dtype=np.int64)

    async def decode(self, encoded: int | Sequence[int] | np.ndarray, **options: Any) -> str:
        """Return the text of ids, or the unique name of a single id, which is its key in logprobs."""
        if isinstance(encoded, int):
            return self._token_table.name(encoded)
        return await super().decode(np.asarray(encoded), **options)

"""The task of `max-gpt2 activations`: keep activations of each text."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from max_gpt2._progress import COMPILING, Runner
from max_gpt2.batch.corpus.readers import Row
from max_gpt2.batch.corpus.tasks import ProcessRows
from max_gpt2.batch.parquet import arrow_schema
from max_gpt2.errors import MaxGPT2Error, RequestError
from max_gpt2.generation import ModelSource, encode_prompt
from max_gpt2.inspect import Tracer
from max_gpt2.inspect.probes import check_memory, resolve
from max_gpt2.model.compile_cache import load_or_compile_stages
from max_gpt2.model.stages import Stages
from max_gpt2.system.machine import import_pyarrow

if TYPE_CHECKING:
    import pyarrow

#: Texts are traced together up to this many tokens.
_BATCH_TOKENS = 1024


@dataclass(frozen=True)
class ActivationsTask:
    """Keep the activations `at` names or patterns; with `bos`, each text starts with the BOS token."""

    at: tuple[str, ...]
    bos: bool = False
    command: Literal["activations"] = "activations"
    text_column: Literal["text"] = "text"

    def resolve(self, opened: ModelSource, recorded: Mapping[str, Any] | None) -> "ActivationsTask":
        """See `Task`."""
        del recorded
        if self.bos:
            _ = opened.tokenizer.start_id  # raises TokenizerError if there is none
        return replace(self, at=tuple(resolve(self.at, opened.config)))

    def options(self) -> dict[str, Any]:
        """See `Task`."""
        return {"at": list(self.at), "bos": self.bos}

    def results(self) -> "pyarrow.Schema":
        """See `Task`: the number of tokens; the arrays are not a column of a table."""
        import pyarrow

        return arrow_schema({"tokens": int}).append(pyarrow.field("arrays", pyarrow.null()))

    def load(self, opened: ModelSource, run: Runner) -> ProcessRows:
        """See `Task`."""
        import_pyarrow()
        config, weights = opened.config, opened.load_weights(run)
        graphs = run(COMPILING, lambda: load_or_compile_stages())
        tracer = Tracer(Stages(config, graphs, weights), opened.tokenizer)

        def process(rows: Iterable[Row]) -> Iterator[Mapping[str, Any]]:
            waiting: list[list[int] | MaxGPT2Error] = []
            for row in rows:
                waiting.append(self._ids(tracer, row))
                if sum(len(one) for one in waiting if isinstance(one, list)) >= _BATCH_TOKENS:
                    yield from self._trace(tracer, waiting)
                    waiting = []
            yield from self._trace(tracer, waiting)

        return process

    def _ids(self, tracer: Tracer, row: Row) -> list[int] | MaxGPT2Error:
        """Return the ids of a text, or why it has no trace."""
        try:
            if row.text is None:
                raise RequestError(row.problem or "The row has no text.")
            ids = encode_prompt(tracer.tokenizer, row.text) if row.text else []  # an empty prompt would become a BOS
            ids = [tracer.tokenizer.start_id, *ids] if self.bos else ids
            if ids:
                tracer.check(ids)
            check_memory(self.at, tracer.config, [len(ids)])
        except MaxGPT2Error as error:
            return error
        return ids

    def _trace(self, tracer: Tracer, texts: list[list[int] | MaxGPT2Error]) -> Iterator[Mapping[str, Any]]:
        """Yield the results of texts, which are traced together; an empty one has no activations."""
        valid = [one for one in texts if isinstance(one, list) and one]
        traces = iter(tracer.trace(valid, self.at) if valid else [])
        for one in texts:
            if isinstance(one, MaxGPT2Error):
                yield {"error": str(one)}
            else:
                arrays = {"tokens": np.array(one, dtype=np.int64), **(next(traces) if one else {})}
                yield {"tokens": len(one), "arrays": arrays}

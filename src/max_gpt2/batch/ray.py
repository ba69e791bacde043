"""Score texts in a Ray Data pipeline of your own: pass `Scorer` to `Dataset.map_batches`. Needs the extra `ray`."""

import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from max_gpt2._progress import silently
from max_gpt2.batch.corpus.rows import Row
from max_gpt2.batch.corpus.tasks import ScoreTask
from max_gpt2.batch.inputs import decode_text
from max_gpt2.batch.parquet import require_pyarrow
from max_gpt2.checkpoint import LoadOptions
from max_gpt2.checkpoint.options import LoadKeywords
from max_gpt2.errors import RequestError
from max_gpt2.generation import open_model
from max_gpt2.scoring import ScoreKeywords, ScoreOptions
from max_gpt2.system.cores import start_thread_pool

if TYPE_CHECKING:
    import pandas
    import pyarrow


class ScorerKeywords(ScoreKeywords, LoadKeywords, total=False):
    """The options of a score, and those of loading a model."""


class Scorer:
    """A callable that adds the columns of a score to batches of rows: loaded once, used for many batches.

    Pass the class to `map_batches` with its arguments as `fn_constructor_kwargs`, `compute=ActorPoolStrategy(size=N)`,
    the threads of each actor as `num_cpus`, and a large `batch_size`, since only texts of the same batch share a pass.

    The columns are those of `max-gpt2 score` on a corpus: `tokens` (their number), `counted`, `logprob`, `surprisal`,
    `perplexity`, `bits_per_byte`, `units` (unless `unit` is "text"), and `error`. A row without a valid text has a
    message in `error` and no other result.
    """

    def __init__(
        self,
        model: str | Path = "gpt2",
        text_column: str = "text",
        threads: int | None = None,
        **options: Unpack[ScorerKeywords],
    ) -> None:
        """Load a model, and compile it unless it is in the cache.

        `threads` is the number of threads; None uses the `num_cpus` of a Ray actor, rounded up, and all cores outside
        of Ray. The options are those of `ScoreOptions` and `LoadOptions`. Raises MaxGPT2Error for a model that cannot
        be loaded or invalid options.
        """
        require_pyarrow("max_gpt2.batch.ray.Scorer")  # imported before MAX, see `import_pyarrow`
        import pyarrow

        values: dict[str, Any] = {**options}
        load = {name: values.pop(name) for name in LoadKeywords.__annotations__ if name in values}
        threads = assigned_cores() if threads is None else threads
        if threads is not None:
            start_thread_pool(threads)
        opened = open_model(model, LoadOptions.from_keywords(**load))
        task = ScoreTask(ScoreOptions(**values)).resolve(opened, None)
        self._text_column = text_column
        self._schema = task.results().append(pyarrow.field("error", pyarrow.string()))
        self._process = task.load(opened, silently)

    def __call__(
        self, batch: "Mapping[str, np.ndarray] | pandas.DataFrame | pyarrow.Table"
    ) -> "pandas.DataFrame | pyarrow.Table":
        """Return a batch with the columns of the score: a DataFrame for a DataFrame, a table for anything else.

        Arrays in a dictionary become a table, since a column without values has no type as an array. Raises
        RequestError for a batch without the column of texts, or with a column that has the name of a result.
        """
        import pyarrow

        columns = list(batch.column_names if isinstance(batch, pyarrow.Table) else batch)
        if self._text_column not in columns:
            has = ", ".join(map(str, columns)) or "none"
            raise RequestError(
                f'The batch has no column "{self._text_column}". Its columns are {has}: name one with text_column.'
            )
        if taken := set(columns) & set(self._schema.names):
            raise RequestError(f'The batch has a column "{min(taken)}", like the results. Rename it: rename_columns.')
        rows = (_row(index, value, self._text_column) for index, value in enumerate(self._texts(batch)))
        results = [{name: one.get(name) for name in self._schema.names} for one in self._process(rows)]
        return _with_columns(batch, pyarrow.Table.from_pylist(results, self._schema))

    def _texts(self, batch: Any) -> list[object]:
        """Return the values of the column of texts."""
        import pyarrow

        column = batch[self._text_column]
        if not isinstance(column, pyarrow.ChunkedArray):
            return column.tolist()
        try:
            return column.to_pylist()
        except UnicodeDecodeError:
            return column.cast(pyarrow.large_binary()).to_pylist()


def _row(index: int, value: Any, column: str) -> Row:
    """Return a value of the column of texts as a row; one that is not a text has a problem."""
    text, problem = None, None
    try:
        if isinstance(value, str):
            value.encode()
            text = str(value)
        elif isinstance(value, bytes):
            text = decode_text(value, "The text")
        elif _is_null(value):
            problem = f'The column "{column}" is null. Give it a text.'
        else:
            problem = f'The column "{column}" has a value of type {type(value).__name__}, not a string.'
    except UnicodeEncodeError as error:
        problem = f'The column "{column}" has a lone surrogate as its character {error.start + 1}. Remove it.'
    except RequestError as error:
        problem = str(error)
    return Row(index, "", index + 1, text, None, {}, problem)


def _is_null(value: Any) -> bool:
    """Return whether a value is None, NaN, or NA of pandas."""
    return value is None or (isinstance(value, float) and math.isnan(value)) or type(value).__name__ == "NAType"


def _with_columns(batch: Any, results: "pyarrow.Table") -> Any:
    """Return a batch with the columns of a table appended."""
    import pyarrow

    if isinstance(batch, Mapping):
        from ray.data.block import BlockAccessor

        batch = BlockAccessor.batch_to_arrow_block(dict(batch))
    if isinstance(batch, pyarrow.Table):
        for field, column in zip(results.schema, results.columns, strict=True):
            batch = batch.append_column(field, column)
        return batch
    import pandas

    typed = results.to_pandas(types_mapper=pandas.ArrowDtype).set_index(batch.index)  # keeps integers with nulls
    return pandas.concat([batch, typed], axis=1)


def assigned_cores() -> int | None:
    """Return the `num_cpus` of this Ray actor or task, rounded up; None outside of Ray."""
    if "ray" not in sys.modules:
        return None
    import ray

    if not ray.is_initialized() or ray.get_runtime_context().get_task_id() is None:
        return None
    cores = ray.get_runtime_context().get_assigned_resources().get("CPU")
    return max(1, math.ceil(cores)) if cores else None

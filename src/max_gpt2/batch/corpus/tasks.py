"""The tasks of corpus runs: score each row, measure its perplexity, or continue it."""

import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from max_gpt2._progress import Runner
from max_gpt2.batch.corpus.readers import Row
from max_gpt2.batch.generate import check_defaults, generation_options, make_generator
from max_gpt2.batch.inputs import Line
from max_gpt2.batch.parquet import arrow_schema
from max_gpt2.batch.run import Record
from max_gpt2.batch.score import make_scorer, table_schema
from max_gpt2.errors import MaxGPT2Error, RequestError
from max_gpt2.generation import ModelSource, Request, fresh_seed
from max_gpt2.scoring import ScoreOptions, load_scorer
from max_gpt2.scoring.measurement import PerplexityOptions, measure_each
from max_gpt2.scoring.protocols import PROTOCOLS, Denominator, Protocol, check_names

if TYPE_CHECKING:
    import pyarrow

#: Takes rows, and yields in order the result of each: the values of the task's columns, or {"error": message}.
ProcessRows = Callable[[Iterable[Row]], Iterator[Mapping[str, Any]]]


class Task(typing.Protocol):
    """A task: it turns rows into results. It can be pickled."""

    @property
    def command(self) -> str:
        """The command that it belongs to."""
        ...

    @property
    def text_column(self) -> str:
        """The usual name of the column of texts."""
        ...

    def resolve(self, opened: ModelSource, recorded: Mapping[str, Any] | None) -> "Task":
        """Return the task with the defaults that apply to a model; raises RequestError for invalid options.

        `recorded` has the options of the run that the output belongs to, if it has one: a seed that is not given is
        that of the run.
        """
        ...

    def options(self) -> dict[str, Any]:
        """Return the options that determine the results, as JSON values."""
        ...

    def results(self) -> "pyarrow.Schema":
        """Return the columns of the results."""
        ...

    def load(self, opened: ModelSource, run: Runner) -> ProcessRows:
        """Load the model and return the function that processes rows."""
        ...


@dataclass(frozen=True)
class ScoreTask:
    """Compute the surprisal of each text and of its units."""

    score: ScoreOptions
    command: Literal["score"] = "score"
    text_column: Literal["text"] = "text"

    def resolve(self, opened: ModelSource, recorded: Mapping[str, Any] | None) -> "ScoreTask":
        """See `Task`."""
        del recorded
        return replace(self, score=self.score.resolve(opened.config))

    def options(self) -> dict[str, Any]:
        """See `Task`."""
        return asdict(self.score)

    def results(self) -> "pyarrow.Schema":
        """See `Task`."""
        import pyarrow

        totals = {"tokens": int, "counted": int, "logprob": float, "surprisal": float}
        schema = arrow_schema({**totals, "perplexity": float, "bits_per_byte": float})
        if self.score.unit == "text":
            return schema
        columns = {name: type_ for name, type_ in table_schema(self.score).items() if name not in ("line", "id")}
        if "token_id" in columns:
            columns = {"id": columns.pop("token_id"), **columns}
        return schema.append(pyarrow.field("units", pyarrow.list_(pyarrow.struct(list(arrow_schema(columns))))))

    def load(self, opened: ModelSource, run: Runner) -> ProcessRows:
        """See `Task`."""
        process = make_scorer(load_scorer(opened, run), self.score)

        def score(rows: Iterable[Row]) -> Iterator[Mapping[str, Any]]:
            for record in process(_line(row, "text") for row in rows):
                yield record if "error" in record else {**record, "tokens": len(record["tokens"])}

        return score


@dataclass(frozen=True)
class PerplexityTask:
    """Measure the perplexity of each text under one protocol."""

    measure: PerplexityOptions
    command: Literal["perplexity"] = "perplexity"
    text_column: Literal["text"] = "text"

    def resolve(self, opened: ModelSource, recorded: Mapping[str, Any] | None) -> "PerplexityTask":
        """See `Task`."""
        del recorded
        options = self.measure
        if len(options.protocols) != 1:
            raise RequestError("A corpus needs one protocol. Add --protocol, for example --protocol rolling.")
        check_names(options.protocols)
        settings = self._protocol.settings(opened.config.n_positions, options.window, options.stride, options.bos)
        if settings.bos:
            _ = opened.tokenizer.start_id  # raises TokenizerError if there is none
        bos = None if self._protocol.bos is not None else settings.bos
        stride = settings.stride if self._protocol.stride else None
        return replace(self, measure=PerplexityOptions(options.protocols, settings.window, stride, bos))

    @property
    def _protocol(self) -> Protocol:
        return next(one for name, one in PROTOCOLS.items() if name == self.measure.protocols[0])

    def options(self) -> dict[str, Any]:
        """See `Task`."""
        values = asdict(self.measure)
        return {"protocol": values.pop("protocols")[0], **values}

    def results(self) -> "pyarrow.Schema":
        """See `Task`."""
        numbers = {"tokens": int, "scored_tokens": int, "nll": float}
        units = self._protocol.denominators
        perplexities = {_perplexity_name(units, unit): float for unit in units}
        return arrow_schema({**numbers, **perplexities, "bits_per_byte": float})

    def load(self, opened: ModelSource, run: Runner) -> ProcessRows:
        """See `Task`."""
        scorer = load_scorer(opened, run)

        def measure(rows: Iterable[Row]) -> Iterator[Mapping[str, Any]]:
            texts = (RequestError(row.problem or "") if row.text is None else row.text for row in rows)
            for report in measure_each(scorer, texts, self.measure):
                if isinstance(report, MaxGPT2Error):
                    yield {"error": str(report)}
                    continue
                units = [one.denominator for one in report.results]
                first = report.results[0]
                values = {"tokens": report.tokens, "scored_tokens": first.scored_tokens, "nll": first.nll}
                values |= {_perplexity_name(units, one.denominator): one.perplexity for one in report.results}
                yield {**values, "bits_per_byte": first.bits_per_byte}

        return measure


def _perplexity_name(denominators: Iterable[Denominator], unit: Denominator) -> str:
    return "perplexity" if list(denominators) == ["token"] else f"{unit}_perplexity"


@dataclass(frozen=True)
class GenerateTask:
    """Continue each prompt, `batch_size` at a time; `defaults.sampling.seed` is the seed of the run."""

    defaults: Request
    batch_size: int
    command: Literal["generate"] = "generate"
    text_column: Literal["prompt"] = "prompt"

    def resolve(self, opened: ModelSource, recorded: Mapping[str, Any] | None) -> "GenerateTask":
        """See `Task`."""
        check_defaults(opened, self.defaults)
        sampling, seed = self.defaults.sampling, (recorded or {}).get("seed")
        if sampling.seed is None:
            sampling = replace(sampling, seed=seed if isinstance(seed, int) else fresh_seed())
        return replace(self, defaults=replace(self.defaults, sampling=sampling))

    def options(self) -> dict[str, Any]:
        """See `Task`."""
        return {**generation_options(self.defaults), "seed": self.defaults.sampling.seed}

    def results(self) -> "pyarrow.Schema":
        """See `Task`."""
        import pyarrow

        ids = pyarrow.list_(pyarrow.int64())
        schema = pyarrow.schema({"prompt_tokens": ids, "tokens": ids, "text": pyarrow.string()})
        schema = schema.append(pyarrow.field("finish_reason", pyarrow.string()))
        schema = schema.append(pyarrow.field("seed", pyarrow.int64()))
        if self.defaults.logprobs is None:
            return schema
        one = {"token": pyarrow.int64(), "logprob": pyarrow.float64()}
        top = pyarrow.list_(pyarrow.struct(one))
        return schema.append(pyarrow.field("logprobs", pyarrow.list_(pyarrow.struct({**one, "top": top}))))

    def load(self, opened: ModelSource, run: Runner) -> ProcessRows:
        """See `Task`."""
        engine = opened.load(run).engine
        process = make_generator(engine, self.defaults, self.defaults.sampling.seed or 0, self.batch_size)

        def generate(rows: Iterable[Row]) -> Iterator[Mapping[str, Any]]:
            for record in process(_line(row, "prompt") for row in rows):
                yield (
                    {**record, "logprobs": [_alternatives(one) for one in record["logprobs"]]}
                    if ("logprobs" in record)
                    else record
                )

        return generate


def _alternatives(logprob: Record) -> Record:
    top = [{"token": token, "logprob": value} for token, value in logprob["top"].items()]
    return {**logprob, "top": top}


def _line(row: Row, text_field: str) -> Line:
    """Return a row as a line; its number, from 1, is its place in the whole input."""
    return Line(row.index + 1, {} if row.text is None else {text_field: row.text}, row.problem)

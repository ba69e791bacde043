"""Run a model and keep its activations; edit them on the way."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from max_gpt2.config import GPT2Config
from max_gpt2.errors import RequestError
from max_gpt2.inspect.edits import Edit
from max_gpt2.inspect.lens import Attribution, LogitLens, attribution, logit_lens
from max_gpt2.inspect.probes import canonical, check_memory, name_in, resolve, split_name
from max_gpt2.model.batch import RaggedBatch
from max_gpt2.model.kv_cache import KVCache
from max_gpt2.model.session import CompiledModel
from max_gpt2.model.stages import StagedModel, StagedRun, Stages
from max_gpt2.model.table import as_bytes, type_number
from max_gpt2.tokenizer import GPT2Tokenizer
from max_gpt2.weights import Weight


@dataclass(frozen=True)
class Tracer:
    """Runs a model in stages. `edits` are applied to each activation in their order."""

    stages: Stages
    tokenizer: GPT2Tokenizer
    edits: tuple[Edit, ...] = ()

    @property
    def config(self) -> GPT2Config:
        """The config of the model."""
        return self.stages.config

    def trace(self, texts: Sequence[Sequence[int]], at: Iterable[str]) -> list["Trace"]:
        """Return the activations of texts, given as token ids; each text gets what it gets alone.

        Raises RequestError for unknown names, invalid edits, ids out of range, a text that is empty or too long, and if
        the activations do not fit into the memory.
        """
        names, edited = resolve(at, self.config), self._edits_by_name()
        if not texts:
            return []
        for number, ids in enumerate(texts, 1):
            self.check(ids, f"Text {number} of {len(texts)}" if len(texts) > 1 else "The text")
        for edit in self.edits:
            edit.check_texts(len(ids) for ids in texts)
        check_memory(names, self.config, [len(ids) for ids in texts])
        num_logits = None if "logits" in {*names, *edited} else 1
        batch = RaggedBatch.of(dict(enumerate(texts)), np.zeros(len(texts), np.int64), num_logits)
        tap = _Tap(self.stages, batch, names, edited)
        cache = KVCache(self.config, len(texts), max(map(len, texts)))
        StagedModel(self.stages).forward(batch, cache.buffers, tap)
        return [Trace(self, tuple(ids), kept) for ids, kept in zip(texts, tap.kept, strict=True)]

    def rerun(self, ids: Sequence[int], names: Sequence[str], known: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return activations by name of a text that was traced before: `known` holds some of them, with the edits.

        A block whose input is known runs alone. Raises RequestError if the activations do not fit into the memory.
        """
        layers = {layer: _input(layer) for layer, _ in map(split_name, names) if layer is not None}
        alone = len(layers) < self.config.n_layer and all(split_name(name)[0] is not None for name in names)
        if not alone or not known.keys() >= set(layers.values()):
            return dict(self.trace([ids], names)[0].activations)
        check_memory(names, self.config, [len(ids)])
        batch = RaggedBatch.of({0: ids}, np.zeros(1, np.int64), 1)
        tap = _Tap(self.stages, batch, names, edits_by_name(self.edits, self.config))
        cache = KVCache(self.config, 1, len(ids))
        for layer, input_name in layers.items():
            StagedModel(self.stages).block(known[input_name], layer, batch, cache.buffers, tap)
        return tap.kept[0]

    def model(self) -> CompiledModel:
        """Return a model like the compiled one that applies the edits whenever it runs: to generate or to score.

        Raises RequestError for invalid edits.
        """
        edited = self._edits_by_name()
        run = StagedRun(self.stages, lambda batch: _Tap(self.stages, batch, (), edited))
        return CompiledModel(self.config, "mojo", run, self.stages.weights)

    def _edits_by_name(self) -> dict[str, list[Edit]]:
        """Return the edits of each activation; raises RequestError for an invalid one, or one of another model."""
        found = edits_by_name(self.edits, self.config)
        for edit in self.edits:
            if isinstance(edit.source, Trace) and not _same_model(edit.source.tracer.stages, self.stages):
                raise RequestError(
                    f"The source of the patch of {edit.at} is a trace of another model. Give dict(trace) as the source "
                    "to patch from one model to another."
                )
        return found

    def check(self, ids: Sequence[int], text: str = "The text") -> None:
        """Raise RequestError, about `text`, if it is empty or too long, and for ids out of range."""
        config = self.config
        if not 0 < len(ids) <= config.n_positions:
            raise RequestError(
                f"{text} has {len(ids)} tokens. A trace needs 1 to {config.n_positions}, the context of the model."
            )
        if wrong := [one for one in ids if not 0 <= one < config.vocab_size]:
            raise RequestError(f"The id {wrong[0]} is not in 0 .. {config.vocab_size - 1}.")


@dataclass(frozen=True, eq=False)
class Trace(Mapping[str, np.ndarray]):
    """The activations of one text by name, as arrays of float32; `max_gpt2.inspect.probes` has names and shapes.

    `trace["h.9.attn.pattern"]` returns an activation that was asked for; names of TransformerLens are aliases.
    """

    tracer: Tracer
    tokens: tuple[int, ...]
    activations: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __getitem__(self, name: str) -> np.ndarray:
        found = self.activations.get(canonical(name))
        if found is None:
            resolve([name], self.tracer.config)  # raises for an unknown name
            raise RequestError(f'"{name}" was not traced. Add it: at=[..., "{name}"].')
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self.activations)

    def __len__(self) -> int:
        return len(self.activations)

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name} {list(value.shape)}" for name, value in list(self.activations.items())[:4])
        more = f", and {len(self) - 4} more" if len(self) > 4 else ""
        return f"Trace({len(self.tokens)} tokens: {shapes}{more})"

    def with_activations(self, at: Iterable[str]) -> "Trace":
        """Return a trace of the same text and edits that has other activations too; runs the model if necessary."""
        names = resolve(at, self.tracer.config)
        missing = [name for name in names if name not in self.activations]
        if not missing:
            return self
        added = self.tracer.rerun(self.tokens, missing, self.activations)
        return Trace(self.tracer, self.tokens, {**self.activations, **added})

    def logit_lens(self, positions: Sequence[int] | None = None) -> LogitLens:
        """Return the predictions after each layer, at all positions or some of them; see `LogitLens`.

        Runs the model if necessary. Raises RequestError for a position out of range.
        """
        return logit_lens(self, positions)

    def attribution(self, token: int | str, minus: int | str | None = None, position: int = -1) -> Attribution:
        """Divide the logit of a token, or its difference to that of another, among the parts of the model.

        A token is an id or its text, such as " Mary"; see `max_gpt2.inspect.attribution` for the rest. Raises
        RequestError for a text that is not one token.
        """
        return attribution(self, self._id(token), None if minus is None else self._id(minus), position)

    def _id(self, token: int | str) -> int:
        if isinstance(token, int):
            return token
        ids = self.tracer.tokenizer.encode(token)
        if len(ids) != 1:
            raise RequestError(f'"{token}" is {len(ids)} tokens. Give the text of one token, often with its space.')
        return ids[0]


def edits_by_name(edits: Sequence[Edit], config: GPT2Config) -> dict[str, list[Edit]]:
    """Return the edits of each activation, in order; raises RequestError for an invalid one."""
    found: dict[str, list[Edit]] = {}
    for edit in edits:
        if not isinstance(edit, Edit):
            raise RequestError(f"{edit!r} is not an edit. Use the functions of max_gpt2.inspect, such as ablate_head.")
        for name in edit.check(config):
            found.setdefault(name, []).append(edit)
    return found


def _same_model(one: Stages, other: Stages) -> bool:
    """Return True for two models with the same config and weights, which may have been loaded twice."""
    if one.weights is other.weights:
        return True
    pairs = ((value, other.weights.get(name)) for name, value in one.weights.items())
    return one.config == other.config and all(
        match is not None and (value is match or _equal(value, match)) for value, match in pairs
    )


def _equal(one: Weight, other: Weight) -> bool:
    """Return True for two weights of the same type and values."""
    same_type = type_number(one) == type_number(other)
    return same_type and np.array_equal(as_bytes(one), as_bytes(other))


def _input(layer: int) -> str:
    """Return the name of the activation from which a block can be computed."""
    return name_in(layer - 1, "") if layer else "embeddings"


class _Tap:
    """Applies the edits, and keeps activations for each sequence of the batch."""

    def __init__(
        self, stages: Stages, batch: RaggedBatch, names: Sequence[str], edits: Mapping[str, Sequence[Edit]]
    ) -> None:
        self.kept: list[dict[str, np.ndarray]] = [{} for _ in batch.slots]
        self._stages, self._batch, self._edits = stages, batch, edits
        self._names = set(names)
        self._needed = self._names | edits.keys()
        self._needed |= {name.removesuffix("heads") + "z" for name in self._names if name.endswith(".attn.heads")}

    def wants(self, name: str) -> bool:
        """See `Tap`."""
        return name in self._needed

    def see(self, name: str, value: np.ndarray) -> np.ndarray:
        """See `Tap`."""
        if name not in self._needed:
            return value
        edited = value.copy() if name in self._edits else value
        offsets, places = self._batch.row_offsets, np.arange(len(self._batch.ids))
        if name == "logits":  # they are computed for the last tokens of each sequence only
            offsets, places = np.searchsorted(self._batch.logits_indices, offsets), self._batch.logits_indices
        for number, (start, stop) in enumerate(pairwise(offsets)):
            if start == stop:
                continue
            one = self._edit(name, int(self._batch.positions[places[start]]), _by_head(value[start:stop]))
            if edited is not value:
                edited[start:stop] = _by_head(one)
            self._keep(name, number, one)
        return edited

    def see_pattern(self, name: str, sequence: int, value: np.ndarray) -> np.ndarray:
        """See `Tap`."""
        edited = self._edit(name, int(self._batch.cache_lengths[sequence]), value)
        if name in self._names:
            self.kept[sequence][name] = edited
        return edited

    def _edit(self, name: str, first: int, value: np.ndarray) -> np.ndarray:
        """Return a value of one sequence, from position `first` on, with the edits."""
        for edit in self._edits.get(name, ()):
            try:
                value = edit.apply(value, first)
            except (ValueError, IndexError) as error:
                raise RequestError(
                    f"The edit cannot {edit.description} {name}, which has the shape {list(value.shape)}: {error}."
                ) from error
        return value

    def _keep(self, name: str, number: int, value: np.ndarray) -> None:
        if name in self._names:
            self.kept[number][name] = np.ascontiguousarray(value)
        layer, part = split_name(name)
        if layer is not None and part == "attn.z" and name_in(layer, "attn.heads") in self._names:
            weight, _ = self._stages.layer(f"h.{layer}.attn.c_proj")
            heads = np.split(weight, len(value))  # [head_dim, n_embd] each
            self.kept[number][name_in(layer, "attn.heads")] = value @ np.stack(heads)


def _by_head(value: np.ndarray) -> np.ndarray:
    """Exchange tokens and heads of an activation with heads: [tokens, n_head, head_dim] and the reverse."""
    return value.transpose(1, 0, 2) if value.ndim == 3 else value

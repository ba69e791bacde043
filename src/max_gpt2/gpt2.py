"""The Python interface: `from max_gpt2 import GPT2`.

Scoring and tracing are imported when they are first used, since a process that generates starts sooner without.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Unpack, cast, overload

from max_gpt2._progress import Runner, silently
from max_gpt2.checkpoint import LoadOptions
from max_gpt2.checkpoint.options import LoadKeywords
from max_gpt2.config import GPT2Config
from max_gpt2.errors import RequestError
from max_gpt2.generation import (
    BATCH_SIZE,
    BeamOutput,
    BeamSearch,
    Engine,
    Generation,
    Request,
    SamplingParams,
    encode_prompt,
    open_model,
    read_bad_words,
)
from max_gpt2.generation.beam_search import EarlyStopping
from max_gpt2.generation.params import BeamSearchOptions, GenerationOptions
from max_gpt2.generation.speculation import (
    ModelSpeculation,
    NgramSpeculation,
    Speculation,
    check_draft,
    check_kernels,
)
from max_gpt2.system.machine import import_pyarrow
from max_gpt2.tokenizer import GPT2Tokenizer

if TYPE_CHECKING:
    from max_gpt2.inspect import Edit, Trace, Tracer
    from max_gpt2.scoring import Score, ScoreKeywords, Scorer

Prompt = str | Sequence[int]
_SAMPLING_ONLY = ("temperature", "top_k", "top_p", "min_p", "seed")


class GPT2:
    """A loaded and compiled GPT-2. A prompt is a string or a list of token ids.

    The keyword options of `generate` and `stream` are those of `Request` (`max_new_tokens`, `stop`, `stop_ids`,
    `logprobs`, `context_overflow`) and of `SamplingParams` (`temperature`, `top_k`, `top_p`, `min_p`, `seed`, ...).
    With `edits`, the model runs with these edits of its activations (`max_gpt2.inspect`), after those that it has.
    Each method raises RequestError for an invalid request or edit.
    """

    def __init__(self, engine: Engine, tracer: Tracer | None = None) -> None:
        """Wrap an engine; `from_pretrained` makes one from a checkpoint, and `with_edits` one with a tracer."""
        self.engine = engine
        self._edited = tracer

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path = "gpt2",
        run: Runner = silently,
        **options: Unpack[LoadKeywords],
    ) -> GPT2:
        """Load "demo", a hub id, a folder or a file of weights, and compile it.

        `run` may show the progress. The keyword options are described in `max_gpt2.checkpoint.LoadOptions`. Raises
        MaxGPT2Error when the checkpoint cannot be loaded.
        """
        import_pyarrow()
        return cls(open_model(model, LoadOptions.from_keywords(**options)).load(run).engine)

    @property
    def config(self) -> GPT2Config:
        """The model's config."""
        return self.engine.model.config

    @property
    def tokenizer(self) -> GPT2Tokenizer:
        """The model's tokenizer."""
        return self.engine.tokenizer

    @overload  # a str is a Sequence[str] as well; the first overload wins
    def generate(  # type: ignore[overload-overlap]
        self,
        prompt: Prompt,
        *,
        n: None = None,
        batch_size: int = BATCH_SIZE,
        edits: Sequence[Edit] = (),
        **options: Unpack[GenerationOptions],
    ) -> Generation: ...
    @overload
    def generate(
        self,
        prompt: Prompt,
        *,
        n: int,
        batch_size: int = BATCH_SIZE,
        edits: Sequence[Edit] = (),
        **options: Unpack[GenerationOptions],
    ) -> list[Generation]: ...
    @overload
    def generate(
        self,
        prompt: Sequence[Prompt],
        *,
        n: int | None = None,
        batch_size: int = BATCH_SIZE,
        edits: Sequence[Edit] = (),
        **options: Unpack[GenerationOptions],
    ) -> list[Generation]: ...
    def generate(
        self,
        prompt: Prompt | Sequence[Prompt],
        *,
        n: int | None = None,
        batch_size: int = BATCH_SIZE,
        edits: Sequence[Edit] = (),
        **options: Unpack[GenerationOptions],
    ) -> Generation | list[Generation]:
        """Continue a prompt, or each prompt of a list; batching at most `batch_size` sequences changes no result.

        With `n`, return `n` samples of each prompt as a list, with the seeds `seed`, `seed` + 1, ...
        """
        engine = self._to_generate(edits)
        prompts, is_one = _prompts(prompt)
        requests = [one for each in prompts for one in self._request(each, options).samples(1 if n is None else n)]
        found = list(engine.generate_all(requests, batch_size))
        return found[0] if is_one and n is None else found

    def stream(
        self, prompt: Prompt, *, edits: Sequence[Edit] = (), **options: Unpack[GenerationOptions]
    ) -> Iterator[str]:
        """Continue a prompt and yield non-empty pieces of text, each of them valid Unicode."""
        outputs = self._to_generate(edits).stream(self._request(prompt, options))
        return (output.text_delta for output in outputs if output.text_delta)

    def beam_search(
        self,
        prompt: Prompt,
        *,
        num_beams: int = BeamSearch.num_beams,
        length_penalty: float = BeamSearch.length_penalty,
        early_stopping: EarlyStopping = BeamSearch.early_stopping,
        edits: Sequence[Edit] = (),
        **options: Unpack[BeamSearchOptions],
    ) -> list[BeamOutput]:
        """Return the most probable continuations found by beam search, best first; see `BeamSearch`."""
        if names := [name for name in _SAMPLING_ONLY if name in options]:
            raise RequestError(f"Beam search does not support {', '.join(names)}. Remove it.")
        request = self._request(prompt, {"temperature": 0, **options})
        return self._to_generate(edits).beam_search(request, BeamSearch(num_beams, length_penalty, early_stopping))

    @overload
    def score(  # type: ignore[overload-overlap]
        self, texts: Prompt, *, edits: Sequence[Edit] = (), **options: Unpack[ScoreKeywords]
    ) -> Score: ...
    @overload
    def score(
        self, texts: Sequence[Prompt], *, edits: Sequence[Edit] = (), **options: Unpack[ScoreKeywords]
    ) -> list[Score]: ...
    def score(
        self, texts: Prompt | Sequence[Prompt], *, edits: Sequence[Edit] = (), **options: Unpack[ScoreKeywords]
    ) -> Score | list[Score]:
        """Return the surprisals of a text, or of each text of a list; the options are those of `ScoreOptions`.

        The first call compiles the scoring graph, and the first call with edits those of `trace`. Raises RequestError
        for the first text without a score; use `max_gpt2.scoring.score_texts` to score the others as well, or to read
        the texts lazily.
        """
        from max_gpt2.scoring import ScoreOptions, score_texts

        prompts, is_one = _prompts(texts) if texts or isinstance(texts, str) else ([], False)
        found: list[Score] = []
        scorer = self.with_edits(edits)._scorer
        for number, scored in enumerate(score_texts(scorer, prompts, ScoreOptions(**options)), 1):
            if isinstance(scored, RequestError):
                raise scored if is_one else RequestError(f"Text {number} of {len(prompts)}: {scored}")
            found.append(scored)
        return found[0] if is_one else found

    @overload
    def trace(  # type: ignore[overload-overlap]
        self, texts: Prompt, at: Sequence[str] = ..., *, edits: Sequence[Edit] = (), bos: bool = False
    ) -> Trace: ...
    @overload
    def trace(
        self, texts: Sequence[Prompt], at: Sequence[str] = ..., *, edits: Sequence[Edit] = (), bos: bool = False
    ) -> list[Trace]: ...
    def trace(
        self,
        texts: Prompt | Sequence[Prompt],
        at: Sequence[str] = ("h.*", "logits"),
        *,
        edits: Sequence[Edit] = (),
        bos: bool = False,
    ) -> Trace | list[Trace]:
        """Return the activations `at` these names or patterns of a text, or of each text of a list.

        `max_gpt2.inspect` has the names and the edits. With `bos`, each text starts with the BOS token. The first call
        compiles the operations of the model as graphs of their own. Raises RequestError for an unknown name, an invalid
        edit, a text that is too long, and if the activations do not fit into the memory.
        """
        prompts, is_one = _prompts(texts)
        start = [self.tokenizer.start_id] if bos else []
        ids = [self._ids(one) if one else [] for one in prompts]  # an empty prompt would become a BOS
        found = self.with_edits(edits)._tracer.trace([[*start, *one] for one in ids], at)
        return found[0] if is_one else found

    def with_edits(self, edits: Sequence[Edit]) -> GPT2:
        """Return this model with edits, after those that it has, for all that it does: trace, score and generate.

        Raises RequestError for an invalid edit.
        """
        if not edits:
            return self
        from max_gpt2.inspect import Edit

        if isinstance(edits, Edit):
            raise RequestError("The edits are not a list. Give edits=[...].")
        tracer = replace(self._tracer, edits=(*self._tracer.edits, *edits))
        return GPT2(Engine(tracer.model(), self.tokenizer), tracer)

    def with_speculation(self, draft: Literal["ngram"] | GPT2) -> GPT2:
        """Return this model with a way to draft tokens for `generate` and `stream`, whose results do not change.

        "ngram" drafts what followed the last tokens when they occurred before; a smaller model with the same tokenizer
        drafts what it would write. Raises RequestError for a model with another tokenizer, and for kernels that cannot
        check drafts.
        """
        check_kernels(self.engine.model.kernels)
        if isinstance(draft, GPT2):
            check_draft(self.tokenizer, draft.config, draft.tokenizer)
            speculation: Speculation = ModelSpeculation(draft.engine.model)
        elif draft == "ngram":
            speculation = NgramSpeculation()
        else:
            raise RequestError(f'draft {draft!r} is neither "ngram" nor a GPT2. Load a model: GPT2.from_pretrained.')
        return GPT2(replace(self.engine, speculation=speculation), self._edited)

    @cached_property
    def _tracer(self) -> Tracer:
        from max_gpt2.inspect import Tracer
        from max_gpt2.model.compile_cache import load_or_compile_stages
        from max_gpt2.model.stages import Stages

        model = self.engine.model
        if self._edited is not None:
            return self._edited
        return Tracer(Stages(model.config, load_or_compile_stages(), model.weights), self.tokenizer)

    @cached_property
    def _scorer(self) -> Scorer:
        from max_gpt2.model.compile_cache import load_or_compile_scoring
        from max_gpt2.model.scoring import LogitsScoringModel
        from max_gpt2.scoring import Scorer

        model = self.engine.model
        if self._edited is not None:
            return Scorer(model.config, self.tokenizer, LogitsScoringModel(model))
        return Scorer(model.config, self.tokenizer, load_or_compile_scoring(model.config, model.weights, model.kernels))

    def _to_generate(self, edits: Sequence[Edit]) -> Engine:
        """Return the engine of the model with edits; raises RequestError for one that cannot be used to generate."""
        model = self.with_edits(edits)
        for edit in model._edited.edits if model._edited is not None else ():
            if edit.whole_text:
                raise RequestError(
                    f"The edit of {edit.at} needs the whole text at once, so it cannot be used to generate. Give "
                    "mean_ablate a mean."
                )
        return model.engine

    def _ids(self, prompt: Prompt) -> list[int]:
        return encode_prompt(self.tokenizer, prompt) if isinstance(prompt, str) else list(prompt)

    def _request(self, prompt: Prompt, options: Mapping[str, Any]) -> Request:
        """Divide the options between `SamplingParams` and `Request`; an unknown name raises TypeError."""
        names = SamplingParams.__dataclass_fields__.keys()
        if "bad_words" in options:
            options = {**options, "bad_words": read_bad_words(self.tokenizer, options["bad_words"])}
        sampling = SamplingParams(**{name: value for name, value in options.items() if name in names})
        rest = {name: value for name, value in options.items() if name not in names}
        return Request(self._ids(prompt), sampling=sampling, **rest)


def _prompts(prompt: Prompt | Sequence[Prompt]) -> tuple[list[Prompt], bool]:
    """Return a list of prompts, and True if there was only one: a string or a list of ids."""
    several = [one for one in prompt if not isinstance(one, int)] if not isinstance(prompt, str) else []
    return (several, False) if several else ([cast(Prompt, prompt)], True)

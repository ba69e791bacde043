"""MAX's scheduler with our pipeline, in this process: what the worker's process runs, without HTTP around it."""

import asyncio
import itertools
import warnings
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any

from max.driver import DeviceSpec
from max.pipelines.context import SamplingParams, TextContext
from max.pipelines.lib import PIPELINE_REGISTRY, PipelineArgs, PipelineConfig
from max.pipelines.modeling.types import RequestID, TextGenerationRequest

from max_gpt2.serve.prepare import Prepared

with warnings.catch_warnings():  # what MAX imports has moved since
    warnings.simplefilter("ignore", DeprecationWarning)
    from max.serve.scheduler.text_generation_scheduler import load_text_generation_scheduler

_NUMBERS = itertools.count()


@dataclass
class Ask:
    """A request; `params` are fields of MAX's `SamplingParams`."""

    prompt: list[int] | str
    new: int = 12
    params: dict[str, Any] = field(default_factory=dict)
    hint: dict[str, Any] | None = None
    logprobs: int = 0
    echo: bool = False


@dataclass
class Written:
    """What was answered; `logprobs` has the prompt's first, if they were asked for."""

    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    tops: list[dict[int, float]] = field(default_factory=list)
    cached: int = 0
    status: str = ""


class Scheduled:
    """A server without HTTP; `options` are those of `max serve`."""

    def __init__(self, prepared: Prepared, max_batch_size: int = 32, **options: Any) -> None:
        flat = {
            "model_path": str(prepared.folder),
            "weight_path": prepared.weights,
            "quantization_encoding": "float32",
            "device_specs": [DeviceSpec.cpu()],
            "max_batch_size": max_batch_size,
            "max_length": prepared.config.n_positions,
            "custom_architectures": ["max_gpt2.serve"],
        }
        config = PipelineConfig.from_args(PipelineArgs.from_flat_kwargs(**(flat | options)))
        found = PIPELINE_REGISTRY.retrieve_factory(config)
        self.tokenizer: Any = found.tokenizer
        factory: Any = found.factory
        self.pipeline = factory()
        self._requests, self._answers, self._cancelled = SimpleQueue[Any](), SimpleQueue[Any](), SimpleQueue[Any]()
        self.scheduler: Any = load_text_generation_scheduler(
            self.pipeline, config, self._requests, self._answers, self._cancelled, found.memory_plan
        )

    def context(self, ask: Ask) -> TextContext:
        """Make what the scheduler gets of a request; raises InputError."""
        params = {"temperature": 0.0, "ignore_eos": True, "seed": 1} | ask.params
        request = TextGenerationRequest(
            request_id=RequestID(f"request {next(_NUMBERS)}"),
            model_name="tiny",
            prompt=ask.prompt,
            logprobs=ask.logprobs,
            echo=ask.echo,
            sampling_params=SamplingParams(max_new_tokens=ask.new, **params),
            dkv_cache_hint=ask.hint,
        )
        made: TextContext = asyncio.run(self.tokenizer.new_context(request))
        return made

    def write(self, *asked: Ask) -> list[Written]:
        """Carry requests out that arrive together."""
        contexts = [self.context(ask) for ask in asked]
        found = {context.request_id: Written() for context in contexts}
        for context in contexts:
            self._requests.put_nowait(context)
        while not all(written.status for written in found.values()):
            self.scheduler.run_iteration()
            while not self._answers.empty():
                for request, result in self._answers.get_nowait().items():
                    self._add(found[request], result.result)
        return list(found.values())

    def _add(self, written: Written, output: Any) -> None:
        written.tokens += output.tokens
        written.cached = output.num_cached_tokens
        for one in output.log_probabilities or []:
            written.logprobs += one.token_log_probabilities
            written.tops += one.top_log_probabilities
        if output.is_done:
            written.status = output.final_status.name

"""Run MAX's scheduler with the pipeline of this package in this process, as the worker does, but without HTTP."""

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

with warnings.catch_warnings():  # MAX imports deprecated names
    warnings.simplefilter("ignore", DeprecationWarning)
    from max.serve.scheduler.text_generation_scheduler import load_text_generation_scheduler

_NUMBERS = itertools.count()


@dataclass
class Request:
    """A request; `params` are fields of MAX's `SamplingParams`."""

    prompt: list[int] | str
    new: int = 12
    params: dict[str, Any] = field(default_factory=dict)
    hint: dict[str, Any] | None = None
    logprobs: int = 0
    echo: bool = False


@dataclass
class Output:
    """The output of a request; `logprobs` begin with those of the prompt if `echo` is set."""

    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    tops: list[dict[int, float]] = field(default_factory=list)
    cached: int = 0
    status: str = ""


class Scheduled:
    """A scheduler with its pipeline; `options` are those of `max serve`."""

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
        self._requests, self._responses, self._cancelled = SimpleQueue[Any](), SimpleQueue[Any](), SimpleQueue[Any]()
        self.scheduler: Any = load_text_generation_scheduler(
            self.pipeline, config, self._requests, self._responses, self._cancelled, found.memory_plan
        )

    def context(self, request: Request) -> TextContext:
        """Create the scheduler's context of a request; raises InputError."""
        params = {"temperature": 0.0, "ignore_eos": True, "seed": 1} | request.params
        to_max = TextGenerationRequest(
            request_id=RequestID(f"request {next(_NUMBERS)}"),
            model_name="tiny",
            prompt=request.prompt,
            logprobs=request.logprobs,
            echo=request.echo,
            sampling_params=SamplingParams(max_new_tokens=request.new, **params),
            dkv_cache_hint=request.hint,
        )
        context: TextContext = asyncio.run(self.tokenizer.new_context(to_max))
        return context

    def submit(self, request: Request) -> RequestID:
        """Send a request to the scheduler and return its id."""
        context = self.context(request)
        self._requests.put_nowait(context)
        return context.request_id

    def generate(self, *requests: Request) -> list[Output]:
        """Run requests that arrive at the same time; return their outputs in order."""
        outputs = {self.submit(request): Output() for request in requests}
        while not all(output.status for output in outputs.values()):
            self.scheduler.run_iteration()
            while not self._responses.empty():
                for request_id, response in self._responses.get_nowait().items():
                    if request_id in outputs:
                        self._add(outputs[request_id], response.result)
        return list(outputs.values())

    def _add(self, output: Output, result: Any) -> None:
        output.tokens += result.tokens
        output.cached = result.num_cached_tokens
        for one in result.log_probabilities or []:
            output.logprobs += one.token_log_probabilities
            output.tops += one.top_log_probabilities
        if result.is_done:
            output.status = result.final_status.name

"""The pipeline that MAX's scheduler calls: the next tokens of each sequence of a batch."""

import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np
from max import tree
from max.driver import CPU, Buffer
from max.engine import InferenceSession
from max.nn.kv_cache import KVCacheInputsPerDevice
from max.pipelines.context import TextContext, TextGenerationOutput
from max.pipelines.kv_cache import PagedKVCacheManagerInterface, load_kv_manager
from max.pipelines.lib import MemoryPlan, PipelineConfig
from max.pipelines.lib.graph_specs import CompiledArtifacts
from max.pipelines.lib.pipeline_variants.text_generation import TextGenerationPipelineInterface
from max.pipelines.modeling.types import RequestID, TextGenerationInputs

from max_gpt2.generation.logits import TokenLogprob
from max_gpt2.model.compile_cache import load_or_compile_paged
from max_gpt2.serve.worker.arch_config import ServedConfig
from max_gpt2.serve.worker.scheduler import SchedulerView, share_scheduler
from max_gpt2.serve.worker.sequence import PagedBatch, SequenceState
from max_gpt2.serve.worker.settings import PAGE_SIZE, configured_cache_bytes, served_checkpoint
from max_gpt2.weights.memory import copy_mapped

share_scheduler()

#: The number of released sequences to remember, in batches; at most one batch can be preempted at a time.
_REMEMBERED_BATCHES = 4
#: Seconds after which tokens are returned, if the scheduler would continue with the same batch. A client that
#: disconnects is noticed afterwards.
_BURST_S = 0.25


class GPT2Pipeline(TextGenerationPipelineInterface[TextContext]):
    """The transformer with MAX's paged KV cache, and the sampler of `generate`.

    MAX's own pipeline would compile a sampler, which takes longer than compiling the model, and run it on all logits.
    """

    def __init__(
        self,
        pipeline_config: PipelineConfig,
        pipeline_model: type[Any],
        weight_adapters: Any,
        tokenizer: Any,
        memory_plan: MemoryPlan,
    ) -> None:
        """Load the weights of the model's folder, compile the graph, and allocate the cache."""
        self._pipeline_config, self._tokenizer = pipeline_config, tokenizer
        self._max_batch_size = memory_plan.planned_max_batch_size
        self.compiled_artifacts = CompiledArtifacts()
        checkpoint = served_checkpoint(pipeline_config.model.model_path)
        self._run = load_or_compile_paged(checkpoint.config, copy_mapped(checkpoint.weights))
        self._config, self._tokens = checkpoint.config, checkpoint.tokenizer.size
        self._no_mask = Buffer.from_numpy(np.zeros(checkpoint.config.vocab_size, dtype=np.float32))
        length = memory_plan.planned_max_length or checkpoint.config.n_positions
        cache_bytes = configured_cache_bytes(checkpoint.config, self._max_batch_size)
        self._kv_manager = load_kv_manager(
            params=ServedConfig.initialize(pipeline_config, max_seq_len=length).kv_params,
            max_batch_size=self._max_batch_size,
            max_seq_len=length,
            session=InferenceSession(devices=[CPU()]),
            available_cache_memory=min(memory_plan.available_cache_memory or cache_bytes, cache_bytes),
            is_di_enabled=False,
            model_name=pipeline_config.model.model_name,
            max_num_input_tokens=pipeline_config.runtime.max_num_input_tokens,
        )
        self._running: dict[RequestID, SequenceState] = {}
        self._released: OrderedDict[RequestID, SequenceState] = OrderedDict()
        self._scheduler: SchedulerView | None = None

    def set_scheduler(self, scheduler: SchedulerView) -> None:
        """Set the scheduler, without which every call runs a single step."""
        self._scheduler = scheduler

    @property
    def max_batch_size(self) -> int:
        """The largest number of sequences in a batch."""
        return self._max_batch_size

    @property
    def kv_manager(self) -> PagedKVCacheManagerInterface:
        """The manager of the cache pages."""
        return self._kv_manager

    @property
    def pipeline_config(self) -> PipelineConfig:
        """The server's configuration."""
        return self._pipeline_config

    @property
    def tokenizer(self) -> Any:
        """The tokenizer, which turns requests into contexts."""
        return self._tokenizer

    def execute(self, inputs: TextGenerationInputs[TextContext]) -> dict[RequestID, TextGenerationOutput]:
        """Run the new tokens of each sequence and sample the next one, except after a partial prompt.

        If no client reads the tokens as they are generated, and the scheduler would only call again with the same
        batch, return the tokens of several steps, since every return costs as much as a tenth of a step or more.
        """
        contexts = inputs.flat_batch
        if not contexts:
            return {}
        deadline = time.monotonic() + _BURST_S
        pages = self._pages(inputs.batches)
        self._step(contexts, pages)
        while time.monotonic() < deadline and self._continues(contexts):
            self._step(contexts, pages)
        for context in contexts:
            self._kv_manager.step(context)
        outputs = [context.to_generation_output() for context in contexts]
        return {output.request_id: output for output in outputs if output.tokens}

    def release(self, request_id: RequestID) -> None:
        """Set aside the state of a sequence that has ended or is preempted; MAX does not distinguish the two.

        A preempted sequence later continues with the same random generator state.
        """
        if found := self._running.pop(request_id, None):
            self._released[request_id] = found
            if len(self._released) > _REMEMBERED_BATCHES * self._max_batch_size:
                self._released.popitem(last=False)

    def _pages(self, batches: Sequence[Sequence[TextContext]]) -> list[Buffer]:
        """Return the table of the pages of each sequence, [batch, pages] of int64, and the memory of all pages."""
        (cache,) = tree.leaves(self._kv_manager.runtime_inputs(batches), leaf=KVCacheInputsPerDevice)
        return [Buffer.from_numpy(cache.lookup_table.to_numpy().astype(np.int64)), cache.kv_blocks]

    def _step(self, contexts: Sequence[TextContext], pages: list[Buffer]) -> None:
        """Append the next token to each sequence."""
        batch = PagedBatch.of(contexts)
        logits, echoed = self._compute(batch, pages)
        states = [self._state(context) for context in contexts]
        for context, state, row, logprobs in zip(contexts, states, logits, echoed, strict=True):
            context.update(state.step(context, row, logprobs), state.logprobs)

    def _continues(self, contexts: Sequence[TextContext]) -> bool:
        """Return True if the batch may continue without a return to the scheduler, which also allocates the pages."""
        if self._scheduler is None:
            return False
        if any(context.is_done or not context.tokens.processed_length % PAGE_SIZE for context in contexts):
            return False
        bursts = all(self._running[context.request_id].bursts for context in contexts)
        return bursts and self._scheduler.would_run_again(len(contexts))

    def _compute(self, batch: PagedBatch, pages: list[Buffer]) -> tuple[np.ndarray, list[list[TokenLogprob]]]:
        """Return the logits [batch, vocab] to sample from, and the logprobs of prompt tokens of each sequence."""
        table, blocks = pages
        best = np.zeros(max(1, min(batch.top, self._config.vocab_size)), dtype=np.int64)
        tokens = map(Buffer.from_numpy, [batch.ids, batch.positions, batch.row_offsets, batch.cache_lengths])
        rows = map(Buffer.from_numpy, [batch.logits_indices, batch.sampled, batch.scored, batch.targets])
        outputs = self._run(*tokens, table, *rows, self._no_mask, Buffer.from_numpy(best), blocks)
        logits, sums, _, top_ids, top_logprobs = (output.to_numpy() for output in outputs)
        scores = [
            TokenLogprob(token, logprob, dict(zip(ids, logprobs, strict=True)))
            for token, logprob, ids, logprobs in zip(
                batch.targets.tolist(), sums[0].tolist(), top_ids.tolist(), top_logprobs.tolist(), strict=True
            )
        ]
        ends = np.cumsum(batch.counts).tolist()
        return logits, [scores[end - count : end] for end, count in zip(ends, batch.counts.tolist(), strict=True)]

    def _state(self, context: TextContext) -> SequenceState:
        found = self._running.get(context.request_id)
        if found is None:
            found = self._released.pop(context.request_id, None) or SequenceState.of(context, self._tokens)
            found.echoed = []
            self._running[context.request_id] = found
        return found

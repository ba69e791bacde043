"""The loop's inside: MAX's scheduler hands in a batch of texts, and gets one token for each."""

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
from max.pipelines.lib.pipeline_variants.utils import update_context_and_prepare_responses
from max.pipelines.modeling.types import RequestID, TextGenerationInputs

from max_gpt2.model.compile_cache import load_or_compile_paged
from max_gpt2.serve.arch_config import ServedConfig
from max_gpt2.serve.batch import Batch
from max_gpt2.serve.cache_room import decided_bytes
from max_gpt2.serve.loading import served_checkpoint
from max_gpt2.serve.writing import Writing

#: How many texts that have left are remembered, in batches: no more than one batch can be waiting to come back.
_KEPT = 4


class GPT2Pipeline(TextGenerationPipelineInterface[TextContext]):
    """The engine's transformer with MAX's paged cache, and the engine's sampler.

    MAX's own pipeline would compile a sampler, which takes longer than the model, and compute on all logits with it.
    """

    def __init__(
        self,
        pipeline_config: PipelineConfig,
        pipeline_model: type[Any],
        weight_adapters: Any,
        tokenizer: Any,
        memory_plan: MemoryPlan,
    ) -> None:
        """Load the weights of the model's folder with our own loader, compile, and make the cache."""
        self._pipeline_config, self._tokenizer = pipeline_config, tokenizer
        self._most = memory_plan.planned_max_batch_size
        self.compiled_artifacts = CompiledArtifacts()
        checkpoint = served_checkpoint(pipeline_config.model.model_path)
        self._run = load_or_compile_paged(checkpoint.config, checkpoint.state_dict)
        self._config, self._tokens = checkpoint.config, checkpoint.tokenizer.size
        length = memory_plan.planned_max_length or checkpoint.config.n_positions
        room = decided_bytes(checkpoint.config, self._most)
        self._kv_manager = load_kv_manager(
            params=ServedConfig.initialize(pipeline_config, max_seq_len=length).kv_params,
            max_batch_size=self._most,
            max_seq_len=length,
            session=InferenceSession(devices=[CPU()]),
            available_cache_memory=min(memory_plan.available_cache_memory or room, room),
            is_di_enabled=False,
            model_name=pipeline_config.model.model_name,
            max_num_input_tokens=pipeline_config.runtime.max_num_input_tokens,
        )
        self._texts: dict[RequestID, Writing] = {}
        self._left: OrderedDict[RequestID, Writing] = OrderedDict()

    @property
    def max_batch_size(self) -> int:
        """How many texts there are in a batch at most."""
        return self._most

    @property
    def kv_manager(self) -> PagedKVCacheManagerInterface:
        """The pages of the cache and whose they are."""
        return self._kv_manager

    @property
    def pipeline_config(self) -> PipelineConfig:
        """The server's configuration."""
        return self._pipeline_config

    @property
    def tokenizer(self) -> Any:
        """What makes contexts of requests."""
        return self._tokenizer

    def execute(self, inputs: TextGenerationInputs[TextContext]) -> dict[RequestID, TextGenerationOutput]:
        """Compute what is new of each text, and choose the token after it, unless only a part of a prompt was new."""
        texts = inputs.flat_batch
        if not texts:
            return {}
        batch = Batch.of(texts)
        logits = batch.split(self._logits(batch, inputs.batches))
        writings = [self._writing(text) for text in texts]
        tokens = [writing.step(text, rows) for writing, text, rows in zip(writings, texts, logits, strict=True)]
        answers = update_context_and_prepare_responses(
            np.array(tokens, dtype=np.int32)[:, None],
            texts,
            batch_log_probabilities=[[writing.logprobs for writing in writings]],
            enable_log_probs=inputs.enable_log_probs,
        )
        for text in texts:
            self._kv_manager.step(text)
        return answers

    def release(self, request_id: RequestID) -> None:
        """Put a text aside that has ended, or that gives its place away and will come back: MAX does not say which.

        One that comes back goes on with the dice where they were.
        """
        if found := self._texts.pop(request_id, None):
            self._left[request_id] = found
            if len(self._left) > _KEPT * self._most:
                self._left.popitem(last=False)

    def _logits(self, batch: Batch, batches: Sequence[Sequence[TextContext]]) -> np.ndarray:
        (cache,) = tree.leaves(self._kv_manager.runtime_inputs(batches), leaf=KVCacheInputsPerDevice)
        table = cache.lookup_table.to_numpy().astype(np.int64)
        arrays = [batch.ids, batch.positions, batch.offsets, batch.lengths, table, batch.kept]
        (logits,) = self._run(*map(Buffer.from_numpy, arrays), cache.kv_blocks)
        return logits.to_numpy()

    def _writing(self, text: TextContext) -> Writing:
        found = self._texts.get(text.request_id)
        if found is None:
            found = self._left.pop(text.request_id, None) or Writing.of(text, self._tokens)
            found.echoed = []
            self._texts[text.request_id] = found
        return found

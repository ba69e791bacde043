"""Registers GPT-2 with MAX's server."""

from collections.abc import Callable

from max.graph.weights import WeightsFormat
from max.pipelines.context import TextContext
from max.pipelines.context.exceptions import InputError
from max.pipelines.kv_cache.memory_planner import PagedMemoryPlanner
from max.pipelines.lib import SupportedArchitecture
from max.pipelines.modeling.types import PipelineTask

from max_gpt2.serve.worker.arch_config import GPT2PipelineModel, ServedConfig
from max_gpt2.serve.worker.pipeline import GPT2Pipeline
from max_gpt2.serve.worker.tokenizer import ServedTokenizer


def require_tokens(context: TextContext) -> None:
    """Raise InputError for an empty prompt, which has no token to predict from."""
    if not context.tokens.prompt_length:
        raise InputError("The prompt has no tokens. Send at least one.")


def isolate_prompt_logprobs(context: TextContext) -> None:
    """Disable prefix sharing for a prompt with requested logprobs: tokens read from the cache have no logits."""
    if context.log_probabilities and context.log_probabilities_echo:
        context.cache_salt = str(context.request_id)


VALIDATORS: list[Callable[..., None]] = [require_tokens, isolate_prompt_logprobs]


GPT2 = SupportedArchitecture(
    name="GPT2LMHeadModel",
    task=PipelineTask.TEXT_GENERATION,
    example_repo_ids=["openai-community/gpt2"],
    default_encoding="float32",
    supported_encodings={"float32"},
    default_weights_format=WeightsFormat.safetensors,
    pipeline_model=GPT2PipelineModel,
    pipeline_cls=GPT2Pipeline,
    tokenizer=ServedTokenizer,
    context_type=TextContext,
    context_validators=VALIDATORS,
    config=ServedConfig,
    memory_planner=PagedMemoryPlanner,
    supports_overlap_scheduler=False,
    supports_device_graph_capture=False,
)

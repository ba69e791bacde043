"""What MAX's server is told about GPT-2."""

from max.graph.weights import WeightsFormat
from max.pipelines.context import TextContext
from max.pipelines.kv_cache.memory_planner import PagedMemoryPlanner
from max.pipelines.lib import SupportedArchitecture
from max.pipelines.modeling.types import PipelineTask

from max_gpt2.serve.arch_config import ServedConfig
from max_gpt2.serve.pipeline import GPT2Pipeline
from max_gpt2.serve.pipeline_model import GPT2PipelineModel
from max_gpt2.serve.tokenizer import ServedTokenizer
from max_gpt2.serve.validators import VALIDATORS

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

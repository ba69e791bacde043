"""The name under which MAX plans the memory of the model. What runs it is `pipeline`."""

from max.pipelines.context import TextContext
from max.pipelines.lib import ModelInputs, ModelOutputs, PipelineModelWithKVCache

from max_gpt2.serve.arch_config import ServedConfig


class GPT2PipelineModel(PipelineModelWithKVCache[TextContext]):
    """Is never made: MAX asks its class for the shape of the cache."""

    model_config_cls = ServedConfig

    def execute(self, model_inputs: ModelInputs) -> ModelOutputs:
        """Refuse: `GPT2Pipeline` calls the compiled graph itself."""
        raise NotImplementedError("GPT2Pipeline runs the model")

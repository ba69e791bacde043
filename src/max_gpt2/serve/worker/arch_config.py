"""The sizes from which MAX plans the memory of the server; `pipeline` runs the model."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from max.dtype import DType
from max.graph import DeviceRef
from max.nn.kv_cache import KVCacheParamInterface
from max.pipelines.context import TextContext
from max.pipelines.kv_cache import KVCacheConfig
from max.pipelines.lib import MAXModelConfig, ModelInputs, ModelOutputs, PipelineConfig, PipelineModelWithKVCache
from max.pipelines.lib.interfaces.arch_config import ArchConfigWithStoredKVParams
from max.pipelines.modeling.config_enums import SupportedEncoding


@dataclass
class ServedConfig(ArchConfigWithStoredKVParams):
    """The maximum sequence length and the shape of the KV cache; the package's own loader reads the rest."""

    DEFAULT_ENCODING: ClassVar[SupportedEncoding] = "float32"
    SUPPORTED_ENCODINGS: ClassVar[set[SupportedEncoding]] = {"float32"}

    max_seq_len: int
    kv_params: KVCacheParamInterface
    devices: list[DeviceRef]

    @classmethod
    def construct_kv_params(
        cls,
        huggingface_config: Any,
        pipeline_config: PipelineConfig,
        devices: Sequence[DeviceRef],
        kv_cache_config: KVCacheConfig,
        cache_dtype: DType,
        *,
        allow_kv_head_replication: bool = False,
    ) -> KVCacheParamInterface:
        """Return the shape of a page of the cache."""
        return kv_cache_config.to_params(
            dtype=DType.float32,
            n_kv_heads=huggingface_config.n_head,
            head_dim=huggingface_config.n_embd // huggingface_config.n_head,
            num_layers=huggingface_config.n_layer,
            devices=devices,
            data_parallel_degree=pipeline_config.model.data_parallel_degree,
        )

    @classmethod
    def initialize(
        cls, pipeline_config: PipelineConfig, model_config: MAXModelConfig | None = None, *, max_seq_len: int
    ) -> "ServedConfig":
        """Create the config from MAX's configuration of the model."""
        chosen = model_config or pipeline_config.model
        devices = [DeviceRef(spec.device_type, spec.id) for spec in chosen.device_specs]
        params = cls.construct_kv_params(
            chosen.huggingface_config, pipeline_config, devices, chosen.kv_cache, DType.float32
        )
        return cls(max_seq_len, params, devices)


class GPT2PipelineModel(PipelineModelWithKVCache[TextContext]):
    """A placeholder that is never instantiated: MAX reads the shape of the cache from its class."""

    model_config_cls = ServedConfig

    def execute(self, model_inputs: ModelInputs) -> ModelOutputs:
        """Raise NotImplementedError: `GPT2Pipeline` calls the compiled graph itself."""
        raise NotImplementedError("GPT2Pipeline runs the model")

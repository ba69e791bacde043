"""OpenVINO GenAI's `LLMPipeline` with the model that optimum exports, float32."""

from collections.abc import Callable
from pathlib import Path

CONVERTED = "openvino"


def convert(folder: str, target: Path) -> None:
    """Export the model, with float32 weights."""
    from optimum.exporters.openvino import main_export
    from optimum.intel import OVConfig

    main_export(
        folder,
        target / CONVERTED,
        task="text-generation-with-past",
        library_name="transformers",
        convert_tokenizer=False,
        ov_config=OVConfig(dtype="fp32"),
    )


def load(folder: str) -> Callable[[list[list[int]], int], list[list[int]]]:
    """Load the exported model."""
    import numpy as np
    import openvino
    import openvino_genai

    options = {"INFERENCE_NUM_THREADS": 2, "INFERENCE_PRECISION_HINT": "f32"}
    model = openvino_genai.LLMPipeline(f"{folder}/{CONVERTED}", "CPU", **options)

    def generate(prompts: list[list[int]], new: int) -> list[list[int]]:
        settings = openvino_genai.GenerationConfig()
        settings.max_new_tokens = settings.min_new_tokens = new
        settings.ignore_eos, settings.do_sample, settings.apply_chat_template = True, False, False
        settings.eos_token_id = 0  # must be set
        ids = np.array(prompts, np.int64)
        inputs = openvino_genai.TokenizedInputs(openvino.Tensor(ids), openvino.Tensor(np.ones_like(ids)))
        return [list(row) for row in model.generate(inputs, settings).tokens]

    return generate

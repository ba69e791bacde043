"""OpenVINO GenAI's `LLMPipeline` with the model that optimum exports, float32."""

from collections.abc import Callable
from pathlib import Path

CONVERTED = "openvino"


def convert(folder: str, target: Path) -> None:
    """Export the model, its weights as they are."""
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
    """Load what was exported."""
    import numpy as np
    import openvino
    import openvino_genai

    options = {"INFERENCE_NUM_THREADS": 2, "INFERENCE_PRECISION_HINT": "f32"}
    model = openvino_genai.LLMPipeline(f"{folder}/{CONVERTED}", "CPU", **options)

    def generate(prompts: list[list[int]], new: int) -> list[list[int]]:
        how = openvino_genai.GenerationConfig()
        how.max_new_tokens = how.min_new_tokens = new
        how.ignore_eos, how.do_sample, how.apply_chat_template = True, False, False
        how.eos_token_id = 0  # it wants one
        ids = np.array(prompts, np.int64)
        inputs = openvino_genai.TokenizedInputs(openvino.Tensor(ids), openvino.Tensor(np.ones_like(ids)))
        return [list(row) for row in model.generate(inputs, how).tokens]

    return generate

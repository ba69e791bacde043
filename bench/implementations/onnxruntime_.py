"""ONNX Runtime with the graph that optimum exports, float32."""

import json
from collections.abc import Callable
from pathlib import Path

CONVERTED = "onnx"


def convert(folder: str, target: Path) -> None:
    """Export the graph with its key-value cache."""
    from optimum.exporters.onnx import main_export

    main_export(
        folder, target / CONVERTED, task="text-generation-with-past", dtype="fp32", do_validation=False, optimize="O2"
    )


def load(folder: str) -> Callable[[list[list[int]], int], list[list[int]]]:
    """Load the exported graph."""
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = 2, 1
    path = f"{folder}/{CONVERTED}/model.onnx"
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    inputs = [one.name for one in session.get_inputs()]
    outputs = [one.name for one in session.get_outputs()]
    config = json.loads((Path(folder) / "config.json").read_text())
    heads = config["n_head"]
    empty = np.zeros((1, heads, 0, config["n_embd"] // heads), np.float32)

    def generate(prompts: list[list[int]], new: int) -> list[list[int]]:
        ids, length, written = np.array(prompts, np.int64), 0, []
        batch = len(prompts)
        nothing = onnxruntime.OrtValue.ortvalue_from_numpy(np.repeat(empty, batch, axis=0))
        cache = {name: nothing for name in inputs if name.startswith("past_key_values")}
        for _ in range(new):
            total = length + ids.shape[1]
            binding = session.io_binding()
            plain = {
                "input_ids": ids,
                "attention_mask": np.ones((batch, total), np.int64),
                "position_ids": np.repeat(np.arange(length, total)[None], batch, axis=0),
            }
            for name, array in plain.items():
                if name in inputs:
                    binding.bind_cpu_input(name, array)
            for name, value in cache.items():
                binding.bind_ortvalue_input(name, value)
            for name in outputs:
                binding.bind_output(name, "cpu")
            session.run_with_iobinding(binding)
            found = dict(zip(outputs, binding.get_outputs(), strict=True))
            cache = {name: found[name.replace("past_key_values", "present")] for name in cache}
            ids = found["logits"].numpy()[:, -1].argmax(-1)[:, None].astype(np.int64)
            written.append(ids)
            length = total
        return np.concatenate(written, axis=1).tolist()

    return generate

"""The option --weights of the commands that load a model."""

import json
from pathlib import Path
from typing import Any, get_args

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType

from fixtures.checkpoints import Tensors, edit_weights
from fixtures.formats import linear_state, write_gguf
from max_gpt2 import GPT2
from max_gpt2.checkpoint import load
from max_gpt2.cli.options import DEFAULT_WEIGHTS, WhichWeights
from max_gpt2.errors import CheckpointError, RequestError
from max_gpt2.weights import types
from tests.support.cli import Cli, refused

COMMANDS = [
    *("generate", "beams", "score", "perplexity", "golden", "activations", "xray", "eval", "verify", "serve"),
    *("warmup", "info"),
]


def test_options_are_those_of_the_library() -> None:
    assert get_args(get_args(WhichWeights)[0]) == get_args(types.WeightsOption)
    assert DEFAULT_WEIGHTS == types.DEFAULT_WEIGHTS
    assert set(get_args(types.WeightsOption)) == {"auto", *types.OPTION_TYPES}
    assert set(types.OPTION_TYPES.values()) == set(types.TYPES)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_that_loads_a_model_has_the_option(cli: Cli, command: str) -> None:
    assert "--weights" in cli(command, "--help").out


def dequantise_by_gguf(tensors: Tensors) -> None:
    """Round the matrices of the tiny checkpoint as --weights q8_0 does: rows of 24 values become float16."""
    q8_0 = GGMLQuantizationType.Q8_0
    for name, value in tensors.items():
        if name.endswith("mlp.c_proj.weight"):
            rows = np.ascontiguousarray(value.T)
            tensors[name] = np.ascontiguousarray(gguf.quants.dequantize(gguf.quants.quantize(rows, q8_0), q8_0).T)
        elif value.ndim == 2 and "wpe" not in name:
            tensors[name] = value.astype(np.float16).astype(np.float32)


def test_scores_are_bitwise_those_of_the_dequantised_checkpoint(cli: Cli, tiny: Path) -> None:
    def score(*options: object) -> Any:
        outcome = cli("score", "The dog was lazy", "--model", tiny, "--json", *options)
        assert ("F32 rounded to F16, F32 rounded to Q8_0" in outcome.err) == bool(options)
        return [unit["logprob"] for unit in json.loads(outcome.out)["units"]]

    exact, quantised = score(), score("--weights", "q8_0")
    edit_weights(tiny, dequantise_by_gguf)
    assert score() == quantised != exact


def test_verify_compares_with_the_dequantised_weights(cli: Cli, tiny: Path) -> None:
    result = json.loads(cli("verify", "--model", tiny, "--weights", "q8_0", "--json").out)
    assert result["passed"]
    assert "loaded by max-gpt2 (F32 rounded to F16, F32 rounded to Q8_0)" in result["reference"]


def test_info_shows_the_types_and_sizes(cli: Cli, tmp_path: Path) -> None:
    weights = linear_state(n_embd=96, n_layer=2)
    file = write_gguf(tmp_path / "gpt2.gguf", weights, quantised=GGMLQuantizationType.Q8_0)
    stored = sum(
        value.size // 32 * 34 if value.ndim == 2 else 4 * value.size
        for name, value in weights.items()
        if name != "lm_head.weight"
    )
    exact = json.loads(cli("info", "--model", file, "--weights", "float32", "--json").out)
    assert (exact["stored_bytes"], exact["memory_dtypes"]) == (stored, ["F32"])
    assert exact["memory_bytes"] == exact["float32_bytes"]
    kept = json.loads(cli("info", "--model", file, "--weights", "auto", "--json").out)
    positions = weights["transformer.wpe.weight"].size
    assert kept["memory_bytes"] == stored + 4 * positions - positions // 32 * 34
    assert (kept["memory_dtypes"], kept["rounded"]) == (["F32", "Q8_0"], {})
    assert kept["dequantised"] == {"position_embd.weight": "Q8_0, dequantised to float32"}
    rounded = json.loads(cli("info", "--model", file, "--weights", "q4_0", "--json").out)["rounded"]
    assert rounded["blk.0.ffn_up.weight"] == "Q8_0, rounded to Q4_0"
    assert "rounded to Q4_0" in cli("info", "--model", file, "--weights", "q4_0").out


def test_unknown_type_is_refused(cli: Cli) -> None:
    outcome = cli("generate", "x", "--weights", "q3_k")
    assert outcome.code == 2
    assert "'q3_k' is not one of 'auto', 'float32'" in " ".join(outcome.err.replace("│", " ").split())
    with pytest.raises(RequestError, match="'q3_k' is unknown"):
        GPT2.from_pretrained("demo", weights="q3_k")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--weights", "q4_k"), "is F16 and cannot be converted to Q4_K: the gguf package makes no K-quants"),
        (("--weights", "q8_0", "--kernels", "builtin"), "The builtin kernels compute with float32 weights, not q8_0"),
    ],
)
def test_types_that_cannot_be_used_are_refused(cli: Cli, options: tuple[str, ...], expected: str) -> None:
    assert expected in refused(cli("generate", "x", *options))


def test_weights_that_do_not_fit_into_the_memory_are_refused(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = load.inspect_checkpoint(tiny)[2]
    monkeypatch.setattr(load, "memory", lambda: (1, 1))
    load.load_weights(plan, "auto")  # mapped
    with pytest.raises(CheckpointError, match=r"need 0.0 GB of memory with the type float16, but 0.0 GB are available"):
        load.load_weights(plan, "float16")

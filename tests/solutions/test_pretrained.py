"""Loading Hugging Face's state dict into the tutorial's model, and calling it with Tensors and arrays."""

import re
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
from max.driver import CPU
from max.experimental.nn import Module
from max.experimental.tensor import Tensor

from fixtures.checkpoints import UNEVEN, as_linear, conv1d_weights, random_ids, reference_logits, reference_model
from solutions.pretrained import accepts_tensors, transpose_conv1d
from solutions.solution_01 import GPT2Config
from solutions.solution_13 import CompiledGPT2, MaxGPT2LMHeadModel
from solutions.solution_14 import generate_tokens

#: With different sizes for all Conv1D layers except `attn.c_proj`, which is square in every GPT-2.
SIZES = {name: UNEVEN[name] for name in ("vocab_size", "n_positions", "n_embd", "n_layer", "n_head")}


def new_model() -> MaxGPT2LMHeadModel:
    return MaxGPT2LMHeadModel(GPT2Config(**SIZES))


def parameters(model: MaxGPT2LMHeadModel) -> dict[str, np.ndarray]:
    assert all(tensor.real for _, tensor in model.parameters)
    return {name: tensor.to_numpy() for name, tensor in model.parameters}


@pytest.mark.parametrize("times", [0, 2])
def test_weights_that_are_not_transposed_name_the_layers_and_the_function(times: int) -> None:
    state = reference_model().state_dict()
    for _ in range(times):
        state = transpose_conv1d(state)
    message = (
        "transformer.h.0.attn.c_attn.weight is [24, 72] but has to be [72, 24]. Hugging Face keeps c_attn, c_proj and "
        "c_fc as Conv1D layers, which store their weights transposed. Transpose them before loading, once: "
        "load_state_dict(transpose_conv1d(state_dict)), with transpose_conv1d from solutions.pretrained."
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        new_model().load_state_dict(state)


def test_each_conv1d_alone_is_recognized_when_it_is_not_transposed() -> None:
    state = reference_model().state_dict()
    transposed = transpose_conv1d(state)
    changed = [name for name in state if state[name].shape != transposed[name].shape]
    assert len(changed) == 3 * SIZES["n_layer"]
    for name in changed:
        with pytest.raises(ValueError, match=f"^{re.escape(name)} is .* Conv1D"):
            new_model().load_state_dict(transposed | {name: state[name]})


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64"])
@pytest.mark.parametrize("kind", ["torch", "parameter", "numpy"])
def test_weights_of_any_float_type_load_as_float32(kind: str, dtype: str) -> None:
    reference = reference_model()
    stored: dict[str, Any] = {name: tensor.to(getattr(torch, dtype)) for name, tensor in reference.state_dict().items()}
    expected = {name: tensor.float().numpy() for name, tensor in stored.items()}
    if kind == "parameter":
        stored = {name: torch.nn.Parameter(tensor) for name, tensor in stored.items()}
    elif kind == "numpy":
        numpy_type = ml_dtypes.bfloat16 if dtype == "bfloat16" else np.dtype(dtype)
        stored = {name: tensor.double().numpy().astype(numpy_type) for name, tensor in stored.items()}
    model = new_model()
    model.load_state_dict(transpose_conv1d(stored))
    loaded = parameters(model)
    assert loaded.keys() == expected.keys()
    for name, array in as_linear(expected).items():
        assert loaded[name].dtype == np.float32
        np.testing.assert_array_equal(loaded[name], array, err_msg=name)


def test_transposed_weights_are_those_of_each_layer() -> None:
    """The expected weights come from the outputs of PyTorch's layers, not from their names."""
    reference = reference_model()
    expected = as_linear(conv1d_weights(reference))
    for name, array in transpose_conv1d(reference.state_dict()).items():
        np.testing.assert_allclose(array, expected[name], rtol=0, atol=1e-6, err_msg=name)


def test_max_tensors_load() -> None:
    state = transpose_conv1d(reference_model().state_dict())
    model = new_model()
    model.load_state_dict({name: Tensor.from_dlpack(array) for name, array in state.items()})
    np.testing.assert_array_equal(parameters(model)["lm_head.weight"], state["lm_head.weight"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lm_head.weight": None}, "lm_head.weight"),
        ({"other.weight": np.zeros(3, np.float32)}, "other.weight"),
        ({"lm_head.weight": np.zeros((310, 24), np.float32)}, "310"),
        ({"lm_head.weight": np.zeros((311, 24), np.int8)}, "int8"),
        ({"lm_head.weight": torch.zeros(311, 24, dtype=torch.int8)}, "int8"),
    ],
)
def test_other_differences_are_still_errors(change: dict[str, Any], message: str) -> None:
    state = {
        name: value
        for name, value in (transpose_conv1d(reference_model().state_dict()) | change).items()
        if value is not None
    }
    with pytest.raises((ValueError, KeyError), match=message):
        new_model().load_state_dict(state)


def test_to_computes_nothing_before_the_weights_are_loaded() -> None:
    model = new_model()
    assert model.to(CPU()) is model
    assert not any(tensor.real for _, tensor in model.parameters)
    model.load_state_dict(transpose_conv1d(reference_model().state_dict()))
    before = dict(model.parameters)
    model.to(CPU())
    assert all(tensor is before[name] for name, tensor in model.parameters)
    assert model.device == model.lm_head.device == CPU()


def test_loaded_weights_move_to_the_device_that_was_set_before(monkeypatch: pytest.MonkeyPatch) -> None:
    moved: list[object] = []
    monkeypatch.setattr(Module, "to", lambda _self, target: moved.append(target))
    model = new_model()
    model.to(CPU())
    assert not moved
    model.load_state_dict(transpose_conv1d(reference_model().state_dict()))
    assert moved == [CPU()]


class Recorder(MaxGPT2LMHeadModel):
    """A model with a fixed compiled program that counts how often it is compiled."""

    program: Any
    compilations = 0

    def compiled(self) -> Any:
        self.compilations += 1
        return self.program


@pytest.fixture
def recorder(tutorial_model: CompiledGPT2) -> Recorder:
    model = Recorder(tutorial_model.config)
    model.load_state_dict(transpose_conv1d(reference_model().state_dict()))
    model.program = tutorial_model
    return model


def test_first_call_compiles_and_says_so(recorder: Recorder, capsys: pytest.CaptureFixture[str]) -> None:
    for ids in (random_ids(1, 1), random_ids(3, 9), random_ids(1, UNEVEN["n_positions"])):
        np.testing.assert_allclose(recorder(ids), reference_logits(reference_model(), ids), rtol=0, atol=1e-4)
    assert recorder.compilations == 1
    shown = capsys.readouterr()
    assert not shown.out
    assert re.fullmatch(r"Compiling Recorder for any batch size and length, [^\n]*\n", shown.err)


def test_model_takes_and_returns_arrays_or_tensors(recorder: Recorder) -> None:
    ids = random_ids(2, 5)
    expected = recorder(ids)
    assert isinstance(expected, np.ndarray)
    for given in (ids.tolist(), ids.astype(np.int32), np.asfortranarray(ids), np.broadcast_to(ids, ids.shape)):
        np.testing.assert_array_equal(recorder(given), expected)
    logits = recorder(Tensor.from_dlpack(ids))
    assert isinstance(logits, Tensor)
    np.testing.assert_array_equal(np.from_dlpack(logits.to(CPU())), expected)


def test_new_weights_are_compiled_again(recorder: Recorder) -> None:
    ids = random_ids(1, 2)
    recorder(ids)
    recorder.load_state_dict(transpose_conv1d(reference_model().state_dict()))
    recorder(ids)
    assert recorder.compilations == 2
    recorder.to(CPU())
    recorder(ids)
    assert recorder.compilations == 2
    recorder.lm_head.weight = Tensor.from_dlpack(np.zeros((311, 24), dtype=np.float32))
    recorder(ids)
    assert recorder.compilations == 3


def test_generation_returns_what_it_was_given(recorder: Recorder, tutorial_model: CompiledGPT2) -> None:
    ids = random_ids(2, 4)
    expected = generate_tokens(tutorial_model, ids, 6, temperature=1.2, seed=3)
    assert isinstance(expected, np.ndarray)
    for model in (recorder, tutorial_model):
        np.testing.assert_array_equal(generate_tokens(model, ids, 6, temperature=1.2, seed=3), expected)
        for new_tokens in (0, 6):
            given: Any = Tensor.from_dlpack(ids)
            generated: Any = generate_tokens(model, given, max_new_tokens=new_tokens, temperature=1.2, seed=3)
            assert isinstance(generated, Tensor)
            assert generated.device == CPU()
            np.testing.assert_array_equal(np.from_dlpack(generated.to(CPU())), expected[:, : 4 + new_tokens])


def test_accepts_tensors_converts_only_tensors() -> None:
    @accepts_tensors
    def reverse(first: np.ndarray, *, second: np.ndarray) -> np.ndarray:
        assert type(first) is type(second) is np.ndarray
        return (first + second)[::-1]

    ones = np.ones(3, dtype=np.float32)
    assert isinstance(reverse(ones, second=ones), np.ndarray)
    for first, second in ((Tensor.from_dlpack(ones), ones), (ones, Tensor.from_dlpack(ones))):
        assert isinstance(reverse(first, second=second), Tensor)  # type: ignore[arg-type]
    assert reverse.__name__ == "reverse"

"""Given, not a step: load the weights of Hugging Face, and call a model with Tensors or with numpy arrays."""

import functools
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, ParamSpec, Self

import numpy as np
from max.driver import Device
from max.experimental.nn import Module
from max.experimental.realization_context import in_graph_context
from max.experimental.sharding import DeviceMapping, DeviceMesh
from max.experimental.tensor import Tensor

#: The layers that Hugging Face keeps as Conv1D, with a weight of [in, out]. `Linear` has [out, in].
CONV1D = ("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")

P = ParamSpec("P")


def transpose_conv1d(state_dict: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return a Hugging Face state dict as arrays, with the weight of each Conv1D transposed: [in, out] -> [out, in].

    The values may be numpy arrays, MAX Tensors or torch tensors. The weights are chosen by name: `attn.c_proj` is
    square, so its shape does not reveal the layout.
    """
    arrays = {name: as_array(value) for name, value in state_dict.items()}
    return {name: np.ascontiguousarray(array.T) if name.endswith(CONV1D) else array for name, array in arrays.items()}


def as_array(weight: Any) -> np.ndarray:
    """Return a numpy array, MAX Tensor or torch tensor as a contiguous array; floating-point values as float32."""
    if isinstance(weight, Tensor):
        weight = weight.to_numpy()
    elif hasattr(weight, "is_floating_point"):  # a torch tensor; numpy has no bfloat16
        weight = (weight.float() if weight.is_floating_point() else weight).numpy(force=True)
    array = np.asarray(weight)
    return np.ascontiguousarray(array, dtype=array.dtype if array.dtype.kind in "biu" else np.float32)


def accepts_tensors(function: Callable[P, np.ndarray]) -> Callable[P, Any]:
    """Let a function of numpy arrays take a MAX Tensor as well; it then returns a Tensor on the same device."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> Any:
        devices = [value.device for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
        if not devices:
            return function(*args, **kwargs)
        arrays: Any = [value.to_numpy() if isinstance(value, Tensor) else value for value in args]
        named: Any = {name: value.to_numpy() if isinstance(value, Tensor) else value for name, value in kwargs.items()}
        return Tensor.from_dlpack(np.ascontiguousarray(function(*arrays, **named))).to(devices[0])

    return call


@dataclass(frozen=True)
class Program:
    """A compiled model and the weights that it was compiled with."""

    run: Callable[[np.ndarray], np.ndarray]
    weights: list[Tensor]

    def has(self, weights: list[Tensor]) -> bool:
        """Return True if it was compiled with these weights."""
        return all(old is new for old, new in zip_longest(self.weights, weights))


class PretrainedModel(Module[[Tensor], Tensor]):
    """A module that takes Hugging Face's weights and compiles itself when it is first called."""

    _program: Program | None = None

    def compiled(self) -> Callable[[np.ndarray], np.ndarray]:
        """Compile for any batch size and length; each model implements this itself."""
        raise NotImplementedError

    def __call__(self, input_ids: Any) -> Any:
        """Return the logits after every token, [batch, seq] -> [batch, seq, vocab]: an array, or a Tensor for a Tensor.

        The first call compiles the model, and so does the first call after its weights were replaced.
        """
        if in_graph_context():  # `compile` traces the model
            return self.forward(input_ids)
        weights = [weight for _, weight in self.parameters]
        if self._program is None or not self._program.has(weights):
            name = type(self).__name__
            print(f"Compiling {name} for any batch size and length, a minute or more the first time", file=sys.stderr)
            self._program = Program(self.compiled(), weights)
        return accepts_tensors(self._program.run)(input_ids)

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True, *, auto_cast: bool = False) -> None:
        """Load weights in the layout of `Linear`: numpy arrays, MAX Tensors or torch tensors of any float dtype.

        Raises ValueError if the weights of Conv1D layers have not been transposed, and if a name or shape differs.
        """
        for name, weight in self.parameters:
            needed, found = tuple(int(length) for length in weight.shape), tuple(getattr(state.get(name), "shape", ()))
            if name.endswith(CONV1D) and needed != found == needed[::-1]:
                raise ValueError(
                    f"{name} is {list(found)} but has to be {list(needed)}. Hugging Face keeps c_attn, c_proj and c_fc "
                    "as Conv1D layers, which store their weights transposed. Transpose them before loading, once: "
                    "load_state_dict(transpose_conv1d(state_dict)), with transpose_conv1d from solutions.pretrained."
                )
        arrays = {name: as_array(value) for name, value in state.items()}
        super().load_state_dict(arrays, strict, auto_cast=auto_cast)
        super().to(self.device)

    def to(self, target: Device | DeviceMesh | DeviceMapping) -> Self:
        """Move the model to a device; weights that are not loaded yet will be moved when they are.

        Until then they are lazy tensors. MAX would compute them in order to move them, which takes about a minute.
        """
        if isinstance(target, Device) and not all(weight.real for _, weight in self.parameters):
            self.device = target
            return self
        return super().to(target)

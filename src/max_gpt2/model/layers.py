"""The layers with weights."""

from max.experimental.nn import Module
from max.experimental.tensor import Tensor

from max_gpt2.config import Activation
from max_gpt2.model.operations import Operations


class Conv1D(Module[[Tensor], Tensor]):
    """A linear layer whose weight is stored [in, out], as OpenAI's code had it: activation(x @ weight + bias)."""

    def __init__(self, inputs: int, outputs: int, operations: Operations, activation: Activation = "none") -> None:
        """Make room for `weight` [inputs, outputs] and `bias` [outputs]."""
        self.weight = Tensor.zeros([inputs, outputs])
        self.bias = Tensor.zeros([outputs])
        self.operations = operations
        self.activation: Activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """Apply it to every token: [tokens, inputs] -> [tokens, outputs]."""
        return self.operations.linear(x, self.weight, self.bias, self.activation)


class LayerNorm(Module[[Tensor], Tensor]):
    """(x - mean) / sqrt(var + eps) * weight + bias over the last axis: Ba et al. 2016."""

    def __init__(self, dim: int, eps: float, operations: Operations) -> None:
        """Make room for `weight` and `bias`, both [dim]."""
        self.weight = Tensor.ones([dim])
        self.bias = Tensor.zeros([dim])
        self.eps = eps
        self.operations = operations

    def forward(self, x: Tensor) -> Tensor:
        """Normalize: [tokens, dim] -> [tokens, dim]."""
        return self.operations.layer_norm(x, self.weight, self.bias, self.eps)


class Table(Module[[], Tensor]):
    """Learned vectors, one for each number."""

    def __init__(self, rows: int, n_embd: int) -> None:
        """Make room for `weight` [rows, n_embd]."""
        self.weight = Tensor.zeros([rows, n_embd])

    def forward(self) -> Tensor:
        """Return the table: [rows, n_embd]."""
        return self.weight

"""The figures of the book: a function a figure, which takes a shade and returns the drawing."""

from collections.abc import Callable

from matplotlib.figure import Figure

from tools.figures.attention import causal_mask, heads
from tools.figures.block import block
from tools.figures.cost import cache
from tools.figures.curves import gelu, softmax_temperature
from tools.figures.layout import layout
from tools.figures.shade import Shade
from tools.figures.stream import layer_norm, residual_stream
from tools.figures.tables import embeddings

FIGURES: dict[str, Callable[[Shade], Figure]] = {
    "causal_mask": causal_mask,
    "layer_norm": layer_norm,
    "gelu": gelu,
    "embeddings": embeddings,
    "heads": heads,
    "residual_stream": residual_stream,
    "block": block,
    "softmax_temperature": softmax_temperature,
    "layout": layout,
    "cache": cache,
}

"""The operations of GPT-2 for a CPU, of any SIMD width and any number of cores."""

from .attention import *
from .block import *
from .embed import *
from .layer_norm import *
from .linear import *
from .logits import *

"""The operations of GPT-2 for a CPU of any SIMD width and any number of cores, to be called from a MAX graph.

`tuning.mojo` has all constants. Start with `transformer.mojo`, which calls everything but the head.
"""

from .attention import *
from .embedding import *
from .layer_norm import *
from .linear import *
from .logits import *
from .token_scores import *
from .transformer import *

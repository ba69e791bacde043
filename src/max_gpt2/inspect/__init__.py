"""Look inside a model: read its activations, and change them while it runs."""

from max_gpt2.inspect.edits import Edit, ablate_head, mean_ablate, patch, replace, scale, scale_head, steer, zero
from max_gpt2.inspect.lens import Attribution, LogitLens, attribution, logit_lens
from max_gpt2.inspect.probes import probe_names
from max_gpt2.inspect.trace import Trace, Tracer

__all__ = [
    "Attribution",
    "Edit",
    "LogitLens",
    "Trace",
    "Tracer",
    "ablate_head",
    "attribution",
    "logit_lens",
    "mean_ablate",
    "patch",
    "probe_names",
    "replace",
    "scale",
    "scale_head",
    "steer",
    "zero",
]

"""How a request's tokens are chosen, in the engine's terms."""

import json
from typing import Any

from max.pipelines.context import TextContext

from max_gpt2.generation.params import Sampling

#: The name of our own fields in a request's `dkv_cache_hint`, which MAX hands on unread: `seed` and `logit_bias`.
HINT = "max_gpt2"


def sampling_of(text: TextContext) -> tuple[Sampling, int]:
    """Return how the tokens of a text are chosen, and its seed; MAX itself knows no `logit_bias`, and no seed 0.

    Raises RequestError for what cannot be carried out.
    """
    asked, ours = text.sampling_params, _hint(text.dkv_cache_hint)
    seed = int(ours.get("seed", asked.seed))
    sampling = Sampling(
        temperature=asked.temperature,
        top_k=max(0, asked.top_k),
        top_p=asked.top_p,
        min_p=asked.min_p,
        repetition_penalty=asked.repetition_penalty,
        presence_penalty=asked.presence_penalty,
        frequency_penalty=asked.frequency_penalty,
        logit_bias={int(id_): float(amount) for id_, amount in (ours.get("logit_bias") or {}).items()},
        min_new_tokens=asked.min_new_tokens,
        seed=seed,
    )
    return sampling, seed


def _hint(content: bytes | None) -> dict[str, Any]:
    """Return our fields, none if there are none that can be read."""
    try:
        found = json.loads(content or b"{}")
    except ValueError:
        return {}
    ours = found.get(HINT) if isinstance(found, dict) else None
    return ours if isinstance(ours, dict) else {}

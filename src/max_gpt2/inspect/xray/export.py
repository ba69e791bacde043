"""The page as one file: the answers to what it asks, computed in advance."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from max_gpt2.inspect.xray.analysis import Analysis
from max_gpt2.inspect.xray.app import Start, page_info
from max_gpt2.inspect.xray.page import file_page
from max_gpt2.inspect.xray.state import State

#: The largest share of the file for each of: the distributions after all tokens, and the attention of all heads.
_MOST_BYTES = 16 << 20
_THUMBNAIL = 64


def export(model: Analysis, text: str, bos: bool) -> str:
    """Return the page of a text as one file of HTML that needs no server.

    Distributions of the next token are those of all positions if they fit into 16 MiB, else of the last one; the
    patterns of heads are exact if all of them fit into 16 MiB, else small pictures. Raises RequestError for a text that
    is empty or longer than the context.
    """
    state = State(tuple(model.encode(text, bos)["ids"]))
    return file_page({"page": page_info([model], Start(text, bos), file=True), "answers": dict(_answers(model, state))})


def _answers(model: Analysis, state: State) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the answers by the keys under which the page looks for them."""
    config, seq = model.tracer.config, len(state.ids)
    view = model.view(state)
    yield "view", view
    yield "lens", model.lens(state)
    yield "norms", model.norms(state)
    every = 4 * config.vocab_size * seq <= _MOST_BYTES
    for position in range(0 if every else seq - 1, seq):
        yield f"next:{position}", model.next(state, position)
    targets = np.array([*state.ids[1:], view["next_id"]]).tolist()
    for position, token in enumerate(targets):
        yield f"attribution:{position}:{token}", model.attribution(state, token, None, position)
    exact = 4 * seq * seq * config.n_head * config.n_layer <= _MOST_BYTES
    for layer in range(config.n_layer):
        yield f"attention:{layer}", model.attention(state, layer, _THUMBNAIL)
        if exact:
            for head in range(config.n_head):
                yield f"head:{layer}:{head}", model.head(state, layer, head)

from collections.abc import Iterator
from pathlib import Path

import pytest

from max_gpt2.generation import open_model
from max_gpt2.serve.settings import ServedModel
from tests.serve.frontend.servers import Api, api


@pytest.fixture(scope="session")
def served(tiny_original: Path) -> ServedModel:
    opened = open_model(tiny_original)
    return ServedModel("tiny", opened.config, opened.tokenizer)


@pytest.fixture(scope="session")
def shared(served: ServedModel) -> Iterator[Api]:
    """A frontend for tests that do not change its state."""
    with api(served) as made:
        yield made

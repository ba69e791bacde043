import pytest

from max_gpt2.checkpoint import Checkpoint
from max_gpt2.generation import Engine
from max_gpt2.model import CompiledModel


@pytest.fixture(scope="session")
def engine(tiny_model: CompiledModel, tiny_checkpoint: Checkpoint) -> Engine:
    return Engine(tiny_model, tiny_checkpoint.tokenizer)

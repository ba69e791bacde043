import pytest

from max_gpt2.checkpoint import Checkpoint
from max_gpt2.model.compile_cache import load_or_compile_scoring
from max_gpt2.scoring import Scorer
from tests.scoring.fakes import FakeModel


@pytest.fixture(scope="session")
def scorer(tiny_checkpoint: Checkpoint) -> Scorer:
    """The tiny checkpoint in MAX."""
    model = load_or_compile_scoring(tiny_checkpoint.config, tiny_checkpoint.state_dict)
    return Scorer(tiny_checkpoint.config, tiny_checkpoint.tokenizer, model)


@pytest.fixture(scope="session")
def fake_scorer(tiny_checkpoint: Checkpoint) -> Scorer:
    """A scorer with the tiny checkpoint's config and tokenizer, whose logits depend on the inputs only."""
    config = tiny_checkpoint.config
    return Scorer(config, tiny_checkpoint.tokenizer, FakeModel(config.vocab_size))

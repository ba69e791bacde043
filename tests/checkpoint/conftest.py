"""What transformers has to say of a folder."""

import logging
from collections.abc import Iterator

import pytest
import transformers


@pytest.fixture
def warned() -> Iterator[list[str]]:
    """What transformers logs meanwhile, at the level that people have, also what it says only once."""
    messages: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())

    handler, logger = Handler(), transformers.utils.logging.get_logger("transformers")
    level = transformers.utils.logging.get_verbosity()
    transformers.utils.logging.set_verbosity_warning()
    transformers.utils.logging.warning_once.cache_clear()
    logger.addHandler(handler)
    yield messages
    logger.removeHandler(handler)
    transformers.utils.logging.set_verbosity(level)

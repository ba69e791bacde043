import logging
from collections.abc import Iterator

import pytest
import transformers


@pytest.fixture
def transformers_warnings() -> Iterator[list[str]]:
    """Collect the warnings that transformers logs at its default level, including those it logs only once."""
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

"""The book, built once for all tests."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.book.pages import BOOK


def build(config: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Build a book into a folder, as `make book-build` does."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--config-file", config, "--site-dir", folder]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built book: a folder."""
    folder = tmp_path_factory.mktemp("book") / "site"
    done = build(BOOK / "mkdocs.yml", folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder

"""Fixtures of the tests of the book: the built site and a Hugging Face cache."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.book.pages import ROOT
from tests.support.hub import fill_cache


def build(config: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Build the site of a mkdocs.yml into a folder, as `make docs-build` does."""
    command: list[str | Path] = [sys.executable, "-m", "mkdocs", "build", "--strict"]
    command += ["--config-file", config, "--site-dir", folder]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the built site."""
    folder = tmp_path_factory.mktemp("book") / "site"
    done = build(ROOT / "mkdocs.yml", folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="session")
def hub(tiny_original: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for HF_HOME with a tiny checkpoint cached as `gpt2`."""
    folder = tmp_path_factory.mktemp("hub")
    fill_cache(folder / "hub", "openai-community/gpt2", tiny_original)
    return folder

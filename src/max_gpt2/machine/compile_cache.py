"""The folder of compiled models."""

import importlib
from pathlib import Path


def cache_folder() -> Path | None:
    """Return the folder as MAX itself finds it; None without MAX."""
    try:
        return Path(importlib.import_module("max._core").engine.max_cache_dir())
    except Exception:  # a MAX that is missing, damaged or another one: the doctor says so
        return None

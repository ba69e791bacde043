"""Find the chat template of a checkpoint, in the files and with the priority of transformers."""

import json
from pathlib import Path
from typing import Any

from max_gpt2.errors import ConfigError

#: The template to use when there are several.
_DEFAULT = "default"


def read_chat_template(folder: Path) -> tuple[str, str] | None:
    """Return the source of a folder's template and where it was found; None if it has none.

    Template files replace `chat_template` in `tokenizer_config.json`. Of several named templates, the one called
    "default" is used. Raises ConfigError when a file cannot be read, or when no template has this name.
    """
    found = _template_files(folder) or _from_config(folder / "tokenizer_config.json")
    if not found:
        return None
    if _DEFAULT not in found:
        raise ConfigError(
            f"{folder} has several chat templates ({', '.join(sorted(found))}), and none is called {_DEFAULT!r}. "
            "Choose one: --chat-template FILE."
        )
    return found[_DEFAULT]


def _template_files(folder: Path) -> dict[str, tuple[str, str]]:
    files = {file.stem: file for file in sorted(folder.glob("additional_chat_templates/*.jinja"))}
    if (single := folder / "chat_template.jinja").is_file():
        files = {_DEFAULT: single} | files
    return {name: (read_template(file), str(file)) for name, file in files.items()}


def _from_config(config: Path) -> dict[str, tuple[str, str]]:
    if not config.is_file():
        return {}
    try:
        value = json.loads(read_template(config)).get("chat_template")
    except (ValueError, AttributeError):
        return {}  # the tokenizer does not need this file
    where = f"chat_template in {config}"
    if isinstance(value, str):
        return {_DEFAULT: (value, where)}
    return {name: (source, f"{name!r}, a {where}") for name, source in _named(value).items()}


def _named(value: Any) -> dict[str, str]:
    """Return named templates, which are stored as a list of objects or as one object."""
    if isinstance(value, list):
        value = {one.get("name"): one.get("template") for one in value if isinstance(one, dict)}
    if not isinstance(value, dict):
        return {}
    return {name: source for name, source in value.items() if isinstance(name, str) and isinstance(source, str)}


def read_template(file: Path) -> str:
    """Return the text of a file; raises ConfigError when it cannot be read."""
    try:
        return file.read_bytes().decode()
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}. Specify a Jinja template.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file} is not UTF-8. Specify a Jinja template.") from error

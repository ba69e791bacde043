"""Locate a checkpoint: the bundled demo, a path, or a model of the Hugging Face hub in its cache."""

import os
import re
from pathlib import Path

from max_gpt2.errors import ModelNotFoundError

DEMO = Path(__file__).parent.parent / "demo"
#: Short names that are still in use. The hub moved these models to their authors' accounts.
MOVED = {
    "gpt2": "openai-community/gpt2",
    "gpt2-medium": "openai-community/gpt2-medium",
    "gpt2-large": "openai-community/gpt2-large",
    "gpt2-xl": "openai-community/gpt2-xl",
    "distilgpt2": "distilbert/distilgpt2",
}
#: The files to download. Repositories on the hub also contain the same weights in other formats.
FILES = (
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "model-*-of-*.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "added_tokens.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "additional_chat_templates/*.jinja",
)
#: Additional files to download if pickles are allowed and there are no safetensors.
PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json", "pytorch_model-*-of-*.bin")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
ALTERNATIVES = (
    "give a folder with the checkpoint, copy a Hugging Face cache from another machine, or use the bundled "
    "checkpoint (--model demo)"
)


def locate(model: str | Path, allow_pickle: bool = False) -> Path:
    """Return the path of "demo", a folder, a file of weights, or a hub id's folder in the cache, downloading if needed.

    Raises ModelNotFoundError when the model does not exist, or is neither cached nor can be downloaded.
    """
    if model == "demo":
        return DEMO
    name, folder = str(model), Path(os.path.expanduser(model))  # noqa: PTH111  (Path's own raises for ~nobody)
    if name and folder.exists():
        return folder
    folder = download(name, FILES)
    if allow_pickle and not any(folder.glob("model*.safetensors")):
        return download(name, (*FILES, *PICKLES))
    return folder


def download(name: str, files: tuple[str, ...]) -> Path:
    """Return the folder of a hub id in the cache, with its files that match `files`; raises ModelNotFoundError."""
    if not _HUB_ID.fullmatch(name) or name.startswith("."):
        raise ModelNotFoundError(f'"{name}" does not exist. Give an existing path, a hub id such as gpt2, or "demo".')
    import httpx  # takes a tenth of a second, which local checkpoints save
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    repo = name if _cached(name) else MOVED.get(name, name)
    try:
        return Path(huggingface_hub.snapshot_download(repo, allow_patterns=list(files)))
    except RepositoryNotFoundError as error:
        raise ModelNotFoundError(
            f"{name} is neither a local folder nor a public model on the Hugging Face hub. "
            "Check the spelling; for a private model, log in with `hf auth login`."
        ) from error
    except LocalEntryNotFoundError as error:
        why = "HF_HUB_OFFLINE is set" if _offline() else "the Hugging Face hub cannot be reached"
        raise ModelNotFoundError(f"{repo} is not in the cache and {why}: {ALTERNATIVES}.") from error
    except (HfHubHTTPError, httpx.HTTPError, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelNotFoundError(f"{repo} could not be downloaded ({reason}): {ALTERNATIVES}.") from error


def _cached(repo: str) -> bool:
    import huggingface_hub

    return isinstance(huggingface_hub.try_to_load_from_cache(repo, "config.json"), str)


def _offline() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}

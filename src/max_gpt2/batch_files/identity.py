"""What a run is: the same input, model and options again may go on where it stopped."""

import hashlib
import json
import zlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from max_gpt2.batch_files.lines import InputFile
from max_gpt2.errors import RequestError
from max_gpt2.files import write_text
from max_gpt2.generation import OpenedModel
from max_gpt2.json_text import json_text

_CHUNK = 1 << 20


def identity(command: str, source: InputFile, opened: OpenedModel, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return what decides about the output of a run, as JSON values."""
    facts = {"command": command, "input": source.sha256, "model": fingerprint(opened), "options": options}
    return json.loads(json_text(facts))


def fingerprint(opened: OpenedModel) -> str:
    """Return a hash of a model: its config, its tokenizer, and the checksums of its files of weights.

    The files are read once more when they are loaded; a checksum of each byte takes a part of that time.
    """
    digest = hashlib.sha256(json_text(asdict(opened.config)).encode())
    digest.update(opened.tokenizer.json.encode())
    for file in sorted({one.file for one in opened.plan.sources.values()}):
        checksum = 0
        with file.open("rb") as content:
            while chunk := content.read(_CHUNK):
                checksum = zlib.crc32(chunk, checksum)
        digest.update(f" {file.stat().st_size} {checksum}".encode())
    return digest.hexdigest()


def sidecar(output: Path) -> Path:
    """Return the name of the small file beside an output that says what it is of."""
    return output.with_name(f"{output.name}.run.json")


def write_identity(output: Path, run: Mapping[str, Any], seed: int) -> None:
    """Write the file beside an output; raises RequestError when that fails."""
    write_text(sidecar(output), json_text({**run, "seed": seed}) + "\n")


def read_seed(output: Path, run: Mapping[str, Any], seed: int | None) -> int:
    """Return the seed of the run that an output is of; raises RequestError when that is another run.

    A `seed` of None goes with any: nobody asked for another.
    """
    way_out = "Choose another --output, or add --force to replace it."
    beside = sidecar(output)
    try:
        recorded = json.loads(beside.read_bytes())
        found = int(recorded.pop("seed"))
    except FileNotFoundError as error:
        raise RequestError(f"{output} exists, and no {beside.name} says what it is of. {way_out}") from error
    except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise RequestError(f"{beside}, which says what {output.name} is of, is damaged. {way_out}") from error
    if other := [name for name in run if recorded.get(name) != run[name]]:
        raise RequestError(f"{output} is of another {' and another '.join(_named(other, recorded, run))}. {way_out}")
    if seed not in (None, found):
        raise RequestError(f"{output} is of another seed ({found}, now {seed}). {way_out}")
    return found


def _named(names: list[str], recorded: Mapping[str, Any], run: Mapping[str, Any]) -> list[str]:
    """Return the names of what is different; of the options each, with both values."""
    if names != ["options"] or not isinstance(recorded.get("options"), dict):
        return names
    before, now = recorded["options"], run["options"]
    return [f"{name} ({before.get(name)}, now {now[name]})" for name in now if before.get(name) != now[name]] or names

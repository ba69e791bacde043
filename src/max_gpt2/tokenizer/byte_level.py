"""GPT-2's byte-level BPE: its alphabet, and `tokenizer.json` for a vocabulary and merges."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

END_OF_TEXT = "<|endoftext|>"


def _byte_letters() -> dict[str, int]:
    """Return GPT-2's alphabet: printable bytes map to themselves, the others to characters from U+0100 on."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(plain)]
    table = {chr(byte): byte for byte in plain} | {chr(256 + index): byte for index, byte in enumerate(others)}
    assert table.keys() == set(pre_tokenizers.ByteLevel.alphabet())
    return table


#: The byte for each letter of the alphabet in which a byte-level BPE spells its tokens.
BYTE_LETTERS = _byte_letters()


def byte_level_content(
    vocab: Mapping[str, int], merges: Sequence[Sequence[str]], add_prefix_space: bool = False
) -> dict[str, Any]:
    """Return the content of a `tokenizer.json` for a vocabulary and merges, without added tokens."""
    # Insert the tokens into the JSON: the library prints to stdout when a vocabulary has gaps in its ids.
    frame = Tokenizer(models.BPE())
    frame.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
    frame.decoder = decoders.ByteLevel()
    content: dict[str, Any] = json.loads(frame.to_str())
    content["model"] |= {"vocab": dict(vocab), "merges": [list(pair) for pair in merges]}
    return content


def template(start: tuple[str, int] | None, end: tuple[str, int] | None) -> dict[str, Any]:
    """Return a post-processor that adds a start and an end token, given with their ids, to each text."""
    around = [[f"{one[0]}:{part}" if one else "" for one in (start, end)] for part in (0, 1)]
    single = [around[0][0], "$A:0", around[0][1]]
    pair = [*single, around[1][0], "$B:1", around[1][1]]
    frame = Tokenizer(models.BPE())
    frame.post_processor = processors.TemplateProcessing(
        [piece for piece in single if piece], [piece for piece in pair if piece], [one for one in (start, end) if one]
    )
    made: dict[str, Any] = json.loads(frame.to_str())["post_processor"]
    return made

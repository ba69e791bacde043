"""Tokenizer files of a converted folder: existing files are copied, missing ones are made."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

from fixtures.checkpoints import TEXT, edit_config, write_tokenizer
from max_gpt2.checkpoint import LoadOptions, load_checkpoint
from max_gpt2.checkpoint.convert import convert
from max_gpt2.tokenizer import GPT2Tokenizer
from tests.support.sources import contents, gguf_float32, llmc

ADDED = {"<speaker1>": 300, "<pad>": 301}
SPECIAL = {"bos_token": "<|endoftext|>", "pad_token": "<pad>"}
TEXTS = ["", TEXT, "<speaker1> Good  day<speaker1>\n\n🌍", "a<|endoftext|>b<pad>", " quick"]


def ids(folder: Path, text: str) -> list[int]:
    return transformers.AutoTokenizer.from_pretrained(folder)(text).input_ids


def without(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).unlink()
    return folder


def test_existing_files_are_copied_unchanged(tiny: Path, tmp_path: Path) -> None:
    (tiny / "chat_template.jinja").write_text("{{ messages }}")
    (tiny / "special_tokens_map.json").write_text('{"bos_token":   "<|endoftext|>"}')
    (tiny / "tokenizer_config.json").write_text('{"tokenizer_class": "GPT2Tokenizer", "model_max_length":   67}')
    (tiny / "README.md").write_text("something else")
    before, after = contents(tiny), contents(convert(tiny, tmp_path / "new").folder)
    made = {"model.safetensors", "config.json", "generation_config.json"}
    assert after.keys() == before.keys() - {"README.md"}
    assert {name: after[name] for name in after.keys() - made} == {name: before[name] for name in after.keys() - made}


@pytest.mark.filterwarnings(
    "ignore:Deprecated in 0.9.0. BPE:DeprecationWarning"
)  # raised when transformers 5 reads vocab.json
@pytest.mark.parametrize("start", [False, True])
def test_tokenizer_json_is_made_from_vocab_merges_and_added_tokens(
    tiny: Path, tmp_path: Path, transformers_warnings: list[str], start: bool
) -> None:
    without(tiny, "tokenizer.json")
    (tiny / "added_tokens.json").write_text(json.dumps(ADDED))
    (tiny / "special_tokens_map.json").write_text(json.dumps(SPECIAL))
    (tiny / "tokenizer_config.json").write_text(json.dumps({"add_bos_token": start}))
    new = convert(tiny, tmp_path / "new").folder
    ours = load_checkpoint(new).tokenizer
    for text in TEXTS:
        assert ids(new, text) == ids(tiny, text), text
        assert ours.encode(text) == load_checkpoint(tiny).tokenizer.encode(text)
    assert ids(new, "<speaker1>a<pad>")[-3:] == [300, *ours.encode("a"), 301]
    assert (ids(new, "a")[0] == 299) == start
    assert transformers_warnings == []


def test_vocab_merges_and_added_tokens_are_made_from_tokenizer_json(
    tiny: Path, tmp_path: Path, transformers_warnings: list[str]
) -> None:
    """Programs that do not read tokenizer.json need the other files."""
    content = json.loads((tiny / "tokenizer.json").read_text())
    content["added_tokens"].append(content["added_tokens"][0] | {"id": 300, "content": "<speaker1>", "special": False})
    del content["model"]["type"]  # as in early versions of the file
    content["model"]["vocab"] = dict(sorted(content["model"]["vocab"].items()))
    content["model"]["merges"] = [" ".join(pair) for pair in content["model"]["merges"]]
    (without(tiny, "vocab.json", "merges.txt") / "tokenizer.json").write_text(json.dumps(content))
    new = convert(tiny, tmp_path / "new").folder
    assert (new / "tokenizer.json").read_bytes() == (tiny / "tokenizer.json").read_bytes()
    for text in TEXTS:
        assert ids(new, text) == ids(tiny, text)
    assert list(json.loads((new / "vocab.json").read_text()).values()) == list(range(299))
    assert json.loads((new / "added_tokens.json").read_text()).items() >= {("<speaker1>", 300)}
    older = without(shutil.copytree(new, tmp_path / "older"), "tokenizer.json")
    ours, theirs = load_checkpoint(tiny).tokenizer, load_checkpoint(older).tokenizer
    for text in TEXTS:
        assert theirs.encode(text) == ours.encode(text)
    assert theirs.vocab == ours.vocab
    assert transformers_warnings == []


def test_tokenizer_option_supplies_all_tokenizer_files(tmp_path: Path) -> None:
    source = llmc(tmp_path).path
    (tmp_path / "tokenizer_config.json").write_text('{"not": "this"}')
    other = tmp_path / "other"
    other.mkdir()
    write_tokenizer(other, size=290)
    (other / "special_tokens_map.json").write_text("{}")
    after = contents(convert(source, tmp_path / "new", LoadOptions(tokenizer=other)).folder)
    assert {name: after[name] for name in contents(other)} == contents(other)
    assert b"not" not in after["tokenizer_config.json"]
    assert json.loads(after["config.json"])["eos_token_id"] == 289


def test_tokenizer_embedded_in_gguf_is_written(tmp_path: Path) -> None:
    source = gguf_float32(tmp_path).path
    (tmp_path / "tokenizer_config.json").write_text('{"not": "this"}')
    shutil.copy(tmp_path / "tokenizer-scratch" / "vocab.json", tmp_path / "special_tokens_map.json")
    after = contents(convert(source, tmp_path / "new").folder)
    assert "special_tokens_map.json" not in after
    before = contents(tmp_path / "tokenizer-scratch")
    assert json.loads(after["vocab.json"]) == json.loads(before["vocab.json"])
    assert after["merges.txt"] == before["merges.txt"]
    assert json.loads(after["tokenizer_config.json"]) == {
        "add_prefix_space": False,
        "bos_token": "<|endoftext|>",
        "eos_token": "<|endoftext|>",
        "model_max_length": 67,
        "tokenizer_class": "GPT2Tokenizer",
        "unk_token": "<|endoftext|>",
    }


@pytest.mark.filterwarnings("ignore:Deprecated in 0.9.0. BPE:DeprecationWarning")
def test_vocab_with_gaps_and_without_end_of_text_is_converted(
    tiny: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], transformers_warnings: list[str]
) -> None:
    """The tokenizers library prints a warning about gaps, and transformers adds a default end-of-text token."""
    (without(tiny, "tokenizer.json") / "vocab.json").write_text('{"a": 0, "b": 1, "ab": 200}')
    (tiny / "merges.txt").write_text("#version: 0.2\na b\n")
    edit_config(tiny, eos_token_id=None, bos_token_id=None)
    without(tiny, "generation_config.json")
    new = convert(tiny, tmp_path / "new").folder
    assert capfd.readouterr().out == ""
    assert ids(new, "abba") == [200, 1, 0] == load_checkpoint(new).tokenizer.encode("abba")
    assert len(transformers.AutoTokenizer.from_pretrained(new)) == 4
    assert transformers_warnings == []


def words() -> Tokenizer:
    tokenizer = Tokenizer(models.WordLevel({"the": 0, "dog": 1, "?": 2, "<end>": 3}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


def lowercase() -> Tokenizer:
    vocab = {"t": 0, "h": 1, "e": 2, "<end>": 3, "th": 4, "the": 5, "Ġ": 6}
    tokenizer = Tokenizer(models.BPE(vocab, [("t", "h"), ("th", "e")]))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def unsplit() -> Tokenizer:
    """A byte-level BPE that merges across words."""
    vocab = {"t": 0, "h": 1, "e": 2, "<end>": 3, "th": 4, "the": 5, "Ġ": 6, "theĠ": 7, "T": 8, "H": 9, "E": 10}
    tokenizer = Tokenizer(models.BPE(vocab, [("t", "h"), ("th", "e"), ("the", "Ġ")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


@pytest.mark.parametrize("make", [words, lowercase, unsplit])
def test_other_tokenizer_models_are_copied(
    tiny: Path, tmp_path: Path, transformers_warnings: list[str], make: Any
) -> None:
    make().save(str(without(tiny, "vocab.json", "merges.txt") / "tokenizer.json"))
    (tiny / "tokenizer_config.json").write_text(
        '{"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<end>"}'  # to read tokenizer.json as it is
    )
    without(tiny, "generation_config.json")
    edit_config(tiny, eos_token_id=3)
    new = convert(tiny, tmp_path / "new").folder
    expected = make().encode("the THE the").ids
    assert expected == ids(new, "the THE the") == load_checkpoint(new).tokenizer.encode("the THE the")
    assert transformers.AutoTokenizer.from_pretrained(new).eos_token == "<end>"
    assert not (new / "vocab.json").exists()
    assert transformers_warnings == []


def test_add_prefix_space_is_preserved(tiny: Path, tmp_path: Path) -> None:
    (without(tiny, "tokenizer.json") / "tokenizer_config.json").write_text('{"add_prefix_space": true}')
    first = convert(tiny, tmp_path / "first").folder
    new = convert(first, tmp_path / "new").folder
    expected = GPT2Tokenizer.from_folder(tiny, 311).encode("quick")
    assert expected == ids(new, "quick") == ids(new, " quick") == load_checkpoint(new).tokenizer.encode("quick")

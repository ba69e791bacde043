"""Any combination of tokenizer files gives the ids of transformers' AutoTokenizer, or is refused."""

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import transformers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from fixtures.checkpoints import END_OF_TEXT, write_tokenizer
from max_gpt2.errors import TokenizerError
from max_gpt2.tokenizer import GPT2Tokenizer

pytestmark = pytest.mark.filterwarnings("ignore:Deprecated in 0.9.0. BPE:DeprecationWarning")
CONTENTS = ["<a>", "<b>", "[PAD]", END_OF_TEXT, "dog", " kind", "quick"]
NAMED = ["bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "speaker_token"]
TEXTS = [
    "",
    "the quick brown dog",
    " the dog <a><b> kind<b> [PAD]x",
    f"a{END_OF_TEXT}b {END_OF_TEXT} c[PAD]",
    "kindness  quickly\n\tdogs Ça va? 🌍 ﬁ",
]
flag = st.booleans()
contents = st.sampled_from(CONTENTS)


@st.composite
def tokens(draw: st.DrawFn) -> dict[str, Any]:
    """Return an added token as `tokenizer.json` and `added_tokens_decoder` describe it."""
    flags = {name: draw(flag) for name in ("lstrip", "rstrip", "normalized", "special")}
    return {"content": draw(contents), "single_word": False} | flags


@st.composite
def numbered(draw: st.DrawFn) -> dict[int, dict[str, Any]]:
    """Return added tokens by their ids, which follow a vocabulary of 300."""
    found = draw(st.lists(tokens(), max_size=4, unique_by=lambda token: token["content"]))
    ids: dict[int, dict[str, Any]] = {}
    for token in found:
        ids[299 if token["content"] == END_OF_TEXT else 300 + sum(id_ >= 300 for id_ in ids)] = token
    return ids


spelled = st.one_of(contents, st.none(), st.builds(lambda token: {"__type": "AddedToken"} | token, tokens()))
named = st.dictionaries(st.sampled_from(NAMED), spelled, max_size=4)
extra: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.fixed_dictionaries({"additional_special_tokens": st.lists(contents, max_size=2)}),
    st.fixed_dictionaries({"extra_special_tokens": st.lists(contents, max_size=2)}),
    st.fixed_dictionaries({"extra_special_tokens": st.dictionaries(st.sampled_from(["x_token", "y_token"]), contents)}),
    st.just({}),
)
CLASSES = [
    None,
    "GPT2Tokenizer",
    "GPT2TokenizerFast",
    "PreTrainedTokenizerFast",
    "TokenizersBackend",
    "RobertaTokenizer",
]


@st.composite
def folders(draw: st.DrawFn) -> dict[str, Any]:
    """Return the contents of the files of a folder, besides the vocabulary and the merges."""
    config: dict[str, Any] = draw(named) | draw(extra)
    if name := draw(st.sampled_from(CLASSES)):
        config["tokenizer_class"] = name
    for option in ("add_prefix_space", "add_bos_token", "add_eos_token", "clean_up_tokenization_spaces"):
        if draw(flag):
            config[option] = draw(flag)
    ids = draw(numbered())
    if draw(flag):
        config["added_tokens_decoder"] = {str(id_): token for id_, token in ids.items()}
    files: dict[str, Any] = {"config": {"model_type": "gpt2"}}
    if draw(flag):
        files["tokenizer_config"] = config
    if draw(flag):
        plain = {name: value for name, value in draw(named).items() if value is not None}
        for value in plain.values():
            if isinstance(value, dict):
                del value["__type"]
        files["special_tokens_map"] = plain | draw(extra)
    if draw(flag):
        files["added_tokens"] = {token["content"]: id_ for id_, token in ids.items()}
    if draw(flag):
        listed = [{"id": id_} | token for id_, token in sorted(draw(st.sampled_from([ids, {}])).items())]
        files["tokenizer"] = {
            "added_tokens": listed,
            "dropout": draw(st.sampled_from([None, 0.5])),
            "prefix_space": draw(flag),
            "truncation": draw(flag),
            "padding": draw(flag),
            "normalizer": draw(st.sampled_from([None, None, {"type": "Lowercase"}])),
        }
    return files


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("base")
    write_tokenizer(made)
    return made


def write_folder(base: Path, files: dict[str, Any]) -> Path:
    folder = base.parent / "folder"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(base, folder)
    (folder / "tokenizer.json").unlink()
    for name, content in files.items():
        value = _tokenizer_json(base, content) if name == "tokenizer" else content
        (folder / f"{name}.json").write_text(json.dumps(value))
    return folder


def _tokenizer_json(base: Path, changes: dict[str, Any]) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((base / "tokenizer.json").read_text())
    content["model"]["vocab"][END_OF_TEXT] = 299
    content["model"]["dropout"] = changes["dropout"]
    content["pre_tokenizer"]["add_prefix_space"] = changes["prefix_space"]
    content |= {"added_tokens": changes["added_tokens"], "normalizer": changes["normalizer"]}
    if changes["truncation"]:
        content["truncation"] = {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0}
    if changes["padding"]:
        content["padding"] = {"strategy": {"Fixed": 50}, "direction": "Right", "pad_to_multiple_of": None}
        content["padding"] |= {"pad_id": 299, "pad_type_id": 0, "pad_token": "[PAD]"}
    return content


def theirs_of(folder: Path) -> Tokenizer | None:
    """Return transformers' tokenizer without its settings of training; None when it raises an error."""
    try:
        theirs = transformers.AutoTokenizer.from_pretrained(folder).backend_tokenizer
    except Exception:
        return None
    theirs.model.dropout = None
    theirs.no_padding()
    theirs.no_truncation()
    return theirs


OUTCOMES = Counter[str]()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(files=folders())
def test_ids_equal_transformers(base: Path, files: dict[str, Any]) -> None:
    folder = write_folder(base, files)
    theirs = theirs_of(folder)
    try:
        ours = GPT2Tokenizer.from_folder(folder, 400)
    except TokenizerError:
        OUTCOMES["refused"] += 1
        return
    if theirs is None:
        OUTCOMES["transformers failed"] += 1
        return
    OUTCOMES["compared"] += 1
    for special in (True, False):
        theirs.encode_special_tokens = special
        recognizing = Tokenizer.from_str(ours.json)
        recognizing.encode_special_tokens = special
        for text in TEXTS:
            expected = theirs.encode(text, add_special_tokens=False).ids
            assert recognizing.encode(text, add_special_tokens=False).ids == expected, text
            if special:
                assert ours.encode(text) == expected, text
    ids = list(range(290, ours.size))
    assert ours.decode(ids) == theirs.decode(ids, skip_special_tokens=True)
    assert ours.decode(ids, special=True) == theirs.decode(ids, skip_special_tokens=False)
    (folder / "tokenizer.json").write_text(ours.json)  # as `convert` does
    assert GPT2Tokenizer.from_folder(folder, 400).json == ours.json


def test_most_folders_were_compared() -> None:
    assert OUTCOMES["compared"] > 0.3 * OUTCOMES.total(), OUTCOMES

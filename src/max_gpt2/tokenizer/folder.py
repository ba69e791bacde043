"""Read the tokenizer files of a folder as one `tokenizer.json`, with the meaning that transformers gives them.

transformers 5 does not read every `tokenizer.json` as it is. The class named in `tokenizer_config.json` decides:
`GPT2Tokenizer`, which is also the default, and `BertTokenizer` take the vocabulary from it and build everything else
from the settings of `tokenizer_config.json`; `PreTrainedTokenizerFast` reads all of it.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, models

from max_gpt2.tokenizer.added_tokens import AddedVocabulary, parse_token, token_entry, token_settings
from max_gpt2.tokenizer.byte_level import BYTE_LETTERS, END_OF_TEXT, byte_level_content, template

#: Classes for which transformers reads tokenizer.json as it is.
_AS_IT_IS = ("PreTrainedTokenizer", "TokenizersBackend", "PythonBackend", "BloomTokenizer")
#: Models for which transformers uses GPT2Tokenizer when no class is named.
_LIKE_GPT2 = (None, "gpt2", "gpt_neo", "gptj", "gpt_bigcode", "codegen")
_BERT_NAMES = ("unk", "sep", "pad", "cls", "mask")
_PARTS = ("normalizer", "pre_tokenizer", "decoder")
_VERSIONED = re.compile(r"tokenizer\.(.*)\.json")
_CHANGE = (
    'If tokenizer.json describes the tokenizer completely, set "tokenizer_class": "PreTrainedTokenizerFast" in '
    "tokenizer_config.json. Otherwise give a folder with another tokenizer: --tokenizer FOLDER."
)


class UnsupportedTokenizerError(ValueError):
    """A tokenizer that max-gpt2 cannot reproduce; the message is complete."""


@dataclass(frozen=True)
class FolderTokenizer:
    """The effective `tokenizer.json` of a folder, and its special tokens by role, such as `bos_token`.

    `invented` are the special tokens that no file of the folder contains: transformers adds them with new ids.
    """

    json: str
    special_tokens: Mapping[str, str]
    invented: frozenset[str]


@dataclass(frozen=True)
class _Files:
    """The parsed files of a tokenizer; files that do not exist are empty."""

    folder: Path
    text: str | None  # of tokenizer.json
    content: dict[str, Any]
    config: dict[str, Any]
    special_map: dict[str, Any]
    added_json: dict[str, int]
    model_config: dict[str, Any]

    def setting(self, name: str) -> Any:
        """Return a setting of `tokenizer_config.json`; `special_tokens_map.json` can override it."""
        overrides = {} if "added_tokens_decoder" in self.config else self.special_map
        return (self.config | overrides).get(name)

    @property
    def class_name(self) -> str:
        """The name of the tokenizer's class in transformers, without the suffix Fast."""
        name = self.config.get("tokenizer_class") or self.model_config.get("tokenizer_class")
        if name is None and (kind := self.model_config.get("model_type")) not in _LIKE_GPT2:
            raise UnsupportedTokenizerError(f"{self.folder} has the tokenizer of a model of type {kind!r}. {_CHANGE}")
        return str(name or "GPT2Tokenizer").removesuffix("Fast")


def read_folder(folder: Path) -> FolderTokenizer:
    """Return the tokenizer that transformers' `AutoTokenizer` would create from a folder.

    Settings of training are removed: BPE dropout, padding and truncation. Raises UnsupportedTokenizerError for a
    tokenizer that cannot be reproduced, and any other exception when a file is damaged.
    """
    files = _read_files(folder)
    name = files.class_name
    if name in _AS_IT_IS and files.content:
        return _finish(files, files.content, {})
    if name == "BertTokenizer":
        return _rebuild_bert(files)
    if name == "GPT2Tokenizer" or (name in _AS_IT_IS and not files.content):
        return _rebuild_gpt2(files)
    raise UnsupportedTokenizerError(
        f"{folder} has a tokenizer of the class {name}, which max-gpt2 cannot reproduce: transformers builds it with "
        f"rules of its own. {_CHANGE}"
    )


def slow_files(folder: Path) -> tuple[Path, Path] | None:
    """Return the files with the vocabulary and the merges, under their names of transformers or of OpenAI."""
    pairs = [(folder / one, folder / two) for one, two in (("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe"))]
    return next((pair for pair in pairs if all(path.is_file() for path in pair)), None)


def _read_files(folder: Path) -> _Files:
    single = folder / "tokenizer.json"
    text = single.read_bytes().decode() if single.is_file() else None
    content = check_content(text) if text is not None else {}
    names = ("tokenizer_config", "special_tokens_map", "added_tokens", "config")
    files = _Files(folder, text, content, *(_read_json(folder / f"{name}.json") for name in names))
    for version in files.config.get("fast_tokenizer_files") or []:
        if _VERSIONED.search(version):
            raise UnsupportedTokenizerError(
                f"{folder}/tokenizer_config.json names {version}, a tokenizer.json for certain versions of "
                "transformers. Remove fast_tokenizer_files, and rename the file that applies to tokenizer.json."
            )
    return files


def _read_json(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_bytes())) if path.is_file() else {}


#: In characters. The memory of the library's matcher for added tokens is quadratic in their length.
_MAX_ADDED_LENGTH = 1_000


def check_content(text: str) -> dict[str, Any]:
    """Return the content of a `tokenizer.json`; raises ValueError if it would crash or stall the library."""
    content = json.loads(text)
    if not isinstance(content, dict) or not isinstance(content.get("model"), dict):
        raise ValueError("it has no model")
    prefix = content["model"].get("continuing_subword_prefix")
    if prefix and content["model"].get("type", "BPE") == "BPE":
        raise ValueError(f"its continuing_subword_prefix is {json.dumps(prefix)}, and GPT-2's BPE has none")
    tokens = content.get("added_tokens") or []
    if not isinstance(tokens, list) or not all(isinstance(token, dict) for token in tokens):
        raise ValueError("its added_tokens are not a list of objects")
    if any(len(str(token.get("content"))) > _MAX_ADDED_LENGTH for token in tokens):
        raise ValueError(f"an added token has more than {_MAX_ADDED_LENGTH:,} characters")
    return content


def _rebuild_gpt2(files: _Files) -> FolderTokenizer:
    """Return the tokenizer of transformers' class GPT2Tokenizer: byte-level BPE from a vocabulary and merges."""
    if files.content:
        _check_ignored(files)
        vocab, merges = _vocab(files.content), [_pair(pair) for pair in files.content["model"].get("merges", [])]
    else:
        vocab, merges = models.BPE.read_file(*map(str, slow_files(files.folder) or ()))
    built = byte_level_content(vocab, merges, bool(files.setting("add_prefix_space")))
    built["post_processor"] = files.content.get("post_processor")
    return _finish(files, built, dict.fromkeys(("unk_token", "bos_token", "eos_token"), END_OF_TEXT))


def _pair(pair: str | Sequence[str]) -> list[str]:
    return pair.split(" ") if isinstance(pair, str) else list(pair)


def _vocab(content: Mapping[str, Any]) -> dict[str, int]:
    vocab = content["model"]["vocab"]
    if isinstance(vocab, list):
        return {token[0] if isinstance(token, list) else token: id_ for id_, token in enumerate(vocab)}
    return dict(vocab)


def _check_ignored(files: _Files) -> None:
    """Raise UnsupportedTokenizerError if `tokenizer.json` has rules that GPT2Tokenizer would ignore."""
    content, model = files.content, files.content["model"]
    split = content.get("pre_tokenizer") or {}
    if (kind := model.get("type", "BPE")) != "BPE":
        raise UnsupportedTokenizerError(
            f"{files.folder}/tokenizer.json is a {kind} tokenizer, and its class in transformers is GPT2Tokenizer, "
            f"a byte-level BPE. {_CHANGE}"
        )
    incomplete = not BYTE_LETTERS.keys() <= model.get("vocab", {}).keys() if isinstance(model["vocab"], dict) else True
    ignored = {
        "normalizer": content.get("normalizer"),
        "pre_tokenizer": split.get("type") != "ByteLevel" or not split.get("use_regex", True),
        "unk_token": model.get("unk_token") and incomplete,
        "byte_fallback": model.get("byte_fallback") and incomplete,
        "end_of_word_suffix": model.get("end_of_word_suffix"),
        "ignore_merges": model.get("ignore_merges"),
    }
    if names := [name for name, value in ignored.items() if value]:
        raise UnsupportedTokenizerError(
            f"{files.folder}/tokenizer.json has rules ({', '.join(names)}) that its class in transformers, "
            f"GPT2Tokenizer, ignores. {_CHANGE}"
        )


def _rebuild_bert(files: _Files) -> FolderTokenizer:
    """Return the tokenizer of transformers' class BertTokenizer: WordPiece with BERT's normalizer."""
    settings = files.config
    if files.content and files.content["model"].get("type", "WordPiece") != "WordPiece":
        raise UnsupportedTokenizerError(
            f"{files.folder}/tokenizer.json is a {files.content['model']['type']} tokenizer, and its class in "
            f"transformers is BertTokenizer, a WordPiece. {_CHANGE}"
        )
    if files.content:
        vocab = _vocab(files.content)
    else:
        lines = (files.folder / "vocab.txt").read_bytes().decode().splitlines(keepends=True)
        vocab = {line.rstrip("\n"): id_ for id_, line in enumerate(lines)}
    defaults = {f"{name}_token": f"[{name.upper()}]" for name in _BERT_NAMES}
    unknown = settings.get("unk_token", defaults["unk_token"])
    normalizer = {
        "type": "BertNormalizer",
        "clean_text": True,
        "handle_chinese_chars": settings.get("tokenize_chinese_chars", True),
        "strip_accents": settings.get("strip_accents"),
        "lowercase": settings.get("do_lower_case", True),
    }
    model = {"type": "WordPiece", "unk_token": unknown if isinstance(unknown, str) else unknown["content"]}
    model |= {"continuing_subword_prefix": "##", "max_input_chars_per_word": 100, "vocab": vocab}
    built: dict[str, Any] = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": normalizer,
    }
    built |= {"pre_tokenizer": {"type": "BertPreTokenizer"}, "post_processor": files.content.get("post_processor")}
    built |= {"decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True}, "model": model}
    return _finish(files, built, defaults)


def _finish(files: _Files, built: dict[str, Any], defaults: Mapping[str, Any]) -> FolderTokenizer:
    """Add the added tokens to a tokenizer, and return it with its special tokens."""
    own = [parse_token(token) for token in files.content.get("added_tokens") or []]
    added = AddedVocabulary(_vocab(built))
    if built is files.content:
        for token in own:
            added.add(token)
        if padding := built.get("padding"):
            defaults = {"pad_token": padding["pad_token"]}
    listed = files.content.get("added_tokens") or []
    settings = token_settings(files.config, files.special_map, files.added_json, listed, defaults)
    for token in settings.to_add(added.tokens.values()):
        added.add(token)
    _check_ids(files, built, settings.declared, added)
    explicit = token_settings(files.config, files.special_map, files.added_json, listed, {}).contents()
    invented = frozenset(map(str, defaults.values())) - explicit - _vocab(built).keys()
    names = {name: token if isinstance(token, str) else token.content for name, token in settings.named.items()}
    entries = [token_entry(id_, token) for id_, token in sorted(added.tokens.items())]
    if files.text and own == [added.tokens[entry["id"]] for entry in entries] and _is_clean(files.content, built):
        return FolderTokenizer(files.text, names, invented)
    clean = built | {"added_tokens": entries, "truncation": None, "padding": None}
    clean["model"] = built["model"] | ({"dropout": None} if "dropout" in built["model"] else {})
    if not files.content:
        clean["post_processor"] = _template(files, names, added)
    return FolderTokenizer(json.dumps(clean, ensure_ascii=False, indent=2), names, invented)


def _check_ids(
    files: _Files, built: Mapping[str, Any], declared: Mapping[int, AddedToken], added: AddedVocabulary
) -> None:
    """Raise UnsupportedTokenizerError if an added token gets another id than the files declare.

    The library assigns the next free id to an added token, whatever the files say.
    """
    expected = [(id_, token.content) for id_, token in declared.items()]
    if built is files.content:
        expected += [(token["id"], token["content"]) for token in files.content.get("added_tokens") or []]
    for id_, content in expected:
        if (actual := added.id_of(content)) != id_:
            raise UnsupportedTokenizerError(
                f"{files.folder} gives the added token {content!r} the id {id_}, but it would get {actual}: ids of "
                "added tokens must follow the vocabulary without a gap. Use another tokenizer."
            )


def _is_clean(content: Mapping[str, Any], built: Mapping[str, Any]) -> bool:
    """Return True if a `tokenizer.json` encodes like the tokenizer that was built, without settings of training."""
    if content["model"].get("dropout") or content.get("padding") or content.get("truncation"):
        return False
    if built is content:
        return True
    same = [(content.get(name) or {}).get("type") == (built[name] or {}).get("type") for name in _PARTS]
    prefix_space = [(one.get("pre_tokenizer") or {}).get("add_prefix_space", True) for one in (content, built)]
    return built["model"]["type"] == "BPE" and all(same) and prefix_space[0] == prefix_space[1]


def _template(files: _Files, names: Mapping[str, str], added: AddedVocabulary) -> dict[str, Any] | None:
    """Return the post-processor that `add_bos_token` and `add_eos_token` ask for; it matters to other programs."""
    found = []
    for option, name in (("add_bos_token", "bos_token"), ("add_eos_token", "eos_token")):
        id_ = added.id_of(names[name]) if files.setting(option) and name in names else None
        found.append(None if id_ is None else (names[name], id_))
    return template(*found) if any(found) else None

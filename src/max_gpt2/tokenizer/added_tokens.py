"""Added and special tokens: which ones the files of a folder describe, and the ids that they get.

The rules are those of transformers 5 (`PreTrainedTokenizerBase._from_pretrained` and `TokenizersBackend.__init__`), so
that a folder means the same in both.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tokenizers import AddedToken

NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_FLAGS = ("content", "single_word", "lstrip", "rstrip", "normalized", "special")
_EXTRA, _OLD_EXTRA, _SPECIFIC = "extra_special_tokens", "additional_special_tokens", "model_specific_special_tokens"
#: A special token as the files spell it: a string, or an object with flags.
Spelled = str | AddedToken


@dataclass
class TokenSettings:
    """The tokens that the files around a tokenizer describe.

    Attributes:
        declared: Added tokens by the ids that the files give them.
        named: The special tokens by role, such as `bos_token`; the roles of a model of its own come last.
        extra: Special tokens without a role.

    """

    declared: dict[int, AddedToken]
    named: dict[str, Spelled]
    extra: list[Spelled] = field(default_factory=list)

    def contents(self) -> set[str]:
        """Return the text of each token."""
        return {_content(token) for token in (*self.declared.values(), *self.named.values(), *self.extra)}

    def to_add(self, known: Iterable[AddedToken]) -> list[AddedToken]:
        """Return the tokens to add, in order, to a tokenizer that already has the added tokens `known`.

        Declared tokens are added again, because those with a role become special.
        """
        tokens: list[Spelled] = [token for _, token in sorted(self.declared.items())]
        contents = {_content(token) for token in (*known, *tokens)}
        for token in (*self.named.values(), *self.extra):
            if _content(token) not in contents and token not in tokens:
                tokens.append(token)
        roles = {_content(token) for token in self.named.values()}
        return [_as_special(token, roles) for token in tokens]


def _content(token: Spelled) -> str:
    return token if isinstance(token, str) else token.content


def _as_special(token: Spelled, roles: set[str]) -> AddedToken:
    if isinstance(token, str):
        return AddedToken(token, special=True)
    return _replace(token, special=True) if token.content in roles else token


def token_settings(
    config: Mapping[str, Any],
    special_map: Mapping[str, Any],
    added_json: Mapping[str, int],
    listed: Iterable[Mapping[str, Any]],
    defaults: Mapping[str, Any],
) -> TokenSettings:
    """Combine the settings of `tokenizer_config.json`, `special_tokens_map.json` and `added_tokens.json`.

    `listed` are the added tokens of `tokenizer.json`. `added_tokens_decoder` in `tokenizer_config.json` replaces all
    but the first. `defaults` are the special tokens that the tokenizer's class adds when no file names them. Raises any
    exception when a value is malformed.
    """
    settings = dict(config)
    _rename_extra(settings)
    specific = {
        name: settings.pop(name)
        for name in list(settings)
        if name.endswith("_token") and name not in NAMED and isinstance(settings[name], str)
    }
    if isinstance(settings.get(_EXTRA), dict):
        specific |= settings.pop(_EXTRA)
    if specific:
        settings[_SPECIFIC] = specific
    if "added_tokens_decoder" in settings:
        declared = {int(id_): parse_token(token) for id_, token in settings["added_tokens_decoder"].items()}
    else:
        _merge_special_map(settings, special_map)
        declared = _from_added_json(settings, added_json)
        declared |= {token["id"]: parse_token(token) for token in listed}
    if not all(isinstance(id_, int) for id_ in declared):
        raise TypeError("an id of an added token is not an integer")
    by_content = {token.content: token for token in declared.values()}
    settings = {name: _parse_nested(value) for name, value in settings.items()}
    named = dict(defaults) | {name: settings[name] for name in NAMED if name in settings}
    found = {name: _spelled(named[name]) for name in NAMED if named.get(name) is not None}
    found = {name: by_content.get(_content(token), token) for name, token in found.items()}
    for name, value in settings.items():
        if name.endswith("_token") and name not in NAMED and isinstance(value, str | AddedToken):
            found[name] = value
    found |= {name: _spelled(value) for name, value in (settings.get(_SPECIFIC) or {}).items()}
    _rename_extra(settings)
    return TokenSettings(declared, found, [_spelled(token) for token in settings.get(_EXTRA) or []])


def _rename_extra(settings: dict[str, Any]) -> None:
    if _OLD_EXTRA in settings:
        settings.setdefault(_EXTRA, settings.pop(_OLD_EXTRA))


def _merge_special_map(settings: dict[str, Any], special_map: Mapping[str, Any]) -> None:
    for name, value in special_map.items():
        if isinstance(value, dict) and name != _EXTRA:
            settings[name] = _replace(parse_token(value), special=True)
        elif isinstance(value, list) and name == _EXTRA:
            tokens = [_replace(parse_token(one), special=True) if isinstance(one, dict) else one for one in value]
            existing = list(settings.get(_EXTRA) or [])
            settings[name] = existing + [token for token in tokens if token not in existing]
        else:
            settings[name] = value
    if isinstance(settings.get(_EXTRA), dict):
        settings.setdefault(_SPECIFIC, {}).update(settings.pop(_EXTRA))


def _from_added_json(settings: Mapping[str, Any], added_json: Mapping[str, int]) -> dict[int, AddedToken]:
    values = [settings.get(name) for name in NAMED] + list(settings.get(_EXTRA) or [])
    special = {_content(value) for value in values if isinstance(value, str | AddedToken)}
    return {
        id_: AddedToken(token, normalized=token not in special, special=token in special)
        for token, id_ in added_json.items()
    }


def _parse_nested(value: Any) -> Any:
    if isinstance(value, dict):
        if value.get("__type") == "AddedToken":
            return parse_token(value)
        return {name: _parse_nested(one) for name, one in value.items()}
    return [_parse_nested(one) for one in value] if isinstance(value, list) else value


def _spelled(value: Any) -> Spelled:
    return value if isinstance(value, str | AddedToken) else parse_token(value)


def parse_token(value: Mapping[str, Any]) -> AddedToken:
    """Return the added token of a JSON object; raises KeyError or TypeError when it is malformed."""
    if not isinstance(value["content"], str):
        raise TypeError(f"an added token is {value['content']!r}, not text")
    return AddedToken(**{name: value[name] for name in _FLAGS if name in value})


def token_entry(id_: int, token: AddedToken) -> dict[str, Any]:
    """Return the entry of an added token in `tokenizer.json`."""
    return {"id": id_} | {name: getattr(token, name) for name in _FLAGS}


def _replace(token: AddedToken, **flags: bool) -> AddedToken:
    return AddedToken(**({name: getattr(token, name) for name in _FLAGS} | flags))


class AddedVocabulary:
    """The added tokens of a tokenizer and their ids, which the tokenizers library assigns in this way."""

    def __init__(self, vocab: Mapping[str, int]) -> None:
        """Start without added tokens; `vocab` is that of the model."""
        self._vocab = vocab
        self._ids: dict[str, int] = {}
        self.tokens: dict[int, AddedToken] = {}

    def add(self, token: AddedToken) -> None:
        """Add a token; a token of the vocabulary keeps its id.

        For a token that was added before, the library takes the new flags, except that a special token stays special
        and matches the text before or after normalization as at first. Raises ValueError where it would do both.
        """
        id_ = self.id_of(token.content)
        before = None if id_ is None else self.tokens.get(id_)
        if not token.content or token == before:
            return
        if before:
            if before.normalized != token.normalized and not before.special:
                raise ValueError(f"the added token {token.content!r} is described twice: {before!r} and {token!r}")
            token = _replace(token, special=before.special or token.special, normalized=before.normalized)
        id_ = self._next() if id_ is None else id_
        self._ids[token.content] = id_
        self.tokens[id_] = token

    def id_of(self, content: str) -> int | None:
        """Return the id of an added token or of a token of the vocabulary."""
        return self._ids.get(content, self._vocab.get(content))

    def _next(self) -> int:
        size, top = len(self._vocab), max(self._ids.values(), default=-1)
        return top + 1 if top >= size else size

"""The chat template of a folder is the one that transformers uses."""

import json
from pathlib import Path
from typing import Any

import pytest
import transformers
from hypothesis import given
from hypothesis import strategies as st

from fixtures.checkpoints import write_tokenizer
from max_gpt2.errors import ConfigError
from max_gpt2.tokenizer.chat_template import read_chat_template

NAMES = st.sampled_from(["default", "tool_use", "rag"])
#: The value of chat_template in tokenizer_config.json, the file chat_template.jinja, and the additional files.
FOLDERS = st.tuples(
    st.none() | st.just("single") | st.dictionaries(NAMES, st.text("ab", min_size=1), min_size=1),
    st.none() | st.just("file"),
    st.dictionaries(NAMES.filter(lambda name: name != "default"), st.text("cd", min_size=1)),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("chat")
    write_tokenizer(made)
    (made / "config.json").write_text('{"model_type": "gpt2"}')
    (made / "additional_chat_templates").mkdir()
    return made


@given(files=FOLDERS)
def test_template_is_the_one_of_transformers(folder: Path, files: tuple[Any, str | None, dict[str, str]]) -> None:
    value, single, more = files
    listed = [{"name": name, "template": source} for name, source in value.items()] if type(value) is dict else value
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": listed}))
    for path in [folder / "chat_template.jinja", *(folder / "additional_chat_templates").iterdir()]:
        path.unlink(missing_ok=True)
    if single:
        (folder / "chat_template.jinja").write_text(single)
    for name, source in more.items():
        (folder / "additional_chat_templates" / f"{name}.jinja").write_text(source)
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    if theirs.chat_template is None:
        assert read_chat_template(folder) is None
        return
    try:
        expected = theirs.get_chat_template()
    except ValueError:
        with pytest.raises(ConfigError, match="none is called 'default'"):
            read_chat_template(folder)
        return
    found = read_chat_template(folder)
    assert found is not None
    assert found[0] == expected


def test_malformed_templates_are_ignored(tmp_path: Path) -> None:
    for value in (3, ["x"], [{"name": 1, "template": "a"}], {"default": None}):
        (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": value}))
        assert read_chat_template(tmp_path) is None

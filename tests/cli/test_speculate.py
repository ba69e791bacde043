"""`max-gpt2 generate --speculate` and `GPT2.with_speculation`."""

import json
from pathlib import Path

import pytest

from fixtures.checkpoints import write_checkpoint
from max_gpt2 import GPT2
from max_gpt2.errors import RequestError
from max_gpt2.generation import Engine
from max_gpt2.model import CompiledModel
from max_gpt2.tokenizer import GPT2Tokenizer
from tests.support.cli import Cli, refused

OPTIONS = ("--prompt-ids", "5,9,30,5,9,30,5,9", "--max-new-tokens", 40, "--temperature", 0, "--seed", 3)


@pytest.mark.parametrize("drafting", ["ngram", "itself"])
def test_text_is_the_same(cli: Cli, tiny_original: Path, tiny_model: CompiledModel, drafting: str) -> None:
    del tiny_model  # compiled once for all tests
    speculate = ("--speculate", tiny_original if drafting == "itself" else drafting)
    plain = json.loads(cli("generate", "--model", tiny_original, *OPTIONS, "--json").out)
    found = json.loads(cli("generate", "--model", tiny_original, *OPTIONS, "--json", *speculate).out)
    drafts = found.pop("drafts")
    assert drafts["drafted"] >= drafts["accepted"] > 0
    if drafting == "itself":
        assert drafts["drafted"] == drafts["accepted"]
    assert found == plain | {"timing": found["timing"]}
    streamed = cli("generate", "--model", tiny_original, *OPTIONS, *speculate)
    assert streamed.out == cli("generate", "--model", tiny_original, *OPTIONS).out


def test_file_is_the_same(cli: Cli, tiny_original: Path, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a b a b a b\nthe dog the dog\n\nx\n")
    for number, more in enumerate(((), ("--speculate", "ngram"))):
        output = tmp_path / f"out{number}.jsonl"
        files = ("--input", prompts, "--output", output)
        assert cli("generate", "--model", tiny_original, *files, "--seed", 1, *more).code == 0
    assert (tmp_path / "out0.jsonl").read_bytes() == (tmp_path / "out1.jsonl").read_bytes()


def test_what_cannot_draft_is_refused_before_loading(cli: Cli, tiny_original: Path, tmp_path: Path) -> None:
    for arguments, message in (
        (("--speculate", "demo"), "The draft model has another tokenizer"),
        (("--speculate", tmp_path / "none"), "none"),
        (("--speculate", "ngram", "--kernels", "builtin"), "The builtin kernels compute other bits"),
        (("--speculate", "ngram", "--input", __file__, "--output", f"{tmp_path}/out/"), "a folder as --output"),
    ):
        prompt = () if "--input" in arguments else ("text",)
        err = refused(cli("generate", *prompt, "--model", tiny_original, *arguments))
        assert message in err
        assert "Loading" not in err
    assert list(tmp_path.iterdir()) == []


def test_python_takes_ngrams_or_a_model(tiny_model: CompiledModel, tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "tiny")
    tokenizer = GPT2Tokenizer.from_folder(folder, 311)
    gpt2 = GPT2(Engine(tiny_model, tokenizer))
    expected = gpt2.generate([5, 9, 30] * 3, temperature=0, max_new_tokens=20)
    for draft in ("ngram", gpt2):
        fast = gpt2.with_speculation(draft)
        found = fast.generate([5, 9, 30] * 3, temperature=0, max_new_tokens=20)
        assert found.tokens == expected.tokens
        assert found.drafts.drafted > 0 == expected.drafts.drafted
        assert "".join(fast.stream([5, 9, 30] * 3, temperature=0, max_new_tokens=20)) == expected.text
    with pytest.raises(RequestError, match=r"draft 'model' is neither"):
        gpt2.with_speculation("model")  # type: ignore[arg-type]

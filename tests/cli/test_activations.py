"""`max-gpt2 activations`: safetensors files with the activations of each text."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

from max_gpt2 import GPT2
from max_gpt2.model import CompiledModel
from tests.support.cli import Cli, refused

TEXTS = ["The dog", "Was it the best?", None, "lazy dog " * 9, "", "The lazy dog was it. " * 40, "it"]
AT = ("--at", "h.1,h.*.mlp", "--at", "blocks.2.attn.hook_pattern")


@pytest.fixture
def activations(cli: Cli, tiny_original: Path, tmp_path: Path) -> Cli:
    path = tmp_path / "texts.jsonl"
    path.write_text("".join(json.dumps({"id": n, "text": text, "n": n}) + "\n" for n, text in enumerate(TEXTS)))
    options = ("--model", tiny_original, "--input", path, "--keep-column", "n", "--part-rows", 3)
    return lambda *arguments: cli("activations", *options, *arguments)


def test_files_have_the_activations_of_each_text(
    activations: Cli, cli: Cli, tiny_original: Path, tmp_path: Path, tiny_model: CompiledModel
) -> None:
    del tiny_model  # compiled once for all tests
    out = tmp_path / "out"
    done = activations("--output", out, *AT, "--json")
    assert done.code == 1
    summary = json.loads(done.out)
    assert (summary["parts"], summary["rows"], summary["errors"]) == (3, 7, 2)
    arrays = {name: value for path in sorted(out.glob("part-*")) for name, value in load_file(path).items()}
    gpt2 = GPT2.from_pretrained(tiny_original)
    valid = [0, 1, 3, 6]
    names = ["h.0.mlp", "h.1.mlp", "h.1", "h.2.attn.pattern", "h.2.mlp"]
    assert arrays.pop("4.tokens").shape == (0,)  # an empty text
    assert arrays.keys() == {f"{number}.{name}" for number in valid for name in [*names, "tokens"]}
    for number in valid:
        trace = gpt2.trace(str(TEXTS[number]), at=names)
        assert arrays[f"{number}.tokens"].tolist() == list(trace.tokens)
        for name in names:
            np.testing.assert_array_equal(arrays[f"{number}.{name}"], trace[name])
    with safe_open(out / "part-00001.safetensors", "numpy") as file:
        rows = json.loads(file.metadata()["rows"])
    assert [(row["index"], row["row"], row["id"], row["n"]) for row in rows] == [
        (3, 4, "3", 3),
        (4, 5, "4", 4),
        (5, 6, "5", 5),
    ]
    assert [row["tokens"] for row in rows] == [len(arrays["3.tokens"]), 0, None]
    assert rows[1]["error"] is None
    assert "the context of the model" in rows[2]["error"]
    verified = cli("corpus", "verify", out)
    assert verified.code == 0
    assert "3 of 3 parts verified, with 7 of 7 rows, 2 of them with an error." in verified.out


def test_shards_write_the_bytes_of_one_run(activations: Cli, tiny_original: Path, tmp_path: Path) -> None:
    activations("--output", tmp_path / "one", *AT, "--bos")
    for shard in ("2/2", "1/2"):
        activations("--output", tmp_path / "two", *AT, "--bos", "--shard", shard)
    one, two = ({path.name: path.read_bytes() for path in (tmp_path / name).glob("*.*")} for name in ("one", "two"))
    assert one == two
    start = GPT2.from_pretrained(tiny_original).tokenizer.start_id
    tokens = load_file(tmp_path / "one/part-00001.safetensors")
    assert [int(tokens[name][0]) for name in ("3.tokens", "4.tokens")] == [start, start]
    assert "a different at" in refused(activations("--output", tmp_path / "one", "--at", "h.1", "--bos"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--output", "out", "--at", "h.7"), "the layers 0 to 2"),
        (("--output", "out", "--at", ","), "--at is empty"),
        (("--output", "out.npz", "--at", "h.1"), "--output out.npz is not a folder"),
        (("--output", "out", "--at", "h.1", "--part-rows", "0"), "--part-rows 0"),
    ],
)
def test_bad_options_write_nothing(
    activations: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in refused(activations(*arguments))
    assert [path.name for path in tmp_path.iterdir()] == ["texts.jsonl"]

"""`max-gpt2 generate --input ... --output ...`."""

import errno
import gzip
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from max_gpt2.generation import Engine
from tests.support.cli import Cli, refused

PROMPTS = [
    '{"prompt": "The dog", "id": "a"}',
    '{"prompt_ids": [1, 2, 3], "seed": 3, "max_new_tokens": 4}',
    '{"prompt": "The dog", "temperature": 0, "logprobs": 1, "id": 7}',
    '{"prompt": "The dog", "stop": "e"}',
]


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.jsonl"
    path.write_text("\n".join(PROMPTS))
    return path


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_line_options_override_the_command_line(cli: Cli, prompts: Path, tiny_original: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    arguments = ["generate", "--model", tiny_original, "--max-new-tokens", 6]
    done = cli(*arguments, "--input", prompts, "--output", out, "--seed", 5)
    assert done.code == 0
    assert done.out == f"{out}: 4 lines, no errors, {sum(len(one['tokens']) for one in records(out))} tokens, seed 5.\n"
    assert "4/4" in done.err
    first, second, third, fourth = records(out)
    assert [(one["line"], one.get("id")) for one in records(out)] == [(1, "a"), (2, None), (3, 7), (4, None)]
    assert len({one["seed"] for one in records(out)}) == 4
    alone = json.loads(cli(*arguments, "The dog", "--seed", first["seed"], "--json").out)
    assert {name: alone[name] for name in ("prompt_tokens", "tokens", "text", "seed")}.items() <= first.items()
    alone = json.loads(cli(*arguments, "--prompt-ids", "1,2,3", "--seed", 3, "--max-new-tokens", 4, "--json").out)
    assert (second["text"], len(second["tokens"]), second["seed"]) == (alone["text"], 4, 3)
    assert "prompt" not in second
    greedy = json.loads(cli(*arguments, "The dog", "--temperature", 0, "--logprobs", 1, "--json").out)
    assert (third["text"], third["logprobs"]) == (greedy["text"], greedy["logprobs"])
    assert "logprobs" not in fourth
    assert "e" not in fourth["text"]


def test_compressed_lines_and_tables_are_prompts(cli: Cli, prompts: Path, tiny_original: Path, tmp_path: Path) -> None:
    found = []
    compressed, table = tmp_path / "a.jsonl.gz", tmp_path / "b.parquet"
    compressed.write_bytes(gzip.compress(prompts.read_bytes()))
    pq.write_table(pa.table({"text": ["The dog", None], "key": ["a", "b"]}), table)
    for number, source in enumerate((prompts, compressed)):
        out = tmp_path / f"{number}.jsonl"
        options = ("--max-new-tokens", 3, "--seed", 5)
        assert cli("generate", "--model", tiny_original, *options, "--input", source, "--output", out).code == 0
        found.append(out.read_bytes())
    assert found[0] == found[1]
    named = ("--text-column", "text", "--id-column", "key")
    out = tmp_path / "table.jsonl"
    assert cli("generate", "--model", tiny_original, *options, *named, "--input", table, "--output", out).code == 1
    first, second = records(out)
    assert first == json.loads(found[0].splitlines()[0])
    assert (second["id"], second["error"]) == ("b", 'The column "text" is null. Give it a text.')


def test_broken_line_is_reported_and_the_others_complete(cli: Cli, prompts: Path, tiny_original: Path) -> None:
    out = prompts.with_name("out.jsonl")
    prompts.write_text("\n".join([PROMPTS[0], "{broken", '{"id": 9, "prompt_ids": [999]}', PROMPTS[1]]))
    arguments = ["generate", "--model", tiny_original, "--input", prompts, "--output", out, "--max-new-tokens", 5]
    done = cli(*arguments, "--json")
    assert done.code == 1
    result = json.loads(done.out)
    assert (result["lines"], result["resumed"], result["errors"], result["output"]) == (4, 0, 2, str(out))
    assert f"error: {prompts}, line 2: The line is not JSON" in done.err
    assert f"error: {prompts}, line 3: The prompt id 999 is not in 0 .. 310" in done.err
    first, second, third, fourth = records(out)
    assert second.keys() == {"line", "error"}
    assert third == {"line": 3, "id": 9, "error": "The prompt id 999 is not in 0 .. 310. Remove it."}
    assert first["text"]
    assert fourth["text"]
    content = out.read_bytes()
    again = cli(*arguments)
    assert again.code == 1
    assert "4 lines, already complete, 2 errors" in again.out
    assert "Compiling" not in again.err
    assert out.read_bytes() == content


def test_output_of_a_different_run_is_not_resumed(cli: Cli, prompts: Path, tiny: Path, tiny_original: Path) -> None:
    out = prompts.with_name("out.jsonl")
    arguments = ["generate", "--input", prompts, "--output", out, "--max-new-tokens", 3]
    assert cli(*arguments, "--model", tiny_original).code == 0
    content = out.read_bytes()
    assert "already complete" in cli(*arguments, "--model", tiny).out  # a copy of the same model
    assert "a different temperature (0.8, now 0.5)" in refused(cli(*arguments, "--model", tiny, "--temperature", 0.5))
    weights = tiny / "model.safetensors"
    content_of_weights = weights.read_bytes()
    weights.write_bytes(content_of_weights[:-500] + b"\x01" + content_of_weights[-499:])
    assert "a different model" in refused(cli(*arguments, "--model", tiny))
    prompts.write_text("\n".join(PROMPTS[:3]))
    assert "a different input" in refused(cli(*arguments, "--model", tiny_original))
    assert out.read_bytes() == content
    assert cli(*arguments, "--model", tiny_original, "--force").code == 0
    assert len(records(out)) == 3


MANY = 120


@pytest.fixture
def many(tmp_path: Path) -> Path:
    path = tmp_path / "many.txt"
    path.write_text("".join(f"The dog {number}\n" for number in range(MANY)))
    return path


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_interrupted_run_resumes_to_the_same_bytes(
    cli: Cli, many: Path, tiny_original: Path, tmp_path: Path, how: signal.Signals
) -> None:
    out, whole = tmp_path / "out.jsonl", tmp_path / "whole.jsonl"
    options = ["--model", str(tiny_original), "--input", str(many), "--max-new-tokens", "30"]
    command = [sys.executable, "-m", "max_gpt2", "generate", *options, "--output", str(out)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=dict(os.environ)) as process:
        while process.poll() is None and not (out.exists() and out.read_bytes().count(b"\n") > 5):
            time.sleep(0.01)
        process.send_signal(how)
        _, err = process.communicate(timeout=30)
    lines = len(out.read_text().splitlines())
    assert 5 < lines < MANY
    assert "Traceback" not in err
    if how is signal.SIGINT:
        assert process.returncode == 2
        assert f"Stopped by Ctrl-C after {lines} of {MANY} lines. They are in {out}" in err
    seed = json.loads((tmp_path / "out.jsonl.run.json").read_text())["seed"]
    done = cli("generate", *options, "--output", out, "--json")
    assert json.loads(done.out)["resumed"] in (lines, lines - 1)  # the last line may be incomplete
    assert json.loads(done.out)["seed"] == seed
    assert cli("generate", *options, "--output", whole, "--seed", seed).code == 0
    assert out.read_bytes() == whole.read_bytes()
    assert len(records(out)) == MANY


def test_full_disk_is_one_error_and_complete_lines_survive(
    cli: Cli, prompts: Path, tiny_original: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = prompts.with_name("out.jsonl")
    arguments = ["generate", "--model", tiny_original, "--input", prompts, "--output", out, "--max-new-tokens", 3]
    written, real = [0], os.write

    def write(file: int, content: bytes) -> int:
        written[0] += 1
        if written[0] == 3:
            return real(file, content[:9])
        if written[0] == 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(file, content)

    monkeypatch.setattr(os, "write", write)
    refusal = refused(cli(*arguments))
    assert f"{out} cannot be written (No space left on device). It has 2 complete lines" in refusal
    monkeypatch.undo()
    assert [one["line"] for one in records(out)] == [1, 2]
    assert "2 from an earlier run" in cli(*arguments).out
    assert [one["line"] for one in records(out)] == [1, 2, 3, 4]


def test_ctrl_c_before_the_first_line_reports_no_lines(
    cli: Cli, prompts: Path, tiny_original: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = prompts.with_name("out.jsonl")
    left: list[int] = []
    monkeypatch.setattr(os, "_exit", left.append)

    def interrupt(*_arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Engine, "generate_all", interrupt)
    arguments = ["generate", "--model", tiny_original, "--input", prompts, "--output", out]
    assert f"Stopped by Ctrl-C after 0 of 4 lines. They are in {out}" in cli(*arguments).err
    assert left == [2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--input", "in.txt", "--output", "out", "A text"], "Both a text and --input are given"),
        (["--input", "in.txt", "--output", "out", "--prompt-ids", "1"], "Both --prompt-ids and --input are given"),
        (["--input", "in.txt"], "--input needs --output. Add --output FILE."),
        (["--output", "out"], "--output needs --input"),
        (["--force"], "--force needs --output"),
        (["--input", "in.txt", "--output", "in.txt"], "--input and --output are the same file"),
        (["--input", "in.txt", "--output", "./link.txt"], "--input and --output are the same file"),
        (["--input", "no.txt", "--output", "out"], "--input no.txt does not exist"),
        (["--input", "in.csv", "--output", "out.jsonl"], "--input in.csv does not exist"),
        (["--input", "in.txt", "--output", "no/out.jsonl"], "the folder no does not exist"),
        (["--input", "in.txt", "--output", "/dev/full"], "/dev/full is not a regular file"),
        (["--input", "in.txt", "--output", "out", "--top-p", "0"], "top_p 0.0 is not above 0"),
        (["--input", "in.txt", "--output", "out", "--max-new-tokens", "-1"], "max_new_tokens -1 is negative"),
        (["--input", "in.txt", "--output", "out", "--n", "2"], "--n needs a single prompt"),
        (["--input", "in.txt", "--output", "out", "--seed", "-1"], "seed -1"),
    ],
)
def test_bad_arguments_change_no_file(
    cli: Cli, tiny_original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.txt").write_text("The dog\n")
    (tmp_path / "link.txt").symlink_to("in.txt")
    assert message in refused(cli("generate", "--model", tiny_original, *arguments))
    assert sorted(one.name for one in tmp_path.iterdir()) == ["in.txt", "link.txt"]
    assert (tmp_path / "in.txt").read_text() == "The dog\n"

"""`main.py`, the complete example, run as a command."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from max.driver import accelerator_count

import main
from fixtures.checkpoints import edit_config, write_tokenizer
from fixtures.formats import linear_state, write_llmc
from max_gpt2.checkpoint import load_checkpoint
from max_gpt2.cli.process import make_program, run_guarded
from max_gpt2.errors import RequestError
from max_gpt2.generation import SamplingParams
from solutions.solution_13 import CompiledGPT2
from tests.support.cli import Cli, Outcome
from tests.support.hub import fill_cache

ROOT = Path(__file__).parent.parent


def run_main(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "main.py", *map(str, arguments)]
    variables = os.environ | {"COLUMNS": "200"} | environment
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=variables, check=False)


def test_max_and_pytorch_are_compared(tiny_original: Path, tutorial_model: CompiledGPT2) -> None:
    del tutorial_model  # compiled once for all tests
    done = run_main("--model", tiny_original, "--prompt", "The dog", "--max-new-tokens", 12, "--seed", 3)
    assert done.returncode == 0, done.stderr
    assert "12: transformer.h.*.attn.c_attn.weight, transformer.h.*.attn.c_proj.weight" in done.stdout
    assert len(re.findall(r"(\d+\.\d) tokens/s", done.stdout)) == 4
    last = done.stdout.strip().splitlines()[-1]
    assert re.fullmatch(r"MAX and PyTorch are equal: their logits differ by at most \d\.\de-\d\d \(.*\)\.", last)


def test_max_and_pytorch_generate_the_same_text(tiny_original: Path) -> None:
    done = run_main("--model", tiny_original, "--prompt", "The dog", "--max-new-tokens", 4, "--temperature", 0)
    rows = [line.split("│")[1:3] for line in done.stdout.splitlines() if line.startswith("│") and "The dog" in line]
    assert len(rows) == 2
    assert all(by_max.strip() == by_torch.strip() for by_max, by_torch in rows)


def test_hub_id_is_loaded_from_the_cache_offline(tiny_original: Path, tmp_path: Path) -> None:
    fill_cache(tmp_path / "hub", "openai-community/gpt2", tiny_original)
    done = run_main("--model", "gpt2", "--prompt", "a", "--max-new-tokens", 2, HF_HOME=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "models--openai-community--gpt2" in done.stdout
    assert "MAX and PyTorch are equal" in done.stdout


@pytest.mark.skipif(accelerator_count() == 0, reason="MAX finds no accelerator on this machine")
def test_accelerator_is_compared_with_pytorch(tiny_original: Path) -> None:
    done = run_main("--model", tiny_original, "--prompt", "a", "--max-new-tokens", 2, "--device", "gpu")
    assert done.returncode == 0, done.stderr
    assert "MAX and PyTorch are equal" in done.stdout


def test_device_is_chosen_by_what_max_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(main, "Accelerator", lambda: "the accelerator")
    for count, expected in ((0, main.CPU()), (1, "the accelerator")):
        monkeypatch.setattr(main, "accelerator_count", lambda count=count: count)
        assert main.find_device("cpu") == main.CPU()
        assert main.find_device("auto") == expected
    assert main.find_device("gpu") == expected
    monkeypatch.setattr(main, "accelerator_count", lambda: 0)
    with pytest.raises(RequestError, match="--device gpu: MAX finds no accelerator on this machine"):
        main.find_device("gpu")


@pytest.fixture
def in_process(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Run main.py in this process, which takes no time to import PyTorch."""

    def call(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["main.py", *map(str, arguments)])
        return Outcome(run_guarded(make_program(main.main)), *capsys.readouterr())

    return call


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--max-new-tokens", "-1"], "max_new_tokens -1 is negative"),
        (["--max-new-tokens", "70"], "exceed the model's context of 67"),
        (["--temperature", "-1"], "temperature -1.0"),
        (["--seed", "x"], "--seed"),
        (["--model", "./nothing"], '"./nothing" does not exist'),
        (["--device", "tpu"], "'cpu', 'gpu', 'auto'"),
    ],
)
def test_invalid_input_is_one_error_line(
    in_process: Cli, tiny_original: Path, arguments: list[str], message: str
) -> None:
    done = in_process("--model", tiny_original, *arguments)
    assert done.code == 2
    assert message in done.err
    assert len([line for line in done.err.splitlines() if line.startswith("error: ")]) == 1


def test_missing_model_is_one_error_line(tmp_path: Path) -> None:
    done = run_main("--model", "gpt2", "--prompt", "x", HF_HOME=str(tmp_path))
    assert done.returncode == 2
    assert "openai-community/gpt2 is not in the cache" in done.stderr
    assert "Traceback" not in done.stderr


def test_ctrl_c_during_compilation_exits_cleanly(tiny_original: Path, tmp_path: Path) -> None:
    command = [sys.executable, "main.py", "--model", str(tiny_original)]
    empty_cache = os.environ | {"XDG_CACHE_HOME": str(tmp_path), "HOME": str(tmp_path)}
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, env=empty_cache) as process:
        assert process.stderr is not None
        assert next(line for line in process.stderr if line.startswith("Checking the weights"))
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
    assert process.returncode == 2
    assert rest.splitlines()[-1].startswith("error: Stopped by Ctrl-C")


def test_unsupported_config_is_rejected(in_process: Cli, tiny: Path) -> None:
    edit_config(tiny, activation_function="relu")
    done = in_process("--model", tiny)
    assert done.code == 2
    assert "activation_function = 'relu', which the tutorial's model does not support" in done.err
    assert f"max-gpt2 verify --model {tiny}" in done.err


def test_format_unknown_to_transformers_is_rejected(tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    write_llmc(tmp_path / "gpt2.bin", linear_state())
    with pytest.raises(RequestError, match=r"needs a checkpoint in the format of transformers.*max-gpt2 verify"):
        main.prepare(str(tmp_path), load_checkpoint(tmp_path), "", 3, SamplingParams(seed=0))


def test_main_fits_on_one_page() -> None:
    assert len((ROOT / "main.py").read_text().splitlines()) <= 150

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from max_gpt2.checkpoint import Checkpoint
from max_gpt2.cli.repl import (
    MAX_HISTORY_LINES,
    SETTINGS,
    History,
    PromptLoop,
    format_settings,
    history_file,
    parse_setting,
)
from max_gpt2.errors import RequestError
from max_gpt2.generation import Engine, Loaded, Request, SamplingParams
from max_gpt2.model import CompiledModel

OPTIONS = Request((), 9, SamplingParams(temperature=0.5), ["x"])


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ("max_new_tokens 3", "max_new_tokens", 3),
        ("temperature 0", "temperature", 0.0),
        ("--top-k  40", "top_k", 40),
        ("top_p .9", "top_p", 0.9),
        ("seed 7", "seed", 7),
        ("seed none", "seed", None),
        ("stop the end", "stop", ["the end"]),
        ('stop "\\n"', "stop", ["\n"]),
        ("stop none", "stop", []),
    ],
)
def test_set_changes_one_setting(line: str, name: str, value: object) -> None:
    found, options = parse_setting(OPTIONS, line)
    assert found == name
    changed = options if name in ("max_new_tokens", "stop") else options.sampling
    assert getattr(changed, name) == value
    before, after = format_settings(OPTIONS), format_settings(options)
    assert {one.split()[0] for one in set(before) ^ set(after)} <= {name}
    assert len(after) == len(SETTINGS)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("temprature 1", 'Unknown setting "temprature". Did you mean temperature?'),
        ("colour red", "The settings are max_new_tokens, temperature"),
        ("temperature", 'temperature "" is not a number. Write it as /set temperature 0.5'),
        ("temperature hot", 'temperature "hot" is not a number'),
        ("temperature -1", "temperature -1.0 is not a finite number >= 0"),
        ("top_k 1.5", 'top_k "1.5" is not an integer'),
        ('stop "a', "is not text"),
        ("seed x", "is not an integer or none"),
    ],
)
def test_bad_setting_explains_the_remedy(line: str, message: str) -> None:
    with pytest.raises(RequestError) as refusal:
        parse_setting(OPTIONS, line)
    assert message in str(refusal.value)


def test_history_file_follows_xdg_state_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert history_file() == tmp_path / "max-gpt2" / "history"
    monkeypatch.setenv("HOME", str(tmp_path))
    for nothing in ("", "relative"):
        monkeypatch.setenv("XDG_STATE_HOME", nothing)
        assert history_file() == tmp_path / ".local" / "state" / "max-gpt2" / "history"


def test_history_is_private_and_bounded(tmp_path: Path) -> None:
    file = tmp_path / "state" / "max-gpt2" / "history"
    first = History(file)
    for line in ("The dog", "  ", "/help", "Ünïcode"):
        first.add(line)
    assert first.problem == ""
    assert file.read_text().splitlines() == ["The dog", "/help", "Ünïcode"]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    History(file).add("more")
    assert file.read_text().splitlines() == ["The dog", "/help", "Ünïcode", "more"]
    file.write_text("".join(f"{number}\n" for number in range(MAX_HISTORY_LINES + 50)))
    History(file)
    assert file.read_text().splitlines() == [str(number) for number in range(50, MAX_HISTORY_LINES + 50)]


def test_unwritable_history_is_not_fatal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "state").write_text("a file")
    history = History(tmp_path / "state" / "history")
    assert str(tmp_path / "state" / "history") in history.problem
    history.add("The dog")
    monkeypatch.setattr("max_gpt2.cli.repl._readline", lambda: None)
    history = History(tmp_path / "history")
    assert "no readline" in history.problem
    history.add("The dog")
    assert not (tmp_path / "history").exists()


@pytest.fixture
def loaded(
    tiny_model: CompiledModel, tiny_checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Loaded:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return Loaded(Engine(tiny_model, tiny_checkpoint.tokenizer), 0, 0)


def run(loaded: Loaded, *lines: str | type[BaseException]) -> PromptLoop:
    """Run the loop on these lines and a final Ctrl-D."""
    typed: Iterator[str | type[BaseException]] = iter([*lines, EOFError])

    def read(_prompt: str) -> str:
        line = next(typed)
        if isinstance(line, str):
            return line
        raise line

    loop = PromptLoop(loaded, Request((), 5, SamplingParams(seed=3)), read)
    loop.run()
    return loop


def test_prompts_use_the_current_settings(loaded: Loaded, capsys: pytest.CaptureFixture[str]) -> None:
    def written(prompt: str, length: int, sampling: SamplingParams) -> str:
        tokens = loaded.engine.tokenizer.encode(prompt)
        return f"{prompt}{loaded.engine.generate(Request(tokens, length, sampling)).text}\n"

    run(loaded, "The dog", "  ", "/set temperature 0", "/set max_new_tokens 3", "The dog", "//help")
    out, err = capsys.readouterr()
    greedy = SamplingParams(temperature=0, seed=3)
    assert out == (
        written("The dog", 5, SamplingParams(seed=3))
        + "temperature 0.0\nmax_new_tokens 3\n"
        + written("The dog", 3, greedy)
        + written("/help", 3, greedy)
        + "\n"
    )
    assert err.count("seed 3") == 3
    assert "error" not in err


def test_errors_do_not_end_the_loop(loaded: Loaded, capsys: pytest.CaptureFixture[str]) -> None:
    loop = run(
        loaded,
        "/frobnicate",
        "/set top_p 7",
        "/set max_new_tokens -500",
        "dog " * 70,
        KeyboardInterrupt,
        "/help",
        "/set",
    )
    out, err = capsys.readouterr()
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 4
    for error, message in zip(
        errors, ("Unknown command /frobnicate", "top_p 7.0", "max_new_tokens -500", "Shorten"), strict=True
    ):
        assert message in error
    assert loop.options == Request((), 5, SamplingParams(seed=3))
    assert "/quit" in out
    assert "max_new_tokens 5\ntemperature 0.8\n" in out


def test_quit_ends_the_loop_and_input_is_in_the_history(loaded: Loaded, tmp_path: Path) -> None:
    run(loaded, "/help", "/quit", "never reached")
    assert (tmp_path / "max-gpt2" / "history").read_text() == "/help\n/quit\n"


def test_ctrl_c_stops_generation_but_not_the_loop(
    loaded: Loaded, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_arguments: object) -> None:
        print("The", end="")
        raise KeyboardInterrupt

    monkeypatch.setattr("max_gpt2.cli.repl.stream_to_stdout", interrupt)
    run(loaded, "The dog", "/help")
    out, err = capsys.readouterr()
    assert out.startswith("The\nType a prompt")
    assert "stopped" in err
    assert os.environ["XDG_STATE_HOME"]

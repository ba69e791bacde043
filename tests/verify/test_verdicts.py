"""The verdict of `max-gpt2 verify` is kept for exactly the model that was verified."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import max_gpt2
from fixtures.checkpoints import edit_config, edit_weights, write_checkpoint, write_tokenizer
from max_gpt2.checkpoint.options import Adapter, LoadOptions
from max_gpt2.generation import open_model
from max_gpt2.generation.fingerprint import fingerprint
from max_gpt2.verify import Difference, LogitsDifference, PromptResult, Report, verdicts
from max_gpt2.verify.prompts import Prompt
from max_gpt2.verify.verdicts import Verdict, describe, read_verdict, save_verdict
from tests.support.adapters import save_adapter
from tests.support.cli import Cli

KEY = "0" * 64


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder, which does not exist yet."""
    monkeypatch.setattr(verdicts, "compiled_files", lambda: tmp_path / "cache")
    return tmp_path / "cache" / "verdicts"


def report(logits: float = 3.1e-5, mlp: float = 1e-6) -> Report:
    """Return a report with one prompt, by the largest differences of the logits and of the output of an MLP."""
    outputs = LogitsDifference(logits, logits / 4, 4.0, positions=1, argmax_agreement=1.0)
    states = {"h.3.mlp": Difference(mlp, mlp, 1.0)}
    result = PromptResult(Prompt("one token", [1]), states, outputs, 16, True, "a", ("b", "b"))
    return Report("M", ("MAX", "PyTorch"), "", Difference(0.0, 0.0, 1.0), [result], {}, 0, None)


def test_passed_verdict_is_read_again(folder: Path) -> None:
    assert read_verdict(KEY) is None
    save_verdict(KEY, report())
    found = read_verdict(KEY)
    assert found == Verdict.of(report())
    assert found.is_current
    assert found.text == (
        f"Verified on {found.date}: logits equal PyTorch's within 3.1e-05 "
        f"(max-gpt2 {max_gpt2.__version__}, MAX {found.max_version})."
    )
    assert read_verdict("1" * 64) is None
    assert [path.name for path in folder.iterdir()] == [f"{KEY}.json"]


def test_verdict_of_today_replaces_the_last_one(folder: Path) -> None:
    del folder
    save_verdict(KEY, report())
    save_verdict(KEY, report(mlp=0.25))
    found = read_verdict(KEY)
    assert found
    assert not found.passed
    assert f"Not equal to PyTorch on {found.date}: h.3.mlp differs by 2.5e-01 (" in found.text
    save_verdict(KEY, report(logits=math.inf))
    assert "logits differs by inf" in describe(read_verdict(KEY), "M")


@pytest.mark.parametrize("changes", [{"version": "0.0.1"}, {"max_version": "26.6.0"}])
def test_verdict_of_other_versions_says_so(changes: dict[str, Any]) -> None:
    current = Verdict.of(report())
    other = replace(current, **changes)
    assert not other.is_current
    assert "verify it again" not in current.text
    assert f"now max-gpt2 {max_gpt2.__version__}, MAX {current.max_version}: verify it again)." in other.text
    assert all(value in other.text for value in changes.values())


def test_model_that_was_not_verified_names_the_command() -> None:
    assert describe(None, "my model") == "Not verified yet. Run: max-gpt2 verify --model 'my model'"


JSON = st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists)


@given(st.binary(max_size=40) | JSON.map(lambda value: json.dumps(value).encode()))
def test_damaged_file_is_no_verdict(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    cache = tmp_path_factory.getbasetemp() / "damaged"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(verdicts, "compiled_files", lambda: cache)
        save_verdict(KEY, report())
        (cache / "verdicts" / f"{KEY}.json").write_bytes(content)
        assert read_verdict(KEY) is None


@pytest.mark.parametrize(
    "name", ["passed", "max_abs_diff", "criterion", "divergence", "date", "version", "max_version"]
)
@pytest.mark.parametrize("value", [[], {}, 7, "yesterday\x00", "missing"])
def test_field_of_another_type_is_no_verdict(folder: Path, name: str, value: Any) -> None:
    save_verdict(KEY, report())
    path = folder / f"{KEY}.json"
    values = json.loads(path.read_text())
    values[name] = value
    if value == "missing":
        del values[name]
    path.write_text(json.dumps(values))
    found = read_verdict(KEY)
    assert found is None or (isinstance(value, str) and getattr(found, name) == value)
    path.write_text(json.dumps(values)[:-3])
    assert read_verdict(KEY) is None


def test_folder_that_cannot_be_written_is_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    for cache in (None, tmp_path / "file"):
        monkeypatch.setattr(verdicts, "compiled_files", lambda cache=cache: cache)
        save_verdict(KEY, report())
        assert read_verdict(KEY) is None
    # Stands for a read-only folder, since the tests may run as root.
    monkeypatch.setattr(verdicts, "compiled_files", lambda: tmp_path / "cache")
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(PermissionError("read-only")))
    save_verdict(KEY, report())
    assert read_verdict(KEY) is None
    assert not list((tmp_path / "cache" / "verdicts").iterdir())


def test_fingerprint_covers_weights_config_and_adapters(tiny: Path, tmp_path: Path) -> None:
    found = [fingerprint(open_model(tiny))]
    assert fingerprint(open_model(write_checkpoint(tmp_path / "same"))) == found[0]
    adapter = save_adapter(tiny, tmp_path / "adapter", target_modules=["c_attn"])
    found += [fingerprint(open_model(tiny, LoadOptions(adapters=(Adapter(adapter, scale),)))) for scale in (1.0, 0.5)]
    assert fingerprint(open_model(tiny, LoadOptions(weights="auto"))) == found[0]
    found += [fingerprint(open_model(tiny, LoadOptions(weights=one))) for one in ("float16", "q8_0")]
    edit_config(tiny, layer_norm_epsilon=1e-3)
    found.append(fingerprint(open_model(tiny)))
    edit_weights(tiny, lambda tensors: np.add.at(tensors["transformer.h.2.mlp.c_proj.bias"], 3, 0.5))
    found.append(fingerprint(open_model(tiny)))
    write_tokenizer(tiny, 298)
    found.append(fingerprint(open_model(tiny)))
    assert len(set(found)) == len(found)


def test_second_fingerprint_reads_no_unchanged_file(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = open_model(tiny)
    first = fingerprint(opened)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", lambda *_: pytest.fail("a file is read"))
        assert fingerprint(opened) == first
    edit_weights(tiny, lambda tensors: np.add.at(tensors["transformer.h.2.mlp.c_proj.bias"], 3, 0.5))
    assert fingerprint(opened) != first


def test_command_keeps_only_the_verdict_of_the_default_kernels_and_pytorch(
    cli: Cli, tiny: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("max_gpt2.verify.verify", lambda *_, **__: report(logits=0.5))
    assert cli("verify", "--model", tiny, "--against", tiny, "--json").code == 1
    assert cli("verify", "--model", tiny, "--kernels", "builtin", "--json").code == 1
    assert not folder.exists()
    assert cli("verify", "--model", tiny, "--json").code == 1
    found = read_verdict(fingerprint(open_model(tiny)))
    assert found
    assert (found.passed, found.max_abs_diff) == (False, 0.5)
    edit_weights(tiny, lambda tensors: np.add.at(tensors["transformer.h.2.mlp.c_proj.bias"], 3, 0.5))
    assert read_verdict(fingerprint(open_model(tiny))) is None

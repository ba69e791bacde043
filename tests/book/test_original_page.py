"""The code of the original page runs with the changes that the book shows, and with no others."""

import ast
import re
import warnings
from pathlib import Path
from typing import Any

import pytest

from book.page_changes import CHANGES, DEMO_CHANGES, apply
from tests.book.pages import ROOT, blocks

PAGE = ROOT / "fixtures" / "original_page.md"
#: The Python block of each section.
CODE = {
    match[1]: blocks(match[2])[0].text
    for match in re.finditer(r"^## ([^\n]*)\n(.*?)(?=^## |\Z)", PAGE.read_text(), re.MULTILINE | re.DOTALL)
}


def changed(section: str) -> str:
    """Return the code of a section with all changes for the demo."""
    return apply(CHANGES + DEMO_CHANGES, CODE[section])


def run(code: str, names: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    """Run code as a part of one program, and return its standard output and standard error."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Tensor.constant", category=DeprecationWarning)
        exec(compile(code, PAGE.name, "exec"), names)
    return capsys.readouterr()


def assert_verified(out: str) -> None:
    """Check the output of the section "Verification"."""
    found = re.fullmatch(r"Max difference: (\S+)\n", out)
    assert found, out
    assert float(found[1]) < 1e-4  # the bound that the page promises


@pytest.mark.slow
def test_page_runs_on_the_demo(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(ROOT)
    names: dict[str, Any] = {"__name__": "__main__"}
    out, err = run(changed("Complete example"), names, capsys)
    assert out.startswith("The future of artificial intelligence is")  # the page samples without a seed
    assert err.count("Compiling MaxGPT2LMHeadModel") == 1
    assert names["generated_np"].shape == (1, names["tokens"].shape[1] + 50)
    out, err = run(changed("Verification"), names, capsys)
    assert_verified(out)
    assert "Compiling" not in err

    # Another size, followed by the "rest of loading process" of the second section.
    run(changed("Available model sizes"), names, capsys)
    run(changed("2. Transfer to MAX model").split("\n")[-2], names, capsys)
    out, err = run(changed("Verification"), names, capsys)
    assert_verified(out)
    assert err.count("Compiling MaxGPT2LMHeadModel") == 1

    # The three sections that explain the steps; the third uses the device of the complete example.
    for section in ("1. Load HuggingFace weights", "2. Transfer to MAX model", "3. Transpose Conv1D weights"):
        out, _ = run(changed(section), names, capsys)
    assert out.count("Transposing ") == 24
    assert "Transposing transformer.h.5.mlp.c_proj: [Dim(256), Dim(1024)]" in out


def test_each_change_occurs_on_the_page() -> None:
    text = "".join(CODE.values())
    for change in CHANGES + DEMO_CHANGES:
        assert change.before in text
        assert change.before not in change.after or change.before.startswith("from solutions")
        assert change.reason.endswith(".")
    assert len(CODE) == 6
    for section in CODE:
        ast.parse(changed(section))


def test_names_of_other_checkpoints_do_not_remain() -> None:
    assert '"gpt2' not in "".join(changed(section) for section in CODE)


def test_changes_refer_to_the_demo() -> None:
    paths = {path for change in DEMO_CHANGES for path in re.findall(r'"(src/[^"]*)"', change.after)}
    assert [(ROOT / path).is_dir() for path in paths] == [True]
    assert Path("src/max_gpt2/demo") in {Path(path) for path in paths}

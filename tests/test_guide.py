"""What the guide shows, run."""

import re
from pathlib import Path

import pytest

GUIDE = (Path(__file__).parent.parent / "docs" / "guide.md").read_text()


def test_the_python_of_the_guide_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
    names: dict[str, object] = {}
    exec(block.replace('from_pretrained("gpt2")', 'from_pretrained("demo")'), names)
    assert capsys.readouterr().out
    assert "Score(tokens=" in repr(names["score"])

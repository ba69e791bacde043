import pytest


def test_a_text_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    from max_gpt2.cli.console import stdout, table

    stdout.print(table(("[a]", "left"), rows=[["[bold]:smile:[/nothing]"]], title="[b]"))
    shown = capsys.readouterr().out
    assert all(text in shown for text in ("[a]", "[bold]:smile:[/nothing]", "[b]"))

import pytest


def test_table_cells_are_not_parsed_as_markup(capsys: pytest.CaptureFixture[str]) -> None:
    from max_gpt2.cli.console import stdout, table

    stdout.print(table(("[a]", "left"), rows=[["[bold]:smile:[/nothing]"]], title="[b]"))
    shown = capsys.readouterr().out
    assert all(text in shown for text in ("[a]", "[bold]:smile:[/nothing]", "[b]"))

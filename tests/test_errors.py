from max_gpt2.errors import CheckpointError


def test_what_a_message_quotes_cannot_command_a_terminal() -> None:
    assert str(CheckpointError("the tensor \x1b[2Jh.\ud8000\r is\nmissing 🌍 é")) == (
        r"the tensor \x1b[2Jh.\ud8000\r is" + "\nmissing 🌍 é"
    )


def test_a_long_line_keeps_its_two_ends() -> None:
    message = str(CheckpointError("first " + "x" * 100_000 + " last\nsecond"))
    assert message.startswith("first x")
    assert message.endswith("x last\nsecond")
    assert len(message) < 1100

from max_gpt2.errors import CheckpointError


def test_control_characters_in_messages_are_escaped() -> None:
    assert str(CheckpointError("the tensor \x1b[2Jh.\ud8000\r is\nmissing 🌍 é")) == (
        r"the tensor \x1b[2Jh.\ud8000\r is" + "\nmissing 🌍 é"
    )


def test_long_line_is_shortened_in_the_middle() -> None:
    message = str(CheckpointError("first " + "x" * 100_000 + " last\nsecond"))
    assert message.startswith("first x")
    assert message.endswith("x last\nsecond")
    assert len(message) < 1100

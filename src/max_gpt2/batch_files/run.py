"""Answer the lines of a file, into another file."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from max_gpt2.batch_files.answers import Answers
from max_gpt2.batch_files.lines import InputFile
from max_gpt2.batch_files.output import OutputFile, Record
from max_gpt2.errors import StoppedError

Tell = Callable[[Record], None]


def write_answers(source: InputFile, output: OutputFile, answers: Answers, tell: Tell) -> None:
    """Write a record for each line that the output does not have yet, and hand it to `tell` when it is in the file."""
    output.begin()
    after = source.numbers[output.done - 1] if output.done else 0
    for record in answers(source.lines(after)):
        output.write(record)
        tell(record)


@contextmanager
def kept_on_ctrl_c(output: OutputFile, total: int) -> Iterator[None]:
    """Say on Ctrl-C what is kept and how to go on: raises StoppedError."""
    try:
        yield
    except KeyboardInterrupt as error:
        raise StoppedError(
            f"Stopped by Ctrl-C after {output.done} of {total} lines. They are in {output.path}; run the same "
            "command again to go on."
        ) from error

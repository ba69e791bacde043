"""Answer the lines of a file one by one, into another file."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from max_gpt2.batch_files.lines import InputFile, Line
from max_gpt2.batch_files.output import OutputFile, Record
from max_gpt2.errors import MaxGPT2Error, RequestError, StoppedError

Answer = Callable[[Line], Record]
Tell = Callable[[Record], None]


def answer_lines(source: InputFile, answer: Answer, after: int = 0) -> Iterator[Record]:
    """Yield a record for each line after number `after`; one that cannot be answered says why in its place."""
    for line in source.lines(after):
        record: Record = {"line": line.number}
        if (id_ := line.fields.get("id")) is not None and isinstance(id_, str | int):
            record["id"] = id_
        try:
            if line.problem is not None:
                raise RequestError(line.problem)
            record |= answer(line)
        except MaxGPT2Error as error:
            record["error"] = str(error)
        yield record


def write_answers(source: InputFile, output: OutputFile, answer: Answer, tell: Tell) -> None:
    """Write a record for each line that the output does not have yet, and hand it to `tell` when it is in the file."""
    output.begin()
    after = source.numbers[output.done - 1] if output.done else 0
    for record in answer_lines(source, answer, after):
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

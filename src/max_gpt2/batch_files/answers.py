"""What becomes of a line: a record, with the answer or with what is wrong."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from max_gpt2.batch_files.lines import Line
from max_gpt2.batch_files.output import Record
from max_gpt2.errors import MaxGPT2Error, RequestError

#: What answers lines: a record for each, in their order.
Answers = Callable[[Iterable[Line]], Iterator[Record]]
Found = TypeVar("Found")


def attempt(line: Line, answer: Callable[[Line], Found]) -> Found | MaxGPT2Error:
    """Return the answer to a line, or why there is none."""
    try:
        if line.problem is not None:
            raise RequestError(line.problem)
        return answer(line)
    except MaxGPT2Error as error:
        return error


def finished(line: Line, found: Record | MaxGPT2Error) -> Record:
    """Return the record of a line: its number, its id if it has one, and what was found."""
    id_ = line.fields.get("id")
    return {
        "line": line.number,
        **({"id": id_} if isinstance(id_, str | int) else {}),
        **({"error": str(found)} if isinstance(found, MaxGPT2Error) else found),
    }

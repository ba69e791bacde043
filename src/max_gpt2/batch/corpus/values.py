"""Convert values of Arrow columns to Python."""

from typing import TYPE_CHECKING, Any

from max_gpt2.batch.inputs import decode_text
from max_gpt2.errors import RequestError

if TYPE_CHECKING:
    import pyarrow


class Problem(str):
    """A sentence in place of a value that has no Python value."""


def text_value(name: str, content: bytes | None, problems: list[str]) -> str | None:
    """Return the text of a row, or None and add a problem."""
    if content is None:
        problems.append(f'The column "{name}" is null. Give it a text.')
        return None
    try:
        return decode_text(content, "The text")
    except RequestError as error:
        problems.append(str(error))
        return None


def unless_problem(value: Any, problems: list[str]) -> Any:
    """Return a value; None for a `Problem`, which is added to the problems."""
    if isinstance(value, Problem):
        problems.append(str(value))
        return None
    return value


def python_values(name: str, array: "pyarrow.Array") -> list[Any]:
    """Return the values of a column; a `Problem` for one without a Python value, such as text that is not UTF-8.

    Values with times stay scalars of Arrow: Python's types have no nanoseconds.
    """
    if _has_times(array.type):
        return [one if one.is_valid else None for one in array]
    try:
        return array.to_pylist()
    except ValueError:
        return [_python_value(name, one) for one in array]


def _has_times(type_: "pyarrow.DataType") -> bool:
    from pyarrow import types

    children = (type_.field(index).type for index in range(type_.num_fields))
    return types.is_temporal(type_) or any(map(_has_times, children))


def _python_value(name: str, scalar: "pyarrow.Scalar") -> Any:
    try:
        return scalar.as_py()
    except UnicodeDecodeError:
        return Problem(f'The column "{name}" is not UTF-8. Save it as UTF-8.')
    except ValueError as error:
        return Problem(f'The column "{name}" cannot be converted ({error}).')

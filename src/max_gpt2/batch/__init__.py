"""Many texts: a file with one a line in, a file of JSON lines out, which a second run goes on with."""

from max_gpt2.batch.files import InputFile, Line, OutputFile, Record, identity
from max_gpt2.batch.run import (
    Answers,
    Tally,
    check_defaults,
    generation_answers,
    generation_options,
    kept_on_ctrl_c,
    score_answers,
    write_answers,
)

__all__ = [
    "Answers",
    "InputFile",
    "Line",
    "OutputFile",
    "Record",
    "Tally",
    "check_defaults",
    "generation_answers",
    "generation_options",
    "identity",
    "kept_on_ctrl_c",
    "score_answers",
    "write_answers",
]

"""Many texts: a file with one a line in, a file of JSON lines out, which a second run goes on with."""

from max_gpt2.batch_files.answers import Tally, check_defaults, generation_answer, generation_options, score_answer
from max_gpt2.batch_files.identity import identity
from max_gpt2.batch_files.lines import InputFile, Line
from max_gpt2.batch_files.output import OutputFile, Record
from max_gpt2.batch_files.run import Answer, answer_lines, kept_on_ctrl_c, write_answers

__all__ = [
    "Answer",
    "InputFile",
    "Line",
    "OutputFile",
    "Record",
    "Tally",
    "answer_lines",
    "check_defaults",
    "generation_answer",
    "generation_options",
    "identity",
    "kept_on_ctrl_c",
    "score_answer",
    "write_answers",
]

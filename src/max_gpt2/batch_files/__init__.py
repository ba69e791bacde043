"""Many texts: a file with one a line in, a file of JSON lines out, which a second run goes on with."""

from max_gpt2.batch_files.answers import Answers
from max_gpt2.batch_files.generated import check_defaults, generation_answers, generation_options
from max_gpt2.batch_files.identity import identity
from max_gpt2.batch_files.lines import InputFile, Line
from max_gpt2.batch_files.output import OutputFile, Record
from max_gpt2.batch_files.run import kept_on_ctrl_c, write_answers
from max_gpt2.batch_files.scored import score_answers
from max_gpt2.batch_files.tally import Tally

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

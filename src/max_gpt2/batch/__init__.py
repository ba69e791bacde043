"""Generate or score each line of a file; a second run resumes an incomplete output."""

from max_gpt2.batch.files import OutputFile, Record
from max_gpt2.batch.generate import generate_file
from max_gpt2.batch.inputs import Columns, InputFile, Line
from max_gpt2.batch.run import BatchFiles, BatchSummary, OnRecord, Totals
from max_gpt2.batch.score import score_file

__all__ = [
    "BatchFiles",
    "BatchSummary",
    "Columns",
    "InputFile",
    "Line",
    "OnRecord",
    "OutputFile",
    "Record",
    "Totals",
    "generate_file",
    "score_file",
]

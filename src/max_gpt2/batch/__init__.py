"""Generate or score each line of a file; a second run resumes an incomplete output."""

from max_gpt2.batch.files import InputFile, Line, OutputFile, Record
from max_gpt2.batch.run import BatchFiles, BatchSummary, OnRecord, Totals, generate_file, score_file

__all__ = [
    "BatchFiles",
    "BatchSummary",
    "InputFile",
    "Line",
    "OnRecord",
    "OutputFile",
    "Record",
    "Totals",
    "generate_file",
    "score_file",
]

"""Score, measure or continue the texts of a corpus: parts of many rows, each written once, by any number of processes.

Needs pyarrow, the extra `corpus`.
"""

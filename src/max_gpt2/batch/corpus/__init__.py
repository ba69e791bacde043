"""Run over a corpus: a dataset of many files whose output is a folder of parts."""

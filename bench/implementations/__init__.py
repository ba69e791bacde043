"""Benchmarked implementations, which `bench.worker` runs.

Each file defines `load(folder) -> generate(prompts, new)`, `load_scorer(folder) -> score(texts)`, or both.
"""

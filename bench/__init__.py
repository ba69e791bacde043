"""Benchmarks, each as a ratio to transformers in the same run: `python -m bench.NAME`."""

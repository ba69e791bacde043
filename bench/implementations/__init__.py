"""Benchmarked implementations: each file defines `load(folder) -> generate(prompts, new)`; `bench.worker` runs them."""

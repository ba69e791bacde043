"""What is measured: each file has `load(folder)`, which returns what continues prompts. `bench.worker` runs them."""

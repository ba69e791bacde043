"""Your GPT-2: fill in one file per step. `make check STEP=1` checks your code."""

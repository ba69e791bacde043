"""Your GPT-2: each file is a step, to be filled in. `make check STEP=1` tells whether it is right."""

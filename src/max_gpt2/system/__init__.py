"""The machine: processor, memory, caches, and the checks of `max-gpt2 doctor`."""

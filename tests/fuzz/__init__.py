"""Damaged checkpoints of every format: each is refused by name, or is loaded as another reader understands it.

`make test` runs a part of them with a fixed seed, `make fuzz` as many as are asked for with a new one.
"""

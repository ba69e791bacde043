"""Damaged checkpoints of every format: each must be rejected with its name or load as an independent reader reads it.

`make test-all` runs 5,000 cases with a fixed seed; `make fuzz` runs any number with a new seed.
"""

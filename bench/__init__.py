"""What is measured, always as a ratio to transformers in the same run; run as `python -m bench.NAME`."""

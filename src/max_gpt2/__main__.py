"""Run the command line: `python -m max_gpt2`."""

from max_gpt2.cli import main

main()

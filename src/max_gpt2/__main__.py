"""`python -m max_gpt2` is the command line."""

from max_gpt2.cli import main

main()

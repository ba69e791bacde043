"""The command line, `max-gpt2`."""


def main() -> None:
    """Run the command line. Typer is imported here because the library does not need it."""
    from max_gpt2.cli.app import main as run

    run()

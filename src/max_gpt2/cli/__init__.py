"""The command line, `max-gpt2`."""


def main() -> None:
    """Run the command line. The import is here because most of the package does not need typer."""
    from max_gpt2.cli.app import main as run

    run()

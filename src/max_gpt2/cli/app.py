"""The `max-gpt2` application: it registers the commands, grouped by task, and runs them."""

import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from max_gpt2 import __version__
from max_gpt2.cli.activations import activations
from max_gpt2.cli.checkpoint import info
from max_gpt2.cli.compare_weights import compare_weights
from max_gpt2.cli.convert import convert
from max_gpt2.cli.corpus import corpus
from max_gpt2.cli.evaluate import eval  # noqa: A004  (the name of the command)
from max_gpt2.cli.generate import beams, generate
from max_gpt2.cli.golden import golden
from max_gpt2.cli.machine import doctor, warmup
from max_gpt2.cli.perplexity import perplexity
from max_gpt2.cli.process import run_guarded
from max_gpt2.cli.score import score
from max_gpt2.cli.serve import serve
from max_gpt2.cli.verify import verify
from max_gpt2.cli.xray import xray

#: The sections of `max-gpt2 --help`. A command that is a group has commands of its own.
GROUPS: dict[str, tuple[Callable[..., None] | typer.Typer, ...]] = {
    "Text": (generate, beams, serve),
    "Measure": (score, perplexity, activations, xray, corpus, golden, eval),
    "Checkpoints": (info, verify, compare_weights, convert),
    "Machine": (doctor, warmup),
}


def command_name(command: Callable[..., None] | typer.Typer) -> str:
    """Return the name of a command or of a group."""
    return str(command.info.name) if isinstance(command, typer.Typer) else command.__name__.replace("_", "-")


class GroupedHelp(TyperGroup):
    """A group that lists its commands by section, with complete one-line summaries."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write one section per group."""
        del ctx
        for group, commands in GROUPS.items():
            with formatter.section(group):
                names = [command_name(command) for command in commands]
                formatter.write_dl([(name, self.commands[name].get_short_help_str(limit=1000)) for name in names])


app = typer.Typer(
    cls=GroupedHelp,
    help="Run any GPT-2 checkpoint on MAX: generate, score, serve, and verify it against PyTorch.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.callback(invoke_without_command=True)
def options(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
) -> None:
    """Show the version, or the help when no command is given."""
    if version:
        print(__version__)
    elif context.invoked_subcommand is None:
        print(context.get_help())


for _group, _commands in GROUPS.items():
    for _command in _commands:
        if isinstance(_command, typer.Typer):
            app.add_typer(_command, rich_help_panel=_group)
        else:
            app.command(rich_help_panel=_group)(_command)


def main() -> None:
    """Run the command line; report errors as one message on standard error and exit with a code."""
    sys.exit(run_guarded(lambda: app(standalone_mode=False)))

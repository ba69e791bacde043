"""The command that opens the page to look into a model: `max-gpt2 xray`."""

import webbrowser
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from max_gpt2.cli.options import (
    DEFAULT_WEIGHTS,
    Adapters,
    AllowNonfinite,
    AllowPickle,
    Model,
    Tokenizer,
    WhichWeights,
    parse_adapters,
)
from max_gpt2.errors import MissingExtraError, RequestError

_EXTRA = "The dependencies of the x-ray page are not installed (no module {missing}). Install them: {install}."


def xray(
    text: Annotated[str | None, typer.Argument(help="The text to show first.")] = None,
    model: Model = "demo",
    compare: Annotated[
        list[str] | None,
        typer.Option("--compare", metavar="MODEL", help="Load another checkpoint to compare with; repeatable."),
    ] = None,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write the page of the text as one file instead.")
    ] = None,
    bos: Annotated[bool, typer.Option("--bos/--no-bos", help="Start the text with the BOS token.")] = False,
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="The port to listen on; 0 picks a free one.")
    ] = 8010,
    open_browser: Annotated[bool, typer.Option("--open/--no-open", help="Open the page in the browser.")] = True,
    tokenizer: Tokenizer = None,
    adapter: Adapters = None,
    allow_pickle: AllowPickle = False,
    allow_nonfinite: AllowNonfinite = False,
    weights: WhichWeights = DEFAULT_WEIGHTS,
) -> None:
    """Look into a model in the browser.

    The page shows surprisal, attention, logit lens and attribution, and ablates heads and MLPs. It is for this machine
    only, and loads nothing from the network. --adapter and --tokenizer belong to --model.
    """
    try:
        from max_gpt2.inspect.xray.app import Start
        from max_gpt2.inspect.xray.export import export
        from max_gpt2.inspect.xray.page import static_files
        from max_gpt2.inspect.xray.server import load_analysis, serve_page

        static_files()  # imports Plotly, before anything is loaded
    except ModuleNotFoundError as error:
        raise MissingExtraError(_EXTRA.format(missing=error.name, install="pip install 'max-gpt2[xray]'")) from error
    from max_gpt2._files import write_text
    from max_gpt2.checkpoint import LoadOptions
    from max_gpt2.cli.console import run_with_timer
    from max_gpt2.cli.process import is_interactive, read_piped_text
    from max_gpt2.generation import open_model
    from max_gpt2.system.listen import listen

    load = LoadOptions(tokenizer, allow_pickle, allow_nonfinite, "mojo", parse_adapters(adapter), weights)
    text = text if text is not None else read_piped_text()
    if html is not None:
        _check_file(html, text, compare)
        found = load_analysis(model, open_model(model, load), run_with_timer)
        write_text(html, run_with_timer("Computing", lambda: export(found, text or "", bos)))
        return
    with listen("127.0.0.1", port) as listening:
        others = replace(load, tokenizer=None, adapters=())
        opened = [(model, open_model(model, load)), *((other, open_model(other, others)) for other in compare or [])]
        models = [load_analysis(name, one, run_with_timer) for name, one in opened]
        if text is not None:
            models[0].encode(text, bos)  # raises for a text that the page could not show
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/"

        def ready() -> None:
            print(f"The page is at {url} until Ctrl-C.", flush=True)
            if open_browser and is_interactive():
                webbrowser.open(url)

        serve_page(models, Start(text, bos), listening, ready)


def _check_file(html: Path, text: str | None, compare: list[str] | None) -> None:
    """Raise RequestError for options that --html cannot be used with, and a file that cannot be written."""
    from max_gpt2._files import check_writable

    if text is None:
        raise RequestError('--html needs a text. Give one: max-gpt2 xray "text" --html FILE.')
    if compare:
        raise RequestError("--html writes the page of one model. Remove --compare, or write a file for each model.")
    check_writable(html)

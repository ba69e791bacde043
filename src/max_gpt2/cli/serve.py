"""The command that serves: `max-gpt2 serve`."""

import json
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from max_gpt2.cli.options import AllowNonfinite, AllowPickle, Model, Tokenizer
from max_gpt2.errors import MissingExtraError, StoppedError

if TYPE_CHECKING:
    from max_gpt2.serve.front.start import Door

_EXTRA = "The server is not installed ({missing}). Install it: pip install 'max-gpt2[serve]'."


def serve(
    model: Model = "demo",
    host: Annotated[str, typer.Option("--host", help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="The port; 0 takes a free one.")] = 8000,
    max_batch_size: Annotated[
        int, typer.Option("--max-batch-size", min=1, max=512, help="How many texts are written at a time.")
    ] = 32,
    served_model_name: Annotated[
        str | None, typer.Option("--served-model-name", metavar="NAME", help="What clients call the model.")
    ] = None,
    api_key: Annotated[
        str | None,
        typer.Option("--api-key", metavar="KEY", envvar="MAX_GPT2_API_KEY", help="Let only those in that send it."),
    ] = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="Listen on any address without a key.")] = False,
    chat_template: Annotated[
        Path | None, typer.Option("--chat-template", metavar="FILE", help="A Jinja template, for chats.")
    ] = None,
    queue_size: Annotated[
        int, typer.Option("--queue-size", min=0, max=100_000, help="How many requests may wait.")
    ] = 256,
    max_body_bytes: Annotated[
        int, typer.Option("--max-body-bytes", min=1000, max=1 << 30, help="The size of the largest request.")
    ] = 4 << 20,
    drain_seconds: Annotated[
        float, typer.Option("--drain-seconds", min=0, max=86_400, help="How long to finish requests when stopped.")
    ] = 30.0,
    tokenizer: Tokenizer = None,
    allow_pickle: AllowPickle = False,
    allow_nonfinite: AllowNonfinite = False,
) -> None:
    """Serve a model to OpenAI's clients, on MAX's own server, until Ctrl-C."""
    try:
        from max_gpt2.serve.command import worker_command, worker_environment
        from max_gpt2.serve.front.chat import ChatTemplate, find_template
        from max_gpt2.serve.front.process import Command
        from max_gpt2.serve.front.served import Limits, Served
        from max_gpt2.serve.front.server import listen
        from max_gpt2.serve.front.start import Door, check_door, run_server
        from max_gpt2.serve.prepare import prepare
    except ModuleNotFoundError as error:
        raise MissingExtraError(_EXTRA.format(missing=f"there is no {error.name}")) from error
    from max_gpt2.checkpoint import LoadOptions
    from max_gpt2.cli.console import stderr, with_clock

    check_door(host, api_key, insecure)
    with listen(host, port) as listening:
        door = Door(host, listening.getsockname()[1], api_key)
        name = served_model_name or model
        prepared = prepare(model, LoadOptions(tokenizer, allow_pickle, allow_nonfinite), run=with_clock)
        found = find_template(chat_template, prepared.tokenizer.folder)
        template = ChatTemplate(found[0], prepared.tokenizer, found[1]) if found else None

        environment = {key: value for key, value in os.environ.items() if key != "MAX_GPT2_API_KEY"}

        def launch(worker_port: int, metrics_port: int) -> Command:
            return Command(
                worker_command(prepared, worker_port, name=name, max_batch_size=max_batch_size),
                worker_environment(metrics_port, allow_nonfinite=allow_nonfinite, base=environment),
                f"http://127.0.0.1:{metrics_port}/metrics",
            )

        _log()
        status = stderr.status(f"The worker starts (about a minute the first time); {door.url()}/health says when")
        stderr.print(f"[dim]Listening on {door.url()}[/dim]")
        status.start()
        limits = Limits(
            max_batch_size=max_batch_size, queue_size=queue_size, max_body_bytes=max_body_bytes, drain_s=drain_seconds
        )

        def ready() -> None:
            status.stop()
            _show(door, name, template is not None)

        served = Served(name, prepared.config, prepared.tokenizer)
        try:
            forced = run_server(served, launch, listening, limits, key=api_key, template=template, ready=ready)
        finally:
            status.stop()
    if forced:
        raise StoppedError("Stopped at once, as it was asked to twice: what was being answered was cut off.")


def _show(door: "Door", name: str, chats: bool) -> None:
    """Say that it is ready, and how to use it."""
    from max_gpt2.serve.front.start import curl

    paths = "/v1/completions and /v1/chat/completions" if chats else "/v1/completions"
    print(f"Ready: {json.dumps(name, ensure_ascii=False)} at {door.url()}/v1 ({paths}). Try:", flush=True)
    print(curl(door, name), flush=True)


class _ToConsole(logging.Handler):
    """Shows what is logged on standard error, between the lines of whatever is in progress."""

    def emit(self, record: logging.LogRecord) -> None:
        """Show a line."""
        from max_gpt2.cli.console import stderr

        stderr.print(self.format(record), markup=False, soft_wrap=True)


def _log() -> None:
    """Show what the server logs; with MAX_GPT2_DEBUG=1 also what its worker says."""
    handler = _ToConsole()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))
    for name, level in (("max_gpt2.serve", logging.INFO), ("uvicorn", logging.ERROR)):
        logger = logging.getLogger(name)
        logger.addHandler(handler)
        logger.setLevel(level)
        logger.propagate = False
    if os.environ.get("MAX_GPT2_DEBUG"):
        logging.getLogger("max_gpt2.serve").setLevel(logging.DEBUG)

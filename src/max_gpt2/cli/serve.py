"""The server command: `max-gpt2 serve`."""

import json
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
from max_gpt2.errors import MissingExtraError, StoppedError

if TYPE_CHECKING:
    from max_gpt2.serve.launch import ListenAddress

_EXTRA = "The server dependencies are not installed ({missing}). Install them: pip install 'max-gpt2[serve]'."


def serve(
    model: Model = "demo",
    host: Annotated[str, typer.Option("--host", help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="The port to listen on; 0 picks a free one.")
    ] = 8000,
    max_batch_size: Annotated[
        int, typer.Option("--max-batch-size", min=1, max=512, help="Maximum number of sequences generated at once.")
    ] = 32,
    served_model_name: Annotated[
        str | None, typer.Option("--served-model-name", metavar="NAME", help="The model name that clients use.")
    ] = None,
    api_key: Annotated[
        str | None,
        typer.Option("--api-key", metavar="KEY", envvar="MAX_GPT2_API_KEY", help="Require this API key from clients."),
    ] = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="Allow a public address without an API key.")] = False,
    chat_template: Annotated[
        Path | None, typer.Option("--chat-template", metavar="FILE", help="The Jinja chat template.")
    ] = None,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-origin",
            metavar="ORIGIN",
            help="Allow web pages from this origin, such as https://example.com, to use the server; repeatable.",
        ),
    ] = None,
    queue_size: Annotated[
        int, typer.Option("--queue-size", min=0, max=100_000, help="Maximum number of waiting requests.")
    ] = 256,
    max_body_bytes: Annotated[
        int, typer.Option("--max-body-bytes", min=1000, max=1 << 30, help="Maximum size of a request body.")
    ] = 4 << 20,
    drain_seconds: Annotated[
        float,
        typer.Option("--drain-seconds", min=0, max=86_400, help="Seconds to finish requests after a stop signal."),
    ] = 30.0,
    tokenizer: Tokenizer = None,
    adapter: Adapters = None,
    allow_pickle: AllowPickle = False,
    allow_nonfinite: AllowNonfinite = False,
    weights: WhichWeights = DEFAULT_WEIGHTS,
) -> None:
    """Serve a model over HTTP to clients of the OpenAI API."""
    try:
        from max_gpt2.serve.frontend.chat import ChatTemplate, find_template
        from max_gpt2.serve.launch import (
            ListenAddress,
            ServerOptions,
            check_listen_address,
            check_origins,
            run_server,
            worker_command,
            worker_environment,
        )
        from max_gpt2.serve.prepare import prepare
        from max_gpt2.serve.runtime.process import Command
        from max_gpt2.serve.settings import Limits, ServedModel
    except ModuleNotFoundError as error:
        raise MissingExtraError(_EXTRA.format(missing=f"no module {error.name}")) from error
    from max_gpt2.checkpoint import LoadOptions
    from max_gpt2.cli.console import run_with_timer, stderr
    from max_gpt2.system.listen import listen

    check_listen_address(host, api_key, insecure)
    origins = allow_origin or []
    check_origins(origins)
    with listen(host, port) as listening:
        address = ListenAddress(host, listening.getsockname()[1], api_key)
        name = served_model_name or model
        prepared = prepare(
            model,
            LoadOptions(tokenizer, allow_pickle, allow_nonfinite, "mojo", parse_adapters(adapter), weights),
            run=run_with_timer,
        )
        found = find_template(chat_template, prepared.tokenizer.folder)
        template = ChatTemplate(found[0], prepared.tokenizer, found[1]) if found else None

        environment = {key: value for key, value in os.environ.items() if key != "MAX_GPT2_API_KEY"}

        def launch(worker_port: int, metrics_port: int) -> Command:
            return Command(
                worker_command(prepared, worker_port, name=name, max_batch_size=max_batch_size),
                worker_environment(metrics_port, allow_nonfinite=allow_nonfinite, weights=weights, base=environment),
                f"http://127.0.0.1:{metrics_port}/metrics",
            )

        _log()
        status = stderr.status(f"Starting the worker (about a minute the first time); status at {address.url()}/health")
        stderr.print(f"[dim]Listening on {address.url()}[/dim]")
        status.start()
        limits = Limits(
            max_batch_size=max_batch_size, queue_size=queue_size, max_body_bytes=max_body_bytes, drain_s=drain_seconds
        )

        def ready() -> None:
            status.stop()
            _show(address, name, template is not None)

        served = ServedModel(name, prepared.config, prepared.tokenizer)
        try:
            forced = run_server(
                served, launch, listening, limits, ServerOptions(api_key, template, allow_origins=origins), ready
            )
        finally:
            status.stop()
    if forced:
        raise StoppedError("Stopped immediately on the second signal; in-flight requests were dropped.")


def _show(address: "ListenAddress", name: str, chats: bool) -> None:
    """Print the endpoint and an example request."""
    from max_gpt2.serve.launch import curl

    paths = "/v1/completions and /v1/chat/completions" if chats else "/v1/completions"
    print(f"Ready: {json.dumps(name, ensure_ascii=False)} at {address.url()}/v1 ({paths}). Try:", flush=True)
    print(curl(address, name), flush=True)


class _ToConsole(logging.Handler):
    """A log handler that prints on standard error without breaking the progress display."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record."""
        from max_gpt2.cli.console import stderr

        stderr.print(self.format(record), markup=False, soft_wrap=True)


def _log() -> None:
    """Print the server's log; with MAX_GPT2_DEBUG=1 include the output of the worker."""
    handler = _ToConsole()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))
    for name, level in (("max_gpt2.serve", logging.INFO), ("uvicorn", logging.ERROR)):
        logger = logging.getLogger(name)
        logger.addHandler(handler)
        logger.setLevel(level)
        logger.propagate = False
    if os.environ.get("MAX_GPT2_DEBUG"):
        logging.getLogger("max_gpt2.serve").setLevel(logging.DEBUG)

"""How MAX's server is started for a folder that was prepared."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from max_gpt2.serve.cache_room import PAGE, VARIABLE
from max_gpt2.serve.loading import ALLOW_NONFINITE
from max_gpt2.serve.prepare import Prepared

#: How many tokens of prompts are read at a time, which bounds the room that takes: MAX itself would read up to 8,192.
#: With 3,200 at once, what lies between two layers is in no cache any more, which took 6 % longer.
PROMPT_TOKENS = 1024


def worker_command(
    prepared: Prepared,
    port: int,
    *,
    name: str = "gpt2",
    host: str = "127.0.0.1",
    max_batch_size: int = 32,
    chat_template: Path | None = None,
    max_queue_size: int | None = None,
) -> list[str]:
    """Return the command of MAX's server, for `worker_environment`.

    `name` is what clients call the model, `max_batch_size` how many texts are written at a time. With more than
    `max_queue_size` requests that wait, the next ones get a 429.
    """
    command = [sys.executable, "-m", "max_gpt2.serve.worker", "serve"]
    command += ["--custom-architectures", "max_gpt2.serve", "--model-path", str(prepared.folder)]
    for path in prepared.weights:
        command += ["--weight-path", str(path)]
    command += ["--quantization-encoding", "float32", "--devices", "cpu", "--kv-cache-page-size", str(PAGE)]
    command += ["--served-model-name", name, "--host", host, "--port", str(port)]
    command += ["--max-batch-size", str(max_batch_size), "--max-batch-input-tokens", str(PROMPT_TOKENS)]
    command += ["--max-length", str(prepared.config.n_positions)]
    if chat_template:
        command += ["--chat-template", str(chat_template)]
    if max_queue_size:
        command += ["--max-queue-size", str(max_queue_size)]
    return command


def worker_environment(
    metrics_port: int,
    *,
    cache_bytes: int | None = None,
    allow_nonfinite: bool = False,
    base: Mapping[str, str] = os.environ,
) -> dict[str, str]:
    """Return the environment of MAX's server: nothing is sent anywhere, and its metrics are on a port of their own.

    `cache_bytes` is the memory for the keys and values, which `cache_room` decides about otherwise.
    """
    changes = {
        "HF_HUB_OFFLINE": "1",
        "MAX_SERVE_METRICS_ENDPOINT_PORT": str(metrics_port),
        "MODULAR_TELEMETRY_ENABLED": "0",
        "OTEL_SDK_DISABLED": "true",
        "TOKENIZERS_PARALLELISM": "false",
    }
    if cache_bytes is not None:
        changes[VARIABLE] = str(cache_bytes)
    if allow_nonfinite:
        changes[ALLOW_NONFINITE] = "1"
    return {**base, **changes}

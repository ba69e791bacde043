"""Runs MAX's server without PyTorch: `python -m max_gpt2.serve.worker.main serve ...`.

MAX reads configs and tokenizers with transformers, which imports PyTorch if it is installed. That costs seconds and
hundreds of megabytes in each process of the server. The processes that MAX spawns import this module before anything
else, which is why it is not `__main__.py`: multiprocessing does not reimport a module of that name.
"""

import sys
from typing import Any

_modules: dict[str, Any] = sys.modules
_modules.setdefault("torch", None)  # None makes `import torch` fail, as if it were not installed


def close_streams() -> None:
    """Make sse_starlette close the stream of a disconnected client, which it leaves to the garbage collector.

    Until then the sequence would be generated to its end, and `maxserve_num_requests_running` would count it.
    """
    from sse_starlette.sse import EventSourceResponse

    respond = EventSourceResponse.__call__

    async def respond_and_close(self: Any, *arguments: Any) -> None:
        try:
            await respond(self, *arguments)
        finally:
            stream, self.body_iterator = self.body_iterator, None
            await stream.aclose()

    EventSourceResponse.__call__ = respond_and_close  # type: ignore[assignment, method-assign]


def main() -> Any:
    """Run the command line of MAX's `max`."""
    close_streams()
    from max._entrypoints.pipelines import main as max_main

    return max_main()


if __name__ == "__main__":
    sys.exit(main())

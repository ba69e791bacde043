"""Run a complete server with a fake worker: `python -m tests.serve.frontend.serve_fake FOLDER PORT`."""

import argparse
import logging
import os
import sys
from dataclasses import replace

from max_gpt2.cli.process import run_guarded
from max_gpt2.generation import open_model
from max_gpt2.serve.launch import ServerOptions, run_server
from max_gpt2.serve.runtime.process import Command
from max_gpt2.serve.runtime.supervisor import Policy
from max_gpt2.serve.settings import Limits, ServedModel
from max_gpt2.system.listen import listen

POLICY = Policy(first_pause_s=0.1, longest_pause_s=0.4, poll_s=0.05, end_s=1.0, silent_s=2.0, stall_s=1.5)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("port", type=int)
    parser.add_argument("--drain", type=float, default=5.0)
    parser.add_argument("--stall", type=float, default=POLICY.stall_s)
    parser.add_argument("worker", nargs="*", help="options of the fake worker")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    opened = open_model(options.folder)
    served = ServedModel("tiny", opened.config, opened.tokenizer)

    def launch(port: int, metrics_port: int) -> Command:
        del metrics_port
        command = [sys.executable, "-m", "tests.serve.frontend.fake_worker", "--port", str(port), *options.worker]
        return Command(command, dict(os.environ), f"http://127.0.0.1:{port}/metrics")

    with listen("127.0.0.1", options.port) as listening:
        print(listening.getsockname()[1], flush=True)
        limits = Limits(max_batch_size=4, queue_size=60, drain_s=options.drain)
        policy = replace(POLICY, stall_s=options.stall)
        server_options = ServerOptions(policy=policy)
        forced = run_server(served, launch, listening, limits, server_options, lambda: print("ready", flush=True))
    return 2 if forced else 0


if __name__ == "__main__":
    sys.exit(run_guarded(main))

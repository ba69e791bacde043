"""Load damaged checkpoints under limits of memory and time, and report the outcome of each.

This is a separate process, so that the parent notices a crash or a hang in native code. It reads one line of JSON per
case from standard input (the name of the oracle, the folder, whether it is still undamaged, and whether the damage
leaves the weights unchanged) and writes one line with the outcome.
"""

import json
import os
import resource
import signal
import sys
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from fixtures.checkpoints import TEXT, Tensors
from max_gpt2.checkpoint import Checkpoint, LoadOptions, load_checkpoint, load_weights
from max_gpt2.checkpoint.layout import canonical_shapes
from max_gpt2.errors import MaxGPT2Error
from max_gpt2.weights.quantise import float32
from tests.fuzz.oracle import reread

Expected = Callable[[], Tensors]
MEMORY = 2**30
SECONDS = 2.0
REFUSED, LOADED = "refused", "loaded"
LONGEST_MESSAGE = 100_000


def main() -> None:
    """Process cases until standard input ends; any other output goes to a file, which must stay empty."""
    outcomes = os.fdopen(os.dup(1), "w")
    printed = Path(sys.argv[1])
    target = os.open(printed, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(target, 1)
    os.dup2(target, 2)
    originals: dict[Path, Tensors] = {}
    for line in sys.stdin:
        oracle, name, undamaged, same = json.loads(line)
        folder = Path(name)
        if undamaged:
            originals[folder] = reread(oracle, folder)
        expected = partial(originals.__getitem__, folder) if same else partial(reread, oracle, folder)
        outcome = _outcome(folder, expected) if undamaged else _limited(folder, expected)
        if size := printed.stat().st_size:
            output = printed.read_text(errors="replace")[-2000:]
            os.truncate(printed, 0)
            outcome = f"printed {size} bytes: {output} (and then: {outcome})"
        outcomes.write(json.dumps(outcome) + "\n")
        outcomes.flush()


def _limited(folder: Path, expected: Expected) -> str:
    """Load under limits of memory and processor time; SIGPROF ends the process when the time is over."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, resource.RLIM_INFINITY))
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        return _outcome(folder, expected)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def _outcome(folder: Path, expected: Expected) -> str:
    """Load a checkpoint and return "refused", "loaded" or a description of the fault."""
    outcome, checkpoint = "", None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            checkpoint = load_checkpoint(folder, LoadOptions(allow_pickle=True))
        except MaxGPT2Error as error:
            outcome = _fault_of_refusal(error, folder)
        except BaseException as error:
            outcome = f"{_location(error)} {type(error).__name__}: {str(error)[:500]}"
    if caught:
        return f"{caught[0].filename} warns: {caught[0].message}"
    if checkpoint is None:
        return outcome
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # warnings of the oracle
            return _fault_of_load(checkpoint, expected())
    except BaseException as error:
        return f"loaded, but in {_location(error)} {type(error).__name__}: {str(error)[:500]}"


def _fault_of_refusal(error: MaxGPT2Error, folder: Path) -> str:
    message = str(error)
    cause: BaseException | None = error
    # For a legacy file, PyTorch reserves memory for a storage before it reads the data; the memory stays unused.
    reserved = "legacy" in folder.name
    while cause is not None:
        if isinstance(cause, MemoryError) or ("allocate memory" in str(cause) and not reserved):
            return f"{_location(cause)} ran out of memory: {message[:500]}"
        cause = cause.__cause__ or cause.__context__
    if str(folder) not in message:
        return f"the message names no file: {message[:500]}"
    return REFUSED if len(message) < LONGEST_MESSAGE else f"a message of {len(message)} characters: {message[:500]}"


def _fault_of_load(checkpoint: Checkpoint, expected: Tensors) -> str:
    shapes = canonical_shapes(checkpoint.config)
    if {name: value.shape for name, value in checkpoint.state_dict.items()} != shapes:
        return "loaded with names or shapes that do not match the config"
    if expected.keys() != shapes.keys():
        return f"loaded, but the file has different tensors: {sorted(expected.keys() ^ shapes.keys())}"
    for name, value in checkpoint.state_dict.items():
        if value.dtype != np.float32 or not value.flags.c_contiguous or not np.isfinite(value).all():
            return f"loaded {name} not as finite, contiguous float32"
        if not np.array_equal(value, expected[name]):
            return f"loaded {name} with values that differ from the file"
    for name, weight in load_weights(checkpoint.plan, "auto").items():
        if not np.array_equal(float32(weight), expected[name]):
            return f"loaded {name} as it is stored with values that differ from the file"
    ids = checkpoint.tokenizer.encode(TEXT)
    if not all(0 <= id_ < checkpoint.config.vocab_size for id_ in ids):
        return "loaded a tokenizer with ids beyond the vocabulary of the model"
    checkpoint.tokenizer.decode(ids)
    checkpoint.tokenizer.decode(range(checkpoint.tokenizer.size))
    return LOADED


def _location(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}" if trace else "native code"


if __name__ == "__main__":
    main()

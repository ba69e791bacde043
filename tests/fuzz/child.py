"""Loads one damaged checkpoint after another, under limits, and says what came of each.

A process of its own: what ends it, a crash or a hang in native code, is seen by the one that started it.
Reads a line for each case from standard input and answers with a line: the oracle's name, the folder, whether it is
undamaged yet, and whether the damage leaves the weights what they were.
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
from max_gpt2.checkpoint import Checkpoint, LoadOptions, load_checkpoint
from max_gpt2.checkpoint.layout import canonical_shapes
from max_gpt2.errors import MaxGPT2Error
from tests.fuzz.oracle import reread

Expected = Callable[[], Tensors]
MEMORY = 2**30
SECONDS = 2.0
REFUSED, LOADED = "refused", "loaded"
LONGEST_MESSAGE = 100_000


def main() -> None:
    """Answer until standard input ends; the process's own output goes to a file that has to stay empty."""
    answers = os.fdopen(os.dup(1), "w")
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
            said = printed.read_text(errors="replace")[-2000:]
            os.truncate(printed, 0)
            outcome = f"printed {size} bytes: {said} (and then: {outcome})"
        answers.write(json.dumps(outcome) + "\n")
        answers.flush()


def _limited(folder: Path, expected: Expected) -> str:
    """Load with a limit of memory, and of processor time: the signal that ends it ends the process."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, resource.RLIM_INFINITY))
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        return _outcome(folder, expected)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def _outcome(folder: Path, expected: Expected) -> str:
    """Load a checkpoint and return "refused", "loaded", or what is wrong with what happened."""
    outcome, checkpoint = "", None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            checkpoint = load_checkpoint(folder, LoadOptions(allow_pickle=True))
        except MaxGPT2Error as error:
            outcome = _fault_of_refusal(error, folder)
        except BaseException as error:
            outcome = f"{_place(error)} {type(error).__name__}: {str(error)[:500]}"
    if caught:
        return f"{caught[0].filename} warns: {caught[0].message}"
    if checkpoint is None:
        return outcome
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the oracle's
            return _fault_of_load(checkpoint, expected())
    except BaseException as error:
        return f"loaded, but in {_place(error)} {type(error).__name__}: {str(error)[:500]}"


def _fault_of_refusal(error: MaxGPT2Error, folder: Path) -> str:
    message = str(error)
    cause: BaseException | None = error
    # PyTorch reserves memory for one storage of an old file before it can be told that there is none; it is not used.
    reserved = "legacy" in folder.name
    while cause is not None:
        if isinstance(cause, MemoryError) or ("allocate memory" in str(cause) and not reserved):
            return f"{_place(cause)} ran out of memory: {message[:500]}"
        cause = cause.__cause__ or cause.__context__
    if str(folder) not in message:
        return f"names no file: {message[:500]}"
    return REFUSED if len(message) < LONGEST_MESSAGE else f"a message of {len(message)} characters: {message[:500]}"


def _fault_of_load(checkpoint: Checkpoint, expected: Tensors) -> str:
    shapes = canonical_shapes(checkpoint.config)
    if {name: value.shape for name, value in checkpoint.state_dict.items()} != shapes:
        return "loaded with other names or shapes than those of the config"
    if expected.keys() != shapes.keys():
        return f"loaded, and the file holds other tensors: {sorted(expected.keys() ^ shapes.keys())}"
    for name, value in checkpoint.state_dict.items():
        if value.dtype != np.float32 or not value.flags.c_contiguous or not np.isfinite(value).all():
            return f"loaded {name} not as finite, contiguous float32"
        if not np.array_equal(value, expected[name]):
            return f"loaded {name} with other values than the file has"
    ids = checkpoint.tokenizer.encode(TEXT)
    if not all(0 <= id_ < checkpoint.config.vocab_size for id_ in ids):
        return "loaded a tokenizer that writes ids that the model does not know"
    checkpoint.tokenizer.decode(ids)
    checkpoint.tokenizer.decode(range(checkpoint.tokenizer.size))
    return LOADED


def _place(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}" if trace else "native code"


if __name__ == "__main__":
    main()

"""Convert a checkpoint of any format to a GGUF file, the format of llama.cpp."""

import math
import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from max_gpt2.checkpoint.convert import Progress
from max_gpt2.checkpoint.convert_types import as_floats
from max_gpt2.checkpoint.destination import atomic_file, check_space, find_file
from max_gpt2.checkpoint.formats.gguf import gguf_name
from max_gpt2.checkpoint.gguf_metadata import add_config, add_tokenizer, check_config, check_tokenizer
from max_gpt2.checkpoint.layout import LM_HEAD, WTE, canonical_shapes, is_conv1d
from max_gpt2.checkpoint.load import inspect_checkpoint, read_tokenizer, stored_values
from max_gpt2.checkpoint.options import DEFAULT_OPTIONS, LoadOptions
from max_gpt2.checkpoint.plan import LoadPlan
from max_gpt2.errors import CheckpointError, DestinationError, RequestError
from max_gpt2.tokenizer import GPT2Tokenizer
from max_gpt2.weights.quantise import FLOATS, fitting_type, quantise

MAGIC = b"GGUF"
#: The types that can be written, in lower case as llama.cpp's converter spells them.
FILE_TYPES = ("f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0")
#: The largest magnitude that a type holds. A block of 32 holds a float16 scale times an integer of a few bits; in the
#: types that end in 1, it also holds a float16 minimum.
_LARGEST = {
    "F16": 65504.0,
    "BF16": float.fromhex("0x1.fep127"),
    "Q8_0": 127 * 65504.0,
    "Q5_0": 16 * 65504.0,
    "Q4_0": 8 * 65504.0,
    "Q5_1": 65504.0,
    "Q4_1": 65504.0,
}
#: The types with fewer bits than Q8_0, in which llama.cpp does not store the matrix of the output head.
_NARROW = ("Q5_1", "Q5_0", "Q4_1", "Q4_0")
_WPE = "transformer.wpe.weight"


@dataclass(frozen=True)
class GGUFConversion:
    """A written GGUF file.

    Attributes:
        file: Its path.
        bytes: Its size.
        type: The requested type, one of `FILE_TYPES`.
        types: The type of each tensor, by its name in the file.
        reasons: Why a matrix has another type than the requested one, by its name in the file.
        notes: Parts of the checkpoint that the file cannot hold, as sentences.
        plan: The load plan of the source.

    """

    file: Path
    bytes: int
    type: str
    types: dict[str, str]
    reasons: dict[str, str]
    notes: list[str]
    plan: LoadPlan


def parse_type(value: str) -> str:
    """Return one of `FILE_TYPES` in any case; raises RequestError for another type."""
    if (name := value.lower()) in FILE_TYPES:
        return name
    known = ", ".join(FILE_TYPES)
    if name.startswith(("q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "iq", "tq")):
        raise RequestError(
            f"--type {value} needs llama.cpp's quantizer. Write --type f32, then run "
            f"`llama-quantize IN.gguf OUT.gguf {value.upper()}`; here the types are {known}."
        )
    raise RequestError(f"--type {value!r} is not one of {known}.")


def default_type(plan: LoadPlan) -> str:
    """Return the narrowest type that loses nothing: that of the stored matrices if they share one, else "f32"."""
    shapes = canonical_shapes(plan.config)
    stored = {dtype for name, dtype in plan.read_dtypes.items() if _is_matrix(name, shapes[name])}
    return stored.pop().lower() if len(stored) == 1 else "f32"


def tensor_types(plan: LoadPlan, type_: str) -> tuple[dict[str, str], dict[str, str]]:
    """Return the GGUF type of each tensor by canonical name, and why a matrix has another one than `type_`.

    Vectors and position embeddings are F32. As in llama.cpp, rows that the block of a type does not divide become F16.
    llama.cpp stores the matrix of the output head in Q6_K when the other matrices are narrower than Q8_0. The gguf
    package does not write Q6_K; the next type that it writes is Q8_0.
    """
    wanted = type_.upper()
    types, reasons = dict[str, str](), dict[str, str]()
    for name, shape in canonical_shapes(plan.config).items():
        if name == LM_HEAD and plan.tied:
            continue
        if not _is_matrix(name, shape):
            types[name] = "F32"
            continue
        types[name] = wanted
        if wanted in _NARROW and name == (WTE if plan.tied else LM_HEAD):
            types[name], reasons[name] = "Q8_0", "the output head has 8 bits or more"
        row = shape[0] if is_conv1d(name) else shape[-1]
        if (fitting := fitting_type(types[name], row)) != types[name]:
            types[name], reasons[name] = fitting, f"rows of {row} are not a multiple of the block of {types[name]}"
    return types, reasons


def _is_matrix(name: str, shape: tuple[int, ...]) -> bool:
    return len(shape) == 2 and name != _WPE


def convert_to_gguf(
    model: str | Path,
    path: str | Path,
    type_: str | None = None,
    options: LoadOptions = DEFAULT_OPTIONS,
    *,
    force: bool = False,
    progress: Progress = lambda _done, _total: None,
) -> GGUFConversion:
    """Convert "demo", a hub id, a folder or a file to a new GGUF file, which is written atomically.

    `type_` is one of `FILE_TYPES`, or None for `default_type`; `force` replaces a GGUF file; `progress` is called with
    the number of bytes written so far and the total.

    Raises RequestError for an unknown type, DestinationError when the file cannot be written, ConfigError or
    TokenizerError when llama.cpp cannot compute the model, and MaxGPT2Error as `load_checkpoint` does.
    """
    type_ = None if type_ is None else parse_type(type_)
    target = find_file(path, force, MAGIC)
    plan = inspect_checkpoint(model, replace(options, weights="float32"))[2]
    check_config(plan.config, str(plan.origin.path))
    type_ = type_ or default_type(plan)
    if options.allow_nonfinite and type_ not in ("f32", "f16", "bf16"):
        raise RequestError(f"--allow-nonfinite needs --type f32, f16 or bf16: {type_} cannot hold NaN.")
    tokenizer = read_tokenizer(plan, options.tokenizer)
    check_tokenizer(tokenizer, str(model))
    _check_source(target, plan, tokenizer)
    types, reasons = tensor_types(plan, type_)
    check_space(target, sum(_sizes(plan, types).values()) + len(tokenizer.json.encode()))
    with atomic_file(target, force, MAGIC) as partial:
        notes = _write(partial, plan, tokenizer, types, _Request(str(model), type_, options.allow_nonfinite, progress))
        size = partial.stat().st_size
    named = {gguf_name(name): type_ for name, type_ in types.items()}
    return GGUFConversion(
        target, size, type_, named, {gguf_name(name): why for name, why in reasons.items()}, notes, plan
    )


@dataclass(frozen=True)
class _Request:
    """The model's name, the requested type, and how to write."""

    model: str
    type: str
    allow_nonfinite: bool
    progress: Progress


def _check_source(target: Path, plan: LoadPlan, tokenizer: GPT2Tokenizer) -> None:
    """Raise DestinationError if `target` is read by the conversion, or would hide the weights of the source folder."""
    read = {tensor.file for tensor in plan.origin.tensors} | {one.path for one in plan.adapters}
    read |= {tokenizer.folder / "tokenizer.json"} if tokenizer.folder else set()
    for path in read:
        real = Path(os.path.realpath(path))
        if target == real or real in target.parents:
            raise DestinationError(f"{target} is read by the conversion. Give another path.")
    folder = Path(os.path.realpath(plan.origin.path))
    if folder == target.parent and not plan.origin.conv1d:
        raise DestinationError(
            f"{target} lies in {folder}, the source, which would then hold two checkpoints. Give a path elsewhere."
        )


def _sizes(plan: LoadPlan, types: dict[str, str]) -> dict[str, int]:
    """Return the size in bytes of each tensor."""
    import gguf

    shapes = canonical_shapes(plan.config)
    blocks = {type_: gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[type_]] for type_ in set(types.values())}
    return {name: math.prod(shapes[name]) // blocks[type_][0] * blocks[type_][1] for name, type_ in types.items()}


def _write(path: Path, plan: LoadPlan, tokenizer: GPT2Tokenizer, types: dict[str, str], request: _Request) -> list[str]:
    """Write the file, one tensor at a time; return what it cannot hold.

    Raises OSError, and CheckpointError for values that a type cannot hold.
    """
    import gguf

    sizes, shapes = _sizes(plan, types), canonical_shapes(plan.config)
    with closing(gguf.GGUFWriter(path, "gpt2")) as writer:
        add_config(
            writer, plan, Path(request.model).stem if Path(request.model).is_file() else Path(request.model).name
        )
        writer.add_file_type(_file_type(request.type))
        notes = add_tokenizer(writer, plan, tokenizer)
        for name, type_ in types.items():
            shape = shapes[name][::-1] if is_conv1d(name) else shapes[name]
            kind = gguf.GGMLQuantizationType[type_]
            writer.add_tensor_info(gguf_name(name), shape, np.dtype(np.float32), sizes[name], kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        done, total = 0, sum(sizes.values())
        for name, values in _values(plan, types, request.allow_nonfinite):
            writer.write_tensor_data(values)
            done += sizes[name]
            request.progress(done, total)
    return notes


def _file_type(type_: str) -> int:
    """Return llama.cpp's number for a file whose matrices mostly have a type."""
    import gguf

    return int(gguf.LlamaFileType["ALL_F32" if type_ == "f32" else f"MOSTLY_{type_.upper()}"])


def _values(plan: LoadPlan, types: dict[str, str], allow_nonfinite: bool) -> Iterator[tuple[str, np.ndarray]]:
    """Yield each tensor as it is written: Conv1D weights as [out, in], quantised ones as bytes."""
    for name, stored in stored_values(plan, types, allow_nonfinite=allow_nonfinite):
        values, _ = as_floats(stored, FLOATS["F32"], transpose=is_conv1d(name) and plan.origin.conv1d)
        if not allow_nonfinite:
            _check_range(plan.sources[name].name if name in plan.sources else name, values, types[name])
        yield name, quantise(values, types[name])


def _check_range(name: str, values: np.ndarray, type_: str) -> None:
    """Raise CheckpointError if a type cannot hold the largest value, rounded, of a tensor; it skips nonfinite ones."""
    largest = max(float(values.max()), -float(values.min()))
    if _LARGEST.get(type_, math.inf) < largest < math.inf:
        raise CheckpointError(
            f"{name} has values up to {largest:.6g}, and {type_} holds at most {_LARGEST[type_]:.6g}. "
            "Use --type bf16 or f32."
        )

"""Convert a checkpoint of any format to a GGUF file, the format of llama.cpp."""

import math
import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np

from max_gpt2.checkpoint.convert import Progress
from max_gpt2.checkpoint.convert_types import as_floats, count_nonfinite
from max_gpt2.checkpoint.destination import atomic_file, check_space, find_file
from max_gpt2.checkpoint.formats.gguf import gguf_name
from max_gpt2.checkpoint.gguf_metadata import add_config, add_tokenizer, check_config, check_tokenizer
from max_gpt2.checkpoint.layout import LM_HEAD, canonical_shapes, is_conv1d
from max_gpt2.checkpoint.load import check_finite, inspect_checkpoint, read_tokenizer, stored_values
from max_gpt2.checkpoint.options import DEFAULT_OPTIONS, LoadOptions
from max_gpt2.checkpoint.plan import LoadPlan
from max_gpt2.checkpoint.weight_types import choose_types, is_matrix
from max_gpt2.errors import CheckpointError, DestinationError, RequestError
from max_gpt2.tokenizer import GPT2Tokenizer
from max_gpt2.weights.quantise import FLOATS, fitting_type, quantise
from max_gpt2.weights.types import WeightsOption

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
#: The value of `--weights` for each type.
_OPTIONS: dict[str, WeightsOption] = {"f32": "float32", "f16": "float16", "bf16": "bfloat16"}


@dataclass(frozen=True)
class GGUFConversion:
    """A written GGUF file.

    Attributes:
        file: Its path.
        bytes: Its size.
        type: The requested type, one of `FILE_TYPES`; by default that of the source's matrices, or "mixed".
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

    @property
    def dequantised(self) -> dict[str, str]:
        """The stored names of the quantised tensors that have another type in the file, with their conversion."""
        return {
            stored.name: f"{stored.dtype}, dequantised"
            for name, stored in self.plan.sources.items()
            if stored.quantised and self.types[gguf_name(name)] != stored.dtype
        }


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


def tensor_types(plan: LoadPlan, type_: str | None) -> dict[str, str]:
    """Return the GGUF type of each tensor by canonical name; None keeps the stored types of matrices.

    Vectors and position embeddings are F32. The matrix of the output head, and rows that the block of a type does not
    divide, have the types of `choose_types`.
    """
    if type_ is None:
        stored = {name: one.dtype for name, one in plan.sources.items() if is_matrix(name)}
    else:
        option = _OPTIONS.get(type_, cast(WeightsOption, type_))
        stored = choose_types(plan.config, plan.sources, option, plan.origin.path)
    names = [name for name in canonical_shapes(plan.config) if name != LM_HEAD or not plan.tied]
    return {name: stored.get(name, "F32") for name in names}


def _reasons(plan: LoadPlan, type_: str | None, types: dict[str, str]) -> dict[str, str]:
    """Return why matrices have another type than the requested one, by their name in the file."""
    shapes, reasons = canonical_shapes(plan.config), dict[str, str]()
    for name, found in types.items():
        if type_ is None or not is_matrix(name) or found == type_.upper():
            continue
        row, wanted = shapes[name][0 if is_conv1d(name) else 1], type_.upper()
        if fitting_type(wanted, row) == wanted:
            reasons[gguf_name(name)] = "the output head has 8 bits or more"
        else:
            reasons[gguf_name(name)] = f"rows of {row} are not a multiple of the block of {wanted}"
    return reasons


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

    `type_` is one of `FILE_TYPES`, or None to keep the stored types of matrices; `force` replaces a GGUF file;
    `progress` is called with the number of bytes written so far and the total.

    Raises RequestError for an unknown type, DestinationError when the file cannot be written, ConfigError or
    TokenizerError when llama.cpp cannot compute the model, and MaxGPT2Error as `load_checkpoint` does.
    """
    type_ = None if type_ is None else parse_type(type_)
    target = find_file(path, force, MAGIC)
    plan = inspect_checkpoint(model, replace(options, weights="float32"))[2]
    check_config(plan.config, str(plan.origin.path))
    if options.allow_nonfinite and type_ not in (None, "f32", "f16", "bf16"):
        raise RequestError(f"--allow-nonfinite needs --type f32, f16 or bf16: {type_} cannot hold NaN.")
    tokenizer = read_tokenizer(plan, options.tokenizer)
    check_tokenizer(tokenizer, str(model))
    _check_source(target, plan, tokenizer)
    types = tensor_types(plan, type_)
    matrices = {kind for name, kind in types.items() if is_matrix(name)}
    shown = type_ or (next(iter(matrices)).lower() if len(matrices) == 1 else "mixed")
    check_space(target, sum(_sizes(plan, types).values()) + len(tokenizer.json.encode()))
    with atomic_file(target, force, MAGIC) as partial:
        notes = _write(partial, plan, tokenizer, types, _Request(str(model), shown, options.allow_nonfinite, progress))
        size = partial.stat().st_size
    named = {gguf_name(name): kind for name, kind in types.items()}
    return GGUFConversion(target, size, shown, named, _reasons(plan, type_, types), notes, plan)


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
        if (file_type := _file_type(request.type)) is not None:  # without it, llama.cpp describes the types
            writer.add_file_type(file_type)
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


def _file_type(type_: str) -> int | None:
    """Return llama.cpp's number for a file whose matrices mostly have a type; None if it has none."""
    import gguf

    found = gguf.LlamaFileType.__members__.get("ALL_F32" if type_ == "f32" else f"MOSTLY_{type_.upper()}")
    return None if found is None else int(found)


def _values(plan: LoadPlan, types: dict[str, str], allow_nonfinite: bool) -> Iterator[tuple[str, np.ndarray]]:
    """Yield each tensor as it is written: Conv1D weights as [out, in], quantised ones as bytes.

    Blocks of the same type are copied. Raises CheckpointError after the last one, which lists every tensor with NaN or
    infinite values.
    """
    nonfinite: dict[str, int] = {}
    for name, type_ in types.items():
        stored = plan.sources.get(name)
        if stored is not None and stored.read_blocks and stored.dtype == type_:
            blocks = stored.read_blocks()
            nonfinite[name] = count_nonfinite(stored.read())
            yield name, blocks
            continue
        for _, found in stored_values(plan, [name], allow_nonfinite=True):
            values, finite = as_floats(found, FLOATS["F32"], transpose=is_conv1d(name) and plan.origin.conv1d)
            if not finite:
                nonfinite[name] = count_nonfinite(values)
            elif stored is not None:
                _check_range(stored.name, values, type_)
            yield name, quantise(values, type_)
    if not allow_nonfinite:
        check_finite(plan, nonfinite)


def _check_range(name: str, values: np.ndarray, type_: str) -> None:
    """Raise CheckpointError if a type cannot hold the largest value of a tensor."""
    largest = max(float(values.max()), -float(values.min()))
    if _LARGEST.get(type_, math.inf) < largest:
        raise CheckpointError(
            f"{name} has values up to {largest:.6g}, and {type_} holds at most {_LARGEST[type_]:.6g}. "
            "Use --type bf16 or f32."
        )

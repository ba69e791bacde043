"""Read a checkpoint of any format and write it as a Hugging Face folder."""

from dataclasses import dataclass
from pathlib import Path

from max_gpt2.checkpoint import LoadPlan, inspect_checkpoint, read_tokenizer
from max_gpt2.convert.config_files import config_files, ending_ids
from max_gpt2.convert.folder import check_apart, check_space, find_target, write_synced, written_whole
from max_gpt2.convert.tokenizer_files import tokenizer_files
from max_gpt2.convert.weights import Progress, header, size, stored_layout, write_weights

WEIGHTS = "model.safetensors"


@dataclass(frozen=True)
class Conversion:
    """What was written: the folder, its files with their sizes in bytes, and the plan by which the source was read."""

    folder: Path
    plan: LoadPlan
    files: dict[str, int]

    @property
    def tensors(self) -> int:
        """How many tensors the weights are."""
        return len(self.plan.read_dtypes)

    @property
    def dtypes(self) -> list[str]:
        """The dtypes of the weights."""
        return sorted(set(self.plan.read_dtypes.values()))

    @property
    def transposed(self) -> list[str]:
        """The names of the tensors that were turned from `[out, in]` into `[in, out]`."""
        return [name for name in stored_layout(self.plan) if self.plan.is_transposed(name)]


def convert(
    model: str | Path,
    folder: str | Path,
    *,
    force: bool = False,
    tokenizer: str | Path | None = None,
    allow_pickle: bool = False,
    allow_nonfinite: bool = False,
    progress: Progress = lambda _done, _total: None,
) -> Conversion:
    """Write "demo", a hub id, a folder or a file as a new Hugging Face folder, or as nothing at all.

    `force` replaces a folder that is empty or holds a GPT-2 checkpoint; `progress` is told the bytes that are written
    and all there will be; the other options are those of `load_checkpoint`.

    Raises DestinationError when the folder cannot be written, and MaxGPT2Error as `load_checkpoint` does.
    """
    target = find_target(folder, force)
    _, config, plan = inspect_checkpoint(model, allow_pickle=allow_pickle)
    words = read_tokenizer(plan, tokenizer)
    read = {tensor.file for tensor in plan.origin.tensors} | ({words.folder} if words.folder else set())
    check_apart(target, plan.origin.path, sorted(read))
    endings = ending_ids(plan, words)
    files = tokenizer_files(words, config, endings) | config_files(plan, endings)
    layout = stored_layout(plan)
    sizes = {WEIGHTS: len(header(layout)) + size(layout)} | {name: len(content) for name, content in files.items()}
    check_space(target, sum(sizes.values()))
    with written_whole(target, force) as partial:
        write_weights(plan, partial / WEIGHTS, progress, allow_nonfinite=allow_nonfinite)
        for name, content in files.items():
            write_synced(partial / name, [content])
    return Conversion(target, plan, sizes)

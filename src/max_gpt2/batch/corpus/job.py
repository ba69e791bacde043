"""Open a corpus run: the input, the model, and an output folder with a plan that matches them."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from max_gpt2._files import json_text
from max_gpt2.batch.corpus.dataset import Dataset, check_outside, find_dataset, is_uri
from max_gpt2.batch.corpus.folder import Folder, open_folder
from max_gpt2.batch.corpus.plan import MANIFEST, PLAN, Format, Plan, check_same, read_plan
from max_gpt2.batch.corpus.readers import ColumnNames
from max_gpt2.batch.corpus.scan import scan_dataset
from max_gpt2.batch.corpus.tables import part_schema
from max_gpt2.batch.corpus.tasks import Task
from max_gpt2.batch.parquet import require_pyarrow
from max_gpt2.checkpoint import DEFAULT_OPTIONS, LoadOptions
from max_gpt2.errors import RequestError
from max_gpt2.generation import ModelSource, open_model
from max_gpt2.generation.fingerprint import fingerprint

if TYPE_CHECKING:
    import pyarrow

#: Called with the bytes that have been read and the bytes of the whole input.
OnScan = Callable[[int, int], None]


USUAL = ColumnNames("text")


@dataclass(frozen=True)
class Job:
    """The arguments of a run, which every process of it receives. A job can be pickled.

    Attributes:
        input: A file, a folder or a glob; a path or a URI.
        output: The folder of the output; a path or a URI.
        task: What to do with each row.
        model: "demo", a hub id, a folder, or a file of weights.
        load: How to load the model.
        columns: The names of the columns to read.
        format: The format of the parts.
        part_rows: The number of rows of a part.

    """

    input: str
    output: str
    task: Task
    model: str = "demo"
    load: LoadOptions = DEFAULT_OPTIONS
    columns: ColumnNames = USUAL
    format: Format = "parquet"
    part_rows: int = 1000

    def absolute(self) -> "Job":
        """Return the job with absolute paths, for a process with another working directory."""
        adapters = tuple(replace(one, path=one.path.absolute()) for one in self.load.adapters)
        tokenizer = None if self.load.tokenizer is None else _absolute(str(self.load.tokenizer))
        return replace(
            self,
            input=self.input if is_uri(self.input) else os.path.abspath(self.input),  # noqa: PTH100 (removes "..")
            output=self.output if is_uri(self.output) else os.path.abspath(self.output),  # noqa: PTH100
            model=_absolute(self.model),
            load=replace(self.load, adapters=adapters, tokenizer=tokenizer),
        )


def _absolute(name: str) -> str:
    """Return the absolute path of what exists; anything else may be the id of a model."""
    path = Path(name).expanduser()
    return str(path.absolute()) if path.exists() else name


@dataclass(frozen=True)
class CorpusRun:
    """An open run: everything but the weights."""

    job: Job
    opened: ModelSource
    task: Task
    dataset: Dataset
    folder: Folder
    plan: Plan

    @cached_property
    def schema(self) -> "pyarrow.Schema":
        """The Arrow schema of a part."""
        return part_schema(self.plan, self.task.results())


def open_run(job: Job, *, force: bool = False, on_scan: OnScan = lambda _done, _total: None) -> CorpusRun:
    """Open the run of a job; without a plan in the output, read the input once and write one.

    `force` replaces the output of a different run. Raises RequestError, before anything is written, if the input cannot
    be read, the options are invalid, or the output belongs to a different run.
    """
    require_pyarrow(job.output)
    if job.part_rows < 1:
        raise RequestError(f"--part-rows {job.part_rows} is not a positive integer. Choose another.")
    check_outside(job.input, job.output)
    dataset, folder = find_dataset(job.input), open_folder(job.output)
    opened = open_model(job.model, job.load)
    now: dict[str, Any] = {
        "model": fingerprint(opened),
        "columns": job.columns,
        "format": job.format,
        "part_rows": job.part_rows,
    }
    recorded = None if force else read_plan(folder)
    if recorded is None:
        task = job.task.resolve(opened, None)
        if not force:
            _check_empty(folder)
        plan = Plan.make(scan_dataset(dataset, job.columns, on_scan), **now, **_of_task(task))
        run = CorpusRun(job, opened, task, dataset, folder, plan)
        _ = run.schema  # raises for kept columns that clash, before anything is written
        if force:
            _clear(folder)
        if folder.create(PLAN, plan.to_json()):
            return run
        recorded = read_plan(folder)  # another process was first
        if recorded is None:
            raise RequestError(f"{folder.location} is being replaced by another run. Run the same command again.")
    task = job.task.resolve(opened, recorded.options)
    check_same(folder, recorded, {**now, **_of_task(task)}, _sizes(dataset))
    return CorpusRun(job, opened, task, dataset, folder, recorded)


def _sizes(dataset: Dataset) -> dict[str, int]:
    """Return the sizes of the files of an input."""
    found = dataset.filesystem.get_file_info([dataset.path(name) for name in dataset.names])
    return {name: one.size or 0 for name, one in zip(dataset.names, found, strict=True)}


def _of_task(task: Task) -> dict[str, Any]:
    """Return the fields of a plan that depend on the task; the options are as after a round trip through JSON."""
    return {"command": task.command, "options": json.loads(json_text(task.options()))}


def _check_empty(folder: Folder) -> None:
    """Raise RequestError for a folder with files of something else."""
    if names := sorted(folder.sizes()):
        raise RequestError(
            f"{folder.location} has files, such as {names[0]}, but no {PLAN}. Choose an empty or a new folder."
        )


def _clear(folder: Folder) -> None:
    """Delete the files of a run; the plan first, so that an interrupted deletion leaves no folder that looks whole."""
    folder.delete(PLAN)
    for name in folder.sizes(MANIFEST):
        folder.delete(f"{MANIFEST}/{name}")
    for name in folder.sizes():
        if name.startswith("part-"):
            folder.delete(name)

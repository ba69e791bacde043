"""Evaluate a model on tasks of lm-evaluation-harness, in this process, and write the harness's result files."""

import difflib
import json
import logging
import os
import subprocess
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
from lm_eval import evaluator
from lm_eval.loggers import EvaluationTracker
from lm_eval.tasks import TaskManager
from lm_eval.utils import handle_non_serializable, simple_parse_args_string

from max_gpt2._progress import Runner, silently
from max_gpt2.errors import MaxGPT2Error, MissingExtraError, RequestError, StoppedError
from max_gpt2.scoring.harness import MaxGPT2LM

#: Modes of the harness's cache of prepared requests: use it, recreate it, or delete it first.
RequestCache = Literal["true", "refresh", "delete"]
#: Loggers that report what the messages of max-gpt2 say, or what the user asked for.
_NOISY = ("lm_eval", "datasets", "huggingface_hub", "fsspec", "httpx")


@dataclass(frozen=True)
class EvaluationOptions:
    """The options of an evaluation, with the harness's names and meaning.

    `limit` is a number of documents per task, or a fraction of them if below 1. `output` is a folder. `use_cache` is
    the start of the name of a file with earlier answers, which must be of the same model. `seed` seeds everything;
    None uses the harness's default seeds. Raises RequestError for invalid values.
    """

    num_fewshot: int | None = None
    limit: float | None = None
    include_path: Path | None = None
    output: Path | None = None
    use_cache: str | None = None
    cache_requests: RequestCache | None = None
    gen_kwargs: str | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        if self.num_fewshot is not None and self.num_fewshot < 0:
            raise RequestError(f"--num-fewshot {self.num_fewshot} is negative. Use 0 or more.")
        if self.limit is not None and not (0 < self.limit < 1 or (self.limit >= 1 and self.limit % 1 == 0)):
            raise RequestError(f"--limit {self.limit:g} is neither a number of documents nor a fraction below 1.")
        if self.include_path is not None and not self.include_path.is_dir():
            raise RequestError(f"--include-path {self.include_path} is not a folder. Give one with tasks in YAML.")
        if self.seed is not None and not 0 <= self.seed < 2**32:
            raise RequestError(f"--seed {self.seed} is not in 0 .. {2**32 - 1}. Choose another.")
        if self.output is not None:
            _check_output(self.output)


@dataclass(frozen=True)
class Evaluation:
    """The results of an evaluation as the harness returns them, without its samples, and the files written."""

    results: dict[str, Any]
    files: list[Path]


def evaluate(
    model: MaxGPT2LM, name: str, tasks: Sequence[str], options: EvaluationOptions, run: Runner = silently
) -> Evaluation:
    """Evaluate a model on tasks: names, patterns such as `arc_*`, or paths of YAML files.

    `name` is the model's name in the results. With `options.output`, write `results_*.json` and one
    `samples_*.jsonl` for each task. Raises RequestError for unknown tasks and tasks whose data cannot be loaded.
    """
    with _quiet():
        manager = run("Loading the tasks", lambda: _open_tasks(tasks, options.include_path, name))
        tracker = EvaluationTracker(output_path=None if options.output is None else str(options.output))
        try:
            results = _evaluate(model, manager, tracker, options)
        except KeyboardInterrupt as error:
            if options.use_cache is None:
                raise
            raise StoppedError(
                f"Stopped by Ctrl-C. The answers so far are in {options.use_cache}_rank0.db; run the command again "
                "to continue."
            ) from error
        results["config"]["model"] = tracker.general_config_tracker.model_source = "max-gpt2"
        samples = results.pop("samples")
        files = [] if options.output is None else _save(tracker, results, samples)
    return Evaluation(json.loads(json.dumps(results, default=handle_non_serializable)), files)


def _evaluate(
    model: MaxGPT2LM, manager: "_Tasks", tracker: EvaluationTracker, options: EvaluationOptions
) -> dict[str, Any]:
    """Run the harness; raises RequestError for a failure in it or in a task, and leaves failures of ours alone."""
    seeds = ("random_seed", "numpy_random_seed", "torch_random_seed", "fewshot_random_seed")
    try:
        return evaluator.simple_evaluate(
            model=model,
            model_args={"pretrained": manager.model},
            tasks=manager.names,
            task_manager=manager,
            evaluation_tracker=tracker,
            num_fewshot=options.num_fewshot,
            limit=options.limit,
            batch_size=model.batch_size,
            use_cache=options.use_cache,
            cache_requests=options.cache_requests in ("true", "refresh"),
            rewrite_requests_cache=options.cache_requests == "refresh",
            delete_requests_cache=options.cache_requests == "delete",
            gen_kwargs=simple_parse_args_string(options.gen_kwargs),
            **({} if options.seed is None else dict.fromkeys(seeds, options.seed)),
        )
    except (MaxGPT2Error, OSError, MemoryError):
        raise
    except Exception as error:
        if any("max_gpt2" in frame.filename for frame in traceback.extract_tb(error.__traceback__)[1:]):
            raise
        raise RequestError(
            f"lm-evaluation-harness cannot evaluate {', '.join(manager.names)} ({type(error).__name__}: "
            f"{_first_line(error)}). Check the task's YAML file and its data."
        ) from error


class _Tasks(TaskManager):
    """A task manager that loads some tasks once, and reports each problem as one sentence."""

    def __init__(self, include_path: Path | None, include_defaults: bool, model: str) -> None:
        super().__init__(
            include_path=None if include_path is None else str(include_path),
            include_defaults=include_defaults,
            metadata={"pretrained": model},  # some tasks make their documents for a model
        )
        self.model = model
        self.names: list[str] = []
        self._loaded: Any = None

    def find(self, tasks: Sequence[str]) -> list[str]:
        """Set `names` to the names and absolute paths that `tasks` denote; return those that denote nothing."""
        found: list[str] = []
        unknown: list[str] = []
        for task in tasks:
            if task.endswith((".yaml", ".yml")) and Path(task).is_file():
                found.append(str(Path(task).absolute()))
            elif matches := self.match_tasks([task]):
                found += matches
            else:
                unknown.append(task)
        self.names = list(dict.fromkeys(found))
        return unknown

    def load(self, task_list: Any) -> Any:
        """Return the tasks of `names`; the first call loads them."""
        del task_list
        if self._loaded is None:
            parts: dict[str, dict[str, Any]] = {"tasks": {}, "groups": {}, "group_map": {}}
            for name in self.names:
                loaded = self._load_one(name)
                if twice := parts["tasks"].keys() & loaded["tasks"].keys():
                    raise RequestError(f"The task {min(twice)} is in two of --tasks. Remove one of them.")
                for kind, values in parts.items():
                    values.update(loaded.get(kind, {}))
            self._loaded = parts
        return self._loaded

    def _load_one(self, name: str) -> Any:
        try:
            loaded = super().load([name])
        except Exception as error:  # the harness, datasets and the task's own code raise everything
            raise _load_error(name, error) from error
        for task_name, task in loaded["tasks"].items():
            if getattr(task, "UNSAFE_CODE", False):
                raise RequestError(
                    f"The task {task_name} runs the code that the model writes. max-gpt2 eval does not; use the "
                    "harness's own command with --confirm_run_unsafe_code."
                )
            if getattr(task, "MULTIMODAL", False):
                raise RequestError(f"The task {task_name} needs images or sound, which GPT-2 cannot read. Remove it.")
            own = getattr(task.config, "process_results", None) is not None
            if not own and None in getattr(task, "_metric_fn_list", {}).values():
                raise _metric_error(task_name)
        return loaded


def _open_tasks(tasks: Sequence[str], include_path: Path | None, model: str) -> _Tasks:
    """Find and load tasks. The harness's own 14,000 are read, which takes many seconds, only if they are needed."""
    if not tasks or not all(tasks):
        raise RequestError("--tasks has an empty name. Give names of tasks, such as lambada_openai,hellaswag.")
    if include_path or all(task.endswith((".yaml", ".yml")) for task in tasks):
        own = _Tasks(include_path, False, model)
        if not own.find(tasks):
            try:
                own.load(own.names)
            except MaxGPT2Error:
                if set(own.names).isdisjoint(own.all_groups):  # a group may have tasks of the harness
                    raise
            else:
                return own
    manager = _Tasks(include_path, True, model)
    if unknown := manager.find(tasks):
        close = difflib.get_close_matches(unknown[0], manager.all_tasks, n=3)
        hint = f" Did you mean {' or '.join(close)}?" if close else ""
        raise RequestError(
            f"Unknown task {', '.join(map(repr, unknown))}.{hint} `lm-eval ls tasks` lists the harness's tasks; "
            "--include-path adds a folder of your own."
        )
    manager.load(manager.names)
    return manager


def _load_error(name: str, error: Exception) -> MaxGPT2Error:
    """Return the error that says why a task cannot be loaded."""
    reason = _first_line(error)
    if isinstance(error, MaxGPT2Error):
        return error
    if isinstance(error, KeyError) and error.args == (None,):
        return _metric_error(name)
    absent = isinstance(error, FileNotFoundError) and "Hub" in reason
    if absent or isinstance(error, ConnectionError | TimeoutError | HfHubHTTPError | LocalEntryNotFoundError):
        return RequestError(
            f"The data or a metric of the task {name} cannot be downloaded ({reason}). Connect to the internet, or "
            "copy the Hugging Face cache of a machine that has it and set HF_HUB_OFFLINE=1."
        )
    if isinstance(error, ImportError):
        return MissingExtraError(f"The task {name} needs another package ({reason}). Install it with pip.")
    return RequestError(
        f"The task {name} cannot be loaded ({type(error).__name__}: {reason}). Check its YAML file and its data."
    )


def _metric_error(name: str) -> RequestError:
    """Return the error for a metric that the harness looks up in the package `evaluate`, which it does in vain."""
    return RequestError(
        f"A metric of the task {name} is neither one of the harness nor can it be downloaded. Check the metric_list in "
        "its YAML file, and the network."
    )


def _first_line(error: Exception) -> str:
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    lines = text.strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


def _check_output(folder: Path) -> None:
    """Raise RequestError unless a folder can be written or created."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not existing.is_dir() or folder.suffix == ".json":
        raise RequestError(f"--output {folder} is not a folder. Give one; the names of the files have a date.")
    if not os.access(existing, os.W_OK):
        raise RequestError(f"--output {folder} cannot be written. Choose another folder.")


def _save(tracker: EvaluationTracker, results: dict[str, Any], samples: dict[str, Any]) -> list[Path]:
    """Write the result files; raises RequestError if the harness could not write one, which it only logs."""
    folder = Path(str(tracker.output_path)) / str(tracker.general_config_tracker.model_name_sanitized)
    tracker.save_results_aggregated(results=results, samples=samples)
    for task, documents in samples.items():
        tracker.save_results_samples(task_name=task, samples=documents)
    date = getattr(tracker, "date_id", "")
    files = [folder / f"results_{date}.json", *(folder / f"samples_{task}_{date}.jsonl" for task in samples)]
    if missing := [path for path in files if not path.is_file()]:
        raise RequestError(f"{missing[0]} could not be written. Free some disk space, or choose another --output.")
    return files


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence git's complaint outside a repository and, unless LMEVAL_LOG_LEVEL is set, what the harness prints."""
    quiet = "LMEVAL_LOG_LEVEL" not in os.environ
    loggers = [logging.getLogger(name) for name in _NOISY] if quiet else []
    levels = [logger.level for logger in loggers]
    original = evaluator.get_git_commit_hash
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        evaluator.get_git_commit_hash = _git_commit
        # Standard output is for the results.
        with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere if quiet else sys.stderr):
            yield
    finally:
        evaluator.get_git_commit_hash = original
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _git_commit() -> str | None:
    """Return the commit of the current folder, as the harness records it; None outside a repository."""
    try:
        found = subprocess.run(["git", "describe", "--always"], capture_output=True, text=True, check=False)
    except OSError:
        return None
    return found.stdout.strip() or None


def metric_rows(results: dict[str, Any]) -> list[list[str]]:
    """Return a row for each metric: task, few-shot examples, metric, filter, value and standard error."""
    rows = []
    for task, metrics in {**results.get("groups", {}), **results["results"]}.items():
        for key, value in metrics.items():
            metric, separator, filter_name = key.partition(",")
            if not separator or metric.endswith("_stderr"):
                continue
            error = metrics.get(f"{metric}_stderr,{filter_name}")
            shots = results["n-shot"].get(task, "")
            rows.append([task, str(shots), metric, filter_name, _number(value), _number(error)])
    return rows


def _number(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4f}" if abs(value) < 1e6 else f"{value:.5g}"
    return "" if value is None or value == "N/A" else str(value)

"""`max-gpt2 eval` on tasks of every kind, against the harness's own `hf` on the same checkpoint."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from lm_eval import evaluator
from lm_eval.api import metrics
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager, manager

from max_gpt2.errors import StoppedError
from max_gpt2.scoring.evaluation import EvaluationOptions, evaluate
from max_gpt2.scoring.harness import MaxGPT2LM
from tests.support.cli import Cli, refused

KINDS = ["tiny_group", "tiny_text", "tiny_generation"]
Document = dict[str, Any]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip the harness's description of the machine and its bootstrap, which take long; restore what is set."""
    monkeypatch.setattr(metrics, "bootstrap_stderr", lambda *_, **__: 0.5)
    monkeypatch.setattr(evaluator, "add_env_info", lambda results: results.update(lm_eval_version="0.4.13"))
    for name in ("TQDM_DISABLE", "HF_DATASETS_DISABLE_PROGRESS_BARS"):
        monkeypatch.setenv(name, "1")


def equal(found: Any, expected: Any) -> bool:
    """Compare nested values; numbers may differ by 1e-4 each, relative to their size above 1."""
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(equal(found[name], expected[name]) for name in expected)
    if isinstance(expected, list | tuple):
        return len(found) == len(expected) and all(map(equal, found, expected))
    if isinstance(expected, float):
        return found == pytest.approx(expected, rel=1e-4, abs=1e-4)
    return bool(found == expected)


def plain(values: Any) -> Any:
    return json.loads(json.dumps(values, default=str))


def test_every_kind_of_task_equals_hf(
    cli: Cli, checkpoint: Path, theirs: HFLM, tasks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = cli(
        *("eval", "--model", checkpoint, "--tasks", ",".join(KINDS), "--include-path", tasks, "--json"),
        *("--output", tmp_path, "--num-fewshot", 1, "--seed", 7),
    )
    assert done.code == 0, done.err
    ours = json.loads(done.out)
    expected = evaluator.simple_evaluate(
        model=theirs,
        tasks=KINDS,
        task_manager=TaskManager(include_path=str(tasks), include_defaults=False),
        num_fewshot=1,
        **dict.fromkeys(("random_seed", "numpy_random_seed", "torch_random_seed", "fewshot_random_seed"), 7),
    )
    assert expected is not None
    capsys.readouterr()
    for name in ("results", "groups", "n-shot", "n-samples", "versions"):
        assert equal(ours[name], plain(expected[name])), name
    assert 0 < ours["truncated_requests"] < 16
    assert f"warning: {ours['truncated_requests']} requests were longer than the context of 67 tokens" in done.err
    (results,) = (Path(path) for path in ours["files"] if Path(path).name.startswith("results_"))
    saved = json.loads(results.read_text())
    assert saved["results"] == ours["results"]
    assert (saved["model_source"], saved["config"]["model"], saved["model_name"]) == (
        *("max-gpt2", "max-gpt2"),
        str(checkpoint),
    )
    assert saved["config"]["fewshot_seed"] == 7
    for task, documents in plain(expected["samples"]).items():
        (path,) = results.parent.glob(f"samples_{task}_*.jsonl")
        assert str(path) in ours["files"]
        found = sorted(map(json.loads, path.read_text().splitlines()), key=lambda one: one["doc_id"])
        for one, other in zip(found, sorted(documents, key=lambda one: one["doc_id"]), strict=True):
            assert flat(one["resps"]) == [pytest.approx(x, abs=1e-3) for x in flat(other["resps"])]
            assert [one["prompt_hash"], one["doc_hash"]] == [other["prompt_hash"], other["doc_hash"]]


def flat(values: Any) -> list[Any]:
    """Return the texts, numbers and truth values of nested answers; the files have them as strings."""
    if isinstance(values, list):
        return [each for one in values for each in flat(one)]
    if values in ("True", "False"):
        return [values == "True"]
    try:
        return [float(values)]
    except ValueError:
        return [values]


def test_table_has_a_row_for_each_metric(cli: Cli, checkpoint: Path, tasks: Path) -> None:
    done = cli("eval", "--model", checkpoint, "--tasks", tasks / "tiny_choice.yaml", "--limit", 2)
    assert done.code == 0, done.err
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in done.out.splitlines() if "tiny_choice" in line]
    assert [row[:4] for row in rows] == [["tiny_choice", "0", name, "none"] for name in ("acc", "acc_norm")]


def test_answers_are_cached_for_one_model(
    checkpoint: Path, tiny_original: Path, cli: Cli, tasks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments: tuple[object, ...] = ("eval", "--tasks", ",".join(KINDS), "--include-path", tasks, "--json")
    arguments += ("--use-cache", tmp_path / "c", "--limit", 1)  # the harness waits for the disk after each answer
    first = cli(*arguments, "--model", checkpoint)
    assert first.code == 0, first.err
    (database,) = tmp_path.iterdir()
    monkeypatch.setattr(MaxGPT2LM, "scorer", None)  # the second run computes nothing
    monkeypatch.setattr(MaxGPT2LM, "engine", None)
    second = cli(*arguments, "--model", checkpoint)
    assert json.loads(second.out)["results"] == json.loads(first.out)["results"]
    monkeypatch.undo()
    monkeypatch.setattr(evaluator, "add_env_info", lambda _: None)
    assert cli(*arguments, "--model", tiny_original).code == 0
    assert len(list(tmp_path.iterdir())) == 2
    assert database.exists()


def test_interrupted_run_names_its_cache(
    ours: MaxGPT2LM, tasks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(MaxGPT2LM, "generate_until", interrupt)
    for cache, error, message in (
        (str(tmp_path / "c"), StoppedError, "c_rank0.db; run"),
        (None, KeyboardInterrupt, None),
    ):
        with pytest.raises(error, match=message):
            evaluate(ours, "tiny", ["tiny_generation"], EvaluationOptions(include_path=tasks, use_cache=cache))


def write_task(folder: Path, **changes: Any) -> Path:
    content = yaml.safe_load((folder / "tiny_choice.yaml").read_text()) | changes
    path = folder / "bad" / "bad.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataset_path": "nobody/nothing", "dataset_kwargs": {}}, "The data or a metric of .* cannot be downloaded"),
        ({"metric_list": [{"metric": "no_such"}]}, "A metric of the task .*bad.yaml is neither one of"),
        ({"metric_list": [{"metric": "no_such", "aggregation": "mean"}]}, "A metric of the task .* is neither one of"),
        ({"test_split": "nowhere"}, r"bad.yaml cannot be loaded \(KeyError: nowhere"),
        ({"output_type": "guess"}, "invalid output_type 'guess'"),
        ({"doc_to_text": "{{ question | nothing }}"}, "cannot be loaded .*No filter named 'nothing'"),
        ({"doc_to_text": "{{ 1 / question | length }}"}, r"cannot evaluate .*bad.yaml \(ZeroDivisionError: division"),
        ({"unsafe_code": True}, "runs the code that the model writes"),
        (
            {"doc_to_choice": "{{ ['a' if question else '', 'b'] }}"},
            "Document 3 of the task tiny_choice has an empty continuation",
        ),
        ({"doc_to_choice": ["x" * 200, "y"]}, "has 200 tokens"),
        ({"output_type": "generate_until", "generation_kwargs": {"max_gen_toks": 67}}, "must be less than 67"),
        ({"output_type": "generate_until", "generation_kwargs": {"topk": 1}}, r"not support: topk \(did you mean"),
    ],
)
def test_broken_task_is_one_sentence(
    cli: Cli, checkpoint: Path, tasks: Path, changes: dict[str, Any], message: str
) -> None:
    error = refused(cli("eval", "--model", checkpoint, "--tasks", write_task(tasks, **changes)))
    line = next(line for line in error.splitlines() if line.startswith("error: "))
    assert re.search(message, line), line


def test_unknown_tasks_are_named(cli: Cli, checkpoint: Path, tasks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manager, "__file__", str(tasks / "manager.py"))  # the harness's own tasks take long to read
    error = refused(cli("eval", "--model", checkpoint, "--tasks", "tiny_text,tiny_choise,nope"))
    assert "Unknown task 'tiny_choise', 'nope'. Did you mean tiny_choice" in error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tasks", ""], "--tasks has an empty name"),
        (["--tasks", "a,,b"], "--tasks has an empty name"),
        (["--tasks", "a", "--limit", "2.5"], "--limit 2.5 is neither a number of documents nor a fraction"),
        (["--tasks", "a", "--limit", "0"], "--limit 0 is neither"),
        (["--tasks", "a", "--num-fewshot", "-1"], "--num-fewshot -1 is negative"),
        (["--tasks", "a", "--seed", "-1"], "--seed -1 is not in 0 .. 4294967295"),
        (["--tasks", "a", "--batch-size", "0"], "batch size 0 is neither"),
        (["--tasks", "a", "--include-path", "none"], "--include-path none is not a folder"),
        (["--tasks", "a", "--output", "file"], "--output file is not a folder"),
        (["--tasks", "a", "--output", "file/below"], "--output file/below is not a folder"),
        (["--tasks", "a", "--output", "new.json"], "--output new.json is not a folder"),
    ],
)
def test_invalid_options_are_refused(
    cli: Cli, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    assert message in refused(cli("eval", "--model", checkpoint, *arguments))


def test_same_task_twice_is_refused(cli: Cli, checkpoint: Path, tasks: Path) -> None:
    arguments = ("eval", "--model", checkpoint, "--include-path", tasks, "--tasks")
    error = refused(cli(*arguments, f"tiny_choice,{tasks / 'tiny_choice.yaml'}"))
    assert "The task tiny_choice is in two of --tasks" in error


def test_missing_extra_is_named(cli: Cli, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "max_gpt2.scoring.evaluation")
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    error = refused(cli("eval", "--model", checkpoint, "--tasks", "a"))
    assert "Install it: pip install 'max-gpt2[eval]'" in error


@pytest.mark.slow
def test_own_command_of_the_harness_finds_the_model(checkpoint: Path, tasks: Path) -> None:
    program = "import max_gpt2.scoring.harness, lm_eval.__main__ as m; m.cli_evaluate()"
    options = ["run", "--model", "max-gpt2", "--model_args", f"pretrained={checkpoint}", "--batch_size", "auto"]
    command = [sys.executable, "-c", program, *options, "--tasks", "tiny_choice", "--include_path", str(tasks)]
    kept = ("PATH", "HOME", "XDG_CACHE_HOME", "HF_HUB_OFFLINE")  # some package imported here sets others
    environment = {name: os.environ[name] for name in kept if name in os.environ}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert "|tiny_choice|" in done.stdout.replace(" ", "")


@pytest.mark.slow
def test_tasks_of_the_harness_need_a_network(cli: Cli, checkpoint: Path) -> None:
    error = refused(cli("eval", "--model", checkpoint, "--tasks", "lambada_openai,hellaswag"))
    assert "metric of the task lambada_openai cannot be downloaded (Couldn't reach" in error
    assert "Did you mean hellaswag" in refused(cli("eval", "--model", checkpoint, "--tasks", "helaswag"))

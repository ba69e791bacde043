"""The jobs for corpora in deploy/: their commands run in a shell with a stub of max-gpt2, and its options exist."""

import os
import re
import shlex
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.core import TyperGroup

from max_gpt2.cli.app import app

ROOT = Path(__file__).parents[2]
JOB = yaml.safe_load((ROOT / "deploy" / "corpus-job.yaml").read_text())
RAY = yaml.safe_load((ROOT / "deploy" / "corpus-rayjob.yaml").read_text())
SLURM = ROOT / "deploy" / "corpus-array.sh"
#: Writes its arguments, one a line, and exits with the code in EXIT.
STUB = '#!/bin/sh\nprintf "%s\\n" "$@" > "$ARGUMENTS"\nexit "${EXIT:-0}"\n'


class Shell:
    """Runs commands with a stub of max-gpt2 on the path."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.arguments = folder, folder / "arguments"
        stub = folder / "max-gpt2"
        stub.write_text(STUB)
        stub.chmod(0o755)

    def code(self, command: list[str], **variables: str) -> int:
        """Run a command and return its exit code."""
        path = f"{self.folder}{os.pathsep}{os.environ['PATH']}"
        environment = os.environ | {"PATH": path, "ARGUMENTS": str(self.arguments)} | variables
        return subprocess.run(command, env=environment, check=False).returncode

    def options(self, command: list[str], **variables: str) -> dict[str, Any]:
        """Run a command; return the options of `max-gpt2 score` that it passes, as our command line parses them."""
        assert self.code(command, **variables) == 0
        name, *arguments = self.arguments.read_text().splitlines()
        assert name == "score"
        group = typer.main.get_command(app)
        assert isinstance(group, TyperGroup)
        return group.commands["score"].make_context("score", arguments).params


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


def container(template: dict[str, Any]) -> dict[str, Any]:
    (found,) = template["spec"]["containers"]
    return dict(found)


def cores(template: dict[str, Any]) -> int:
    """Return the cores of a pod, which are requested and at the same time its limit."""
    resources = container(template)["resources"]
    assert resources["requests"] == resources["limits"]
    return int(resources["limits"]["cpu"])


def assert_volumes_exist(template: dict[str, Any]) -> None:
    volumes = {one["name"] for one in template["spec"]["volumes"]}
    assert {one["name"] for one in container(template)["volumeMounts"]} == volumes
    assert {one["mountPath"] for one in container(template)["volumeMounts"]} == {"/data", "/cache"}


def test_kubernetes_job_runs_every_shard_once(shell: Shell) -> None:
    spec = JOB["spec"]
    command = container(spec["template"])["command"]
    shards = [
        shell.options(command, JOB_COMPLETION_INDEX=str(index))["shard"] for index in (0, 1, spec["completions"] - 1)
    ]
    assert shards == ["1/64", "2/64", "64/64"]
    options = shell.options(command, JOB_COMPLETION_INDEX="0")
    assert options["threads_per_worker"] == cores(spec["template"])
    assert (str(options["input_file"]), str(options["output_file"])) == ("/data/documents", "/data/scored")


def test_kubernetes_job_is_valid() -> None:
    assert (JOB["apiVersion"], JOB["kind"]) == ("batch/v1", "Job")
    spec, pod = JOB["spec"], JOB["spec"]["template"]["spec"]
    # The fields that a Job with backoffLimitPerIndex and podFailurePolicy has to have.
    assert (spec["completionMode"], pod["restartPolicy"]) == ("Indexed", "Never")
    assert 0 < spec["parallelism"] <= spec["completions"]
    assert spec["podFailurePolicy"]["rules"] == [
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]}
    ]
    assert_volumes_exist(spec["template"])
    # An image with a user that has a name only does not pass runAsNonRoot.
    user = re.search(r"--uid (\d+)", (ROOT / "deploy" / "Containerfile").read_text())
    assert user is not None
    assert pod["securityContext"]["runAsUser"] == int(user[1])


def test_slurm_array_runs_every_shard_once(shell: Shell, tmp_path: Path) -> None:
    text = SLURM.read_text()
    directives = dict(re.findall(r"^#SBATCH --([a-z-]+)(?:=(\S+))?$", text, re.MULTILINE))
    assert directives["array"].split("%")[0] == "1-64"
    variables = {"SLURM_CPUS_PER_TASK": directives["cpus-per-task"], "SLURM_ARRAY_TASK_COUNT": "1"}
    command = [str(SLURM), "my data", "out", "--text-column", "content"]
    for task in ("1", "3", "64"):
        options = shell.options(command, SLURM_ARRAY_TASK_ID=task, **variables)
        assert options["shard"] == f"{task}/64"
    assert (str(options["input_file"]), str(options["output_file"])) == ("my data", "out")
    assert (options["threads_per_worker"], options["text_column"]) == (4, "content")
    assert shell.code(command) != 0  # outside of Slurm, there is no task


def test_ray_job_has_cores_for_all_actors(shell: Shell) -> None:
    options = shell.options(shlex.split(RAY["spec"]["entrypoint"]))
    assert (options["engine"], options["address"]) == ("ray", "auto")
    (group,) = RAY["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    each = cores(group["template"]) - 1  # one core stays free
    actors = each // options["threads_per_worker"] * group["replicas"]
    assert actors == options["workers"]
    assert each % options["threads_per_worker"] == 0


def test_ray_job_is_valid() -> None:
    assert (RAY["apiVersion"], RAY["kind"]) == ("ray.io/v1", "RayJob")
    cluster = RAY["spec"]["rayClusterSpec"]
    extra = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["ray"]
    assert f"ray[data]=={cluster['rayVersion']}" in extra
    head, (group,) = cluster["headGroupSpec"], cluster["workerGroupSpecs"]
    assert head["rayStartParams"] == {"num-cpus": "0"}  # values are strings
    assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    for one in (head, group):
        assert_volumes_exist(one["template"])
    images = {container(one["template"])["image"] for one in (head, group)}
    assert len(images) == 1


COMMANDS = {
    "kubernetes": container(JOB["spec"]["template"])["command"],
    "slurm": [str(SLURM), "data", "out"],
    "ray": shlex.split(RAY["spec"]["entrypoint"]),
}


@pytest.mark.parametrize(("code", "expected"), [("0", 0), ("1", 0), ("2", 1), ("70", 1)])
@pytest.mark.parametrize("name", COMMANDS)
def test_rows_with_errors_do_not_fail_the_job(shell: Shell, name: str, code: str, expected: int) -> None:
    variables = {"JOB_COMPLETION_INDEX": "0", "SLURM_ARRAY_TASK_ID": "1", "SLURM_CPUS_PER_TASK": "4"}
    assert shell.code(COMMANDS[name], EXIT=code, **variables) == expected

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from max_gpt2.config import SIZES
from max_gpt2.system import doctor, machine
from max_gpt2.system.doctor import Finding
from tests.support.cli import Cli
from tests.support.hub import Hub, fill_cache

NAMES = ["processor", "memory", "MAX", "compile cache", "models", "hub", "for verify"]


def test_doctor_reports_all_checks(cli: Cli) -> None:
    outcome = cli("doctor", "--json")
    result = json.loads(outcome.out)
    assert (outcome.code, outcome.err) == (0, "")
    assert result["ok"] is True
    found = {one["name"]: one for one in result["findings"]}
    assert list(found) == NAMES
    assert found["hub"]["message"] == "not checked: HF_HUB_OFFLINE is set"
    assert found["MAX"]["details"] == {"version": "26.7.0", "pinned": "26.7.0"}
    assert found["compile cache"]["details"]["writable"] is True
    shown = cli("doctor")
    assert shown.code == 0
    assert all(name in shown.out for name in NAMES)
    assert shown.out.endswith("Everything required is present.\n")


def test_problem_exits_with_1_and_a_remedy(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.importlib.metadata, "version", lambda _package: "26.6.0")
    for outcome in (cli("doctor"), cli("doctor", "--json")):
        assert outcome.code == 1
        assert "pip install max==26.7.0" in outcome.out
    shown = cli("doctor").out
    assert "PROBLEM" in shown
    assert shown.endswith("1 problem found. Fix and run again.\n")


def test_doctor_runs_without_max_and_pytorch(tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['max'] = sys.modules['torch'] = sys.modules['transformers'] = None;"
        "from max_gpt2.cli import main; main()"
    )
    command = [sys.executable, "-c", program, "doctor", "--json"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | {"HF_HOME": str(tmp_path)}
    )
    assert (done.returncode, done.stderr) == (1, "")
    found = {one["name"]: one for one in json.loads(done.stdout)["findings"]}
    assert "cannot be imported" in found["MAX"]["message"]
    assert found["compile cache"]["state"] == "note"


X86 = "processor\t: 0\nmodel name\t: Intel(R) Xeon(R)\nflags\t\t: fpu sse4_2 avx avx2 avx512f\n"
ARM = "processor\t: 0\nFeatures\t: fp asimd evtstrm\nCPU implementer\t: 0x41\n"


@pytest.mark.parametrize(
    ("cpuinfo", "architecture", "units"),
    [
        (X86, "x86_64", ["AVX-512", "AVX2"]),
        (X86.replace(" avx2 avx512f", ""), "x86_64", []),
        (ARM, "aarch64", ["NEON"]),
        ("", "arm64", ["NEON"]),
        ("model name : Intel Core\nflags : AVX2 BMI2", "x86_64", ["AVX2"]),
    ],
)
def test_vector_units_are_read_from_cpuinfo(cpuinfo: str, architecture: str, units: list[str]) -> None:
    assert machine.vector_units(cpuinfo, architecture) == units


def test_processor_name_is_read_from_cpuinfo() -> None:
    assert machine.processor(X86) == "Intel(R) Xeon(R)"
    assert machine.processor(ARM)


def limited(values: dict[tuple[str, str], list[str]]) -> Callable[..., list[str]]:
    return lambda name, controller="": values.get((name, controller), [])


def test_usable_cores_respect_affinity_and_cgroups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: {0, 1, 2}, raising=False)
    monkeypatch.setattr(machine, "cgroup_values", limited({}))
    assert machine.usable_cores() == 3
    monkeypatch.setattr(machine, "cgroup_values", limited({("cpu.max", ""): ["max 100000", "150000 100000"]}))
    assert machine.usable_cores() == 1.5
    first = {("cpu.cfs_quota_us", "cpu"): ["-1", "200000"], ("cpu.cfs_period_us", "cpu"): ["100000", "100000"]}
    monkeypatch.setattr(machine, "cgroup_values", limited(first))
    assert machine.usable_cores() == 2


MEMINFO = "MemTotal:       16000000 kB\nMemFree:         100 kB\nMemAvailable:   4000000 kB\nHugePages_Total: 0\n"


def test_memory_check_lists_the_sizes_that_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_meminfo", lambda: MEMINFO)
    monkeypatch.setattr(machine, "cgroup_values", limited({}))
    found = doctor.memory()
    assert found.details["fits"] == {"gpt2": True, "gpt2-medium": True, "gpt2-large": False, "gpt2-xl": False}
    assert (found.state, found.details["available"]) == ("note", 4_096_000_000)
    assert found.remedy.startswith("For gpt2-large in float32, close other programs until 5.7 GB are available")
    assert found.message.endswith("gpt2-medium, gpt2-large with --weights float16, gpt2-xl with --weights q8_0")
    group = {
        ("memory.max", ""): ["max", "3000000000"],
        ("memory.current", ""): ["2900000000", "2600000000"],
        ("memory.stat", ""): ["anon 1", "anon 7\ninactive_file 100000000\nactive_file 3", "anon 2"],
    }
    monkeypatch.setattr(machine, "cgroup_values", limited(group))
    found = doctor.memory()
    assert (found.details["total"], found.details["available"]) == (3_000_000_000, 500_000_000)
    assert "enough for only the demo" in found.message
    monkeypatch.setattr(
        machine, "_meminfo", lambda: MEMINFO.replace("16000000", "64000000").replace("4000000", "50000000")
    )
    monkeypatch.setattr(machine, "cgroup_values", limited({}))
    assert doctor.memory().state == "ok"


def test_memory_is_known_without_proc() -> None:
    total, available = machine.memory_bytes("")
    assert total == available > 1 << 28


def test_needed_memory_exceeds_the_weights() -> None:
    assert doctor.needed(SIZES["gpt2"]) == 124_439_808 * 4 * 3 // 2 + (1 << 30)


def test_cgroup_limits_include_parent_groups(tmp_path: Path) -> None:
    membership, mount = tmp_path / "cgroup", tmp_path / "mount"
    (mount / "a" / "b").mkdir(parents=True)
    (mount / "memory").mkdir()
    (mount / "a" / "memory.max").write_text("500\n")
    (mount / "a" / "b" / "memory.max").write_text("max\n")
    (mount / "memory" / "memory.limit_in_bytes").write_text("700\n")
    membership.write_text("4:memory,hugetlb:/outside/the/container\n0::/a/b\n")
    assert machine.cgroup_values("memory.max", "", mount, membership) == ["max", "500"]
    assert machine.cgroup_values("memory.limit_in_bytes", "memory", mount, membership) == ["700"]
    assert machine.cgroup_values("cpu.cfs_quota_us", "cpu", mount, membership) == []
    assert machine.cgroup_values("memory.max", "", mount, tmp_path / "nothing") == []


def test_other_or_missing_max_version_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor.max_version().state == "ok"
    monkeypatch.setattr(doctor, "installed", lambda _package: "26.8.0")
    found = doctor.max_version()
    assert found.state == "problem"
    assert "26.8.0, but max-gpt2 requires 26.7.0" in found.message
    monkeypatch.setattr(doctor, "installed", lambda _package: None)
    found = doctor.max_version()
    assert (found.state, found.message) == ("problem", "not installed")
    assert "pip install max==26.7.0" in found.remedy
    assert doctor.compare_extra().state == "note"
    assert "max-gpt2[compare]" in doctor.compare_extra().remedy


def test_pinned_and_installed_versions_are_read() -> None:
    assert doctor.pinned("max") == "26.7.0"
    assert doctor.pinned("rich") is None
    assert doctor.installed("no-such-package") is None


def test_compile_cache_check_reports_size_and_problems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "cache"
    monkeypatch.setattr(doctor, "cache_folder", lambda: folder)
    found = doctor.compile_cache()
    assert (found.state, found.details["bytes"]) == ("note", 0)
    assert "max-gpt2 warmup" in found.remedy
    (folder / "mof").mkdir(parents=True)
    (folder / "mof" / "graph").write_bytes(bytes(1234))
    found = doctor.compile_cache()
    assert (found.state, found.details["bytes"]) == ("ok", 1234)
    assert found.message.startswith(f"{folder}, 0.0 MB, ")
    monkeypatch.setattr(doctor, "LEAST_FREE", 1 << 62)
    assert (doctor.compile_cache().state, "of disk space" in doctor.compile_cache().remedy) == ("problem", True)
    monkeypatch.setattr(doctor, "LEAST_FREE", 0)
    monkeypatch.setattr(doctor, "writable", lambda _folder: False)
    found = doctor.compile_cache()
    assert (found.state, found.details["writable"]) == ("problem", False)
    assert "MODULAR_MAX_CACHE_DIR" in found.remedy


def test_writable_creates_nothing(tmp_path: Path) -> None:
    assert doctor.writable(tmp_path / "not" / "yet")
    assert sorted(tmp_path.iterdir()) == []
    assert not doctor.writable(Path("/proc/nowhere"))


def test_cache_folder_follows_the_variable_of_max(tmp_path: Path) -> None:
    program = "from max_gpt2.system.machine import cache_folder; print(cache_folder())"
    environment = os.environ | {"MODULAR_MAX_CACHE_DIR": str(tmp_path / "here")}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout == f"{tmp_path / 'here'}\n"


def test_hub_cache_check_lists_complete_gpt2_models(
    tmp_path: Path, tiny_original: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_cache(tmp_path, "openai-community/gpt2", tiny_original)
    fill_cache(tmp_path, "someone/mine", tiny_original)
    for name, damage in {
        "half": ("model.safetensors", None),
        "bert": ("config.json", '{"model_type": "bert"}'),
    }.items():
        snapshot = fill_cache(tmp_path, f"someone/{name}", tiny_original)
        file, content = damage
        (snapshot / file).unlink()
        if content:
            (snapshot / file).write_text(content)
    assert doctor.gpt2s(tmp_path) == ["openai-community/gpt2", "someone/mine"]
    assert doctor.gpt2s(tmp_path / "nothing") == []
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert "with openai-community/gpt2, someone/mine, " in doctor.hub_cache().message
    monkeypatch.setattr(doctor, "GPT2_FILE", 1 << 62)
    assert "HF_HOME" in doctor.hub_cache().remedy


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Finding]:
    def ask(endpoint: str, seconds: float = 5.0) -> Finding:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", endpoint)
        return doctor.hub(seconds)

    return ask


def test_hub_check_reports_the_response(online: Callable[[str], Finding], tiny_original: Path) -> None:
    with Hub("openai-community/gpt2", tiny_original) as server:
        found = online(server.endpoint)
    assert (found.state, found.details["reachable"]) == ("ok", True)
    with Hub("another/one", tiny_original) as server:
        found = online(server.endpoint)
    assert (found.state, "HTTP status 404" in found.message) == ("note", True)


def test_hub_check_reports_failures_and_timeouts(
    online: Callable[..., Finding], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = online("http://127.0.0.1:9")
    assert (found.state, found.details["reachable"]) == ("note", False)
    assert "--model demo" in found.remedy
    for nonsense in ("nonsense", "http://[::/", "http://a:b"):
        assert "no response" not in online(nonsense).message

    def forever(*_arguments: Any) -> str:
        time.sleep(30)
        return ""

    monkeypatch.setattr(doctor, "_request", forever)
    started = time.perf_counter()
    assert "no response within 0.1 s" in online("http://127.0.0.1:9", 0.1).message
    assert time.perf_counter() - started < 10

"""Run cases in a child process, count the outcomes and save the damaged files of findings."""

import json
import os
import random
import re
import select
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import hypothesis

from tests.fuzz.case import Case
from tests.fuzz.cases import leaves_weights, random_cases, structural, truncated
from tests.fuzz.child import LOADED, REFUSED
from tests.fuzz.seeds import write_seeds

#: Seconds to wait for an outcome on a busy machine; the child limits its own processor time.
_WAIT = 120
_SAVED = 3
#: Random cases per run of hypothesis, which keeps every drawn case in memory.
_BATCH = 10_000
_REPOSITORY = Path(__file__).parent.parent.parent


class Fuzzer:
    """Damage the files of the seeds below `folder` and load them."""

    def __init__(self, folder: Path, report_progress: Callable[[str], object] = lambda _: None) -> None:
        self.outcomes: Counter[tuple[str, str, str]] = Counter()
        self.findings: dict[str, list[str]] = {}
        self._folder = folder
        self._report_progress = report_progress
        self._seeds = write_seeds(folder / "seeds")
        self._child = self._start()

    def run(self, cases: int, seed: int) -> None:
        """Run a number of cases: systematic ones, which are at most four fifths, and random ones."""
        listed = [case for one in self._seeds.values() for make in (structural, truncated) for case in make(one)]
        random.Random(seed).shuffle(listed)
        for case in listed[: cases * 4 // 5]:
            self.load(case)
        while (left := cases - self.count) > 0:
            self._run_random(min(left, _BATCH), seed + self.count)

    def close(self) -> None:
        """End the child."""
        self._child.communicate()

    @property
    def count(self) -> int:
        """The number of cases run."""
        return self.outcomes.total()

    def report(self) -> str:
        """Return the counts, and each finding with its first cases."""
        kinds: Counter[tuple[str, str]] = Counter()
        for (_, kind, outcome), number in self.outcomes.items():
            kinds[kind, outcome] += number
        lines = [f"{self.count:,} cases", *(f"{' '.join(key)}: {kinds[key]:,}" for key in sorted(kinds))]
        for name, cases in self.findings.items():
            lines += [f"FINDING, {len(cases)} cases: {name}", *(f"    {case}" for case in cases[:_SAVED])]
        return "\n".join(lines)

    def load(self, case: Case) -> None:
        """Run one case."""
        seed = self._seeds[case.seed]
        path = seed.folder / case.file
        original = path.read_bytes()
        damaged = case.damaged(original)
        try:
            same = leaves_weights(case, seed.folder / case.file)
            _rewrite(path, damaged)
            outcome = self._ask(seed.oracle, seed.folder, same=same)
            if outcome not in (LOADED, REFUSED):
                self._record(case, outcome, path)
                outcome = "FINDING"
        finally:
            _rewrite(path, original)
        self.outcomes[case.seed, case.kind, outcome] += 1
        if self._child.poll() is not None:
            self._child = self._start()
        if self.count % _BATCH == 0:
            self._report_progress(f"{self.count:,} cases")

    def _run_random(self, cases: int, seed: int) -> None:
        @hypothesis.seed(seed)
        @hypothesis.settings(
            max_examples=cases,
            deadline=None,
            database=None,
            phases=[hypothesis.Phase.generate],
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        @hypothesis.given(random_cases(self._seeds.values()))
        def each(case: Case) -> None:
            self.load(case)

        each()

    def _start(self) -> "subprocess.Popen[str]":
        paths = [str(_REPOSITORY), os.environ.get("PYTHONPATH", "")]
        # With many processors, the arenas of all threads would count against the memory limit.
        variables = {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "MALLOC_ARENA_MAX": "2"}
        child = subprocess.Popen(
            [sys.executable, "-m", "tests.fuzz.child", str(self._folder / "printed")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=dict(os.environ) | variables,
        )
        self._child = child
        for seed in self._seeds.values():  # imports all modules before limits apply
            outcome = self._ask(seed.oracle, seed.folder, undamaged=True)
            if outcome != LOADED:
                raise AssertionError(f"{seed.name} is not valid: {outcome}")
        return child

    def _ask(self, oracle: str, folder: Path, undamaged: bool = False, same: bool = True) -> str:
        assert self._child.stdin
        assert self._child.stdout
        self._child.stdin.write(json.dumps([oracle, str(folder), undamaged, same]) + "\n")
        self._child.stdin.flush()
        if not select.select([self._child.stdout], [], [], _WAIT)[0]:
            self._child.kill()
        if line := self._child.stdout.readline():
            return str(json.loads(line))
        code = self._child.wait()
        output = (self._folder / "printed").read_text(errors="replace")[-2000:]
        (self._folder / "printed").unlink()
        return f"the process ended with {code}: {output}"

    def _record(self, case: Case, outcome: str, path: Path) -> None:
        """Record a finding; findings that differ only in numbers and names are the same."""
        name = re.sub(r"'[^']*'|\"[^\"]*\"|\d{2,}|/\S+", "_", outcome.splitlines()[0])[:160]
        cases = self.findings.setdefault(name, [])
        saved = ""
        if len(cases) < _SAVED:
            folder = self._folder / "findings"
            folder.mkdir(exist_ok=True)
            number = sum(map(len, self.findings.values()))
            saved = f" saved as {shutil.copy(path, folder / f'{number}-{case.seed}-{case.file}')}"
            self._report_progress(f"{case}: {outcome}{saved}")
        cases.append(f"{case}: {outcome}{saved}" if saved else "")


def _rewrite(path: Path, content: bytes) -> None:
    """Replace the file by a new one, since the old one may be mapped."""
    path.unlink()
    path.write_bytes(content)

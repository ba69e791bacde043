"""The simulation of a corpus run is exact where the time is known, and the tables are what it prints."""

import dataclasses
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from max_gpt2.batch.corpus.folder import LocalFolder
from tools.simulate_corpus import PAGE, Outcome, Setting, Simulation, part_tokens, report

#: Four workers with eight parts of 100 s; no time for anything else.
EVEN = Setting(workers=4, tokens_per_s=10, start_s=0, commit_s=0, restart_s=50)
TOKENS = np.full(8, 1000.0)


def run(setting: Setting, tokens: np.ndarray = TOKENS, deaths: dict[int, list[float]] | None = None) -> Outcome:
    """Run with the given times of death of each worker."""
    simulation = Simulation(setting, tokens)
    for worker, times in (deaths or {}).items():
        simulation.deaths[worker] = iter([*times, np.inf])
    return simulation.run()


def seconds(setting: Setting, tokens: np.ndarray = TOKENS, deaths: dict[int, list[float]] | None = None) -> float:
    return run(setting, tokens, deaths).seconds


@pytest.mark.parametrize("dynamic", [False, True])
def test_equal_parts_without_deaths_take_the_ideal_time(dynamic: bool) -> None:
    setting = dataclasses.replace(EVEN, dynamic=dynamic)
    assert seconds(setting) == 200
    assert seconds(dataclasses.replace(setting, start_s=7, commit_s=1)) == 7 + 2 * 101
    assert seconds(setting, np.full(9, 1000.0)) == 300  # a worker has one part more


def test_claims_fill_the_time_that_shards_leave() -> None:
    tokens = np.array([3000.0, 1000, 1000, 1000])
    assert seconds(dataclasses.replace(EVEN, workers=2, dynamic=False), tokens) == 400
    assert seconds(dataclasses.replace(EVEN, workers=2), tokens) == 300


def test_death_repeats_its_part_after_the_restart() -> None:
    # The worker dies at 130 s, 30 s into its second part, is replaced 50 s later and repeats the part.
    shards = run(dataclasses.replace(EVEN, dynamic=False), deaths={2: [130.0]})
    assert (shards.seconds, shards.died) == (130 + 50 + 100, 1)
    assert shards.repeated == pytest.approx(30 * 10 / 8000)
    # With claims as well, since all are busy until 200 s; the replacement is first, at 180 s.
    assert seconds(EVEN, deaths={2: [130.0]}) == 280
    # The first to be idle, at 200 s, takes the part if the replacement would be later.
    assert seconds(dataclasses.replace(EVEN, restart_s=500), deaths={2: [130.0]}) == 300
    # An idle worker takes it at the time of the death.
    assert seconds(dataclasses.replace(EVEN, restart_s=500), TOKENS[:3], deaths={2: [60.0]}) == 160


def test_worker_may_die_again_and_while_it_starts() -> None:
    setting = dataclasses.replace(EVEN, dynamic=False)
    # Deaths at 10 s and 40 s: the second one is during the restart and changes nothing.
    assert seconds(setting, deaths={0: [10.0, 40.0]}) == 10 + 50 + 200
    assert seconds(setting, deaths={0: [10.0, 70.0]}) == 70 + 50 + 200


def test_deaths_have_the_stated_rates() -> None:
    setting = Setting(documents=200_000, part_rows=20, workers=1000)
    tokens = part_tokens(setting)
    for deaths in ("none", "once", "hourly"):
        found = Simulation(dataclasses.replace(setting, deaths=deaths), tokens).run()
        hours = found.seconds / 3600
        expected = {"none": 0, "once": 10, "hourly": 1000 * 0.01 * hours}[deaths]
        assert found.died == pytest.approx(expected, abs=4 * expected**0.5)
        # On average, a death loses half a part.
        assert found.repeated <= found.died / len(tokens) * tokens.max() / tokens.mean()


def test_parts_have_the_stated_lengths() -> None:
    tokens = part_tokens(Setting(documents=100_050, part_rows=100))
    assert len(tokens) == 1001
    assert tokens[:-1].mean() / 100 == pytest.approx((3000 - 50) / np.log(3000 / 50), rel=0.02)
    assert tokens[:-1].std() / 100**0.5 / (tokens.mean() / 100) == pytest.approx(1.06, rel=0.1)


def test_page_has_the_tables_of_the_simulation() -> None:
    assert report(Setting()) in PAGE.read_text()


def test_real_claims_by_fake_workers_take_the_simulated_time(tmp_path: Path) -> None:
    setting = Setting(workers=4, tokens_per_s=1000, start_s=0.1, commit_s=0.005, restart_s=0.1)
    tokens = np.random.default_rng(3).uniform(50, 250, 20)
    simulation = Simulation(setting, tokens)
    simulation.deaths[1] = iter([0.45, np.inf])
    expected = simulation.run()
    assert expected.died == 1
    folder, begin = LocalFolder(tmp_path), time.monotonic()

    def compute(worker: int, part: int) -> bool:
        """Sleep for the time of a part, and return True, or until the worker dies."""
        now = time.monotonic() - begin
        end = now + tokens[part] / setting.tokens_per_s
        dies = worker == 1 and now < 0.45 < end
        time.sleep((0.45 if dies else end) - now)
        return not dies

    def work(worker: int) -> None:
        """Claim parts in order until all are done."""
        time.sleep(setting.start_s)
        while missing := [part for part in range(len(tokens)) if folder.size(f"part-{part}") is None]:
            claims = ((part, folder.claim(f"part-{part}")) for part in missing)
            part, claim = next(((part, one) for part, one in claims if one is not None), (0, None))
            if claim is None:
                time.sleep(0.01)  # another worker has the last parts
            elif folder.size(f"part-{part}") is not None:
                claim.abandon()  # done in between
            elif compute(worker, part):
                claim.sink.write(b"rows")
                claim.commit()
                claim.abandon()
            else:
                claim.abandon()  # as the kernel does for a dead process
                time.sleep(setting.restart_s + setting.start_s)

    with ThreadPoolExecutor(setting.workers) as pool:
        list(pool.map(work, range(setting.workers)))
    seconds = time.monotonic() - begin
    assert 0.9 * expected.seconds < seconds < 1.5 * expected.seconds + 0.3  # the machine may be busy

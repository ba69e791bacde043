"""Threads started during the first call get a timer slack of 50 ms; later threads do not."""

import sys
import threading
from pathlib import Path

import pytest

from max_gpt2.system.machine import with_timer_slack

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has timer slack")


def slack() -> int:
    """Return the timer slack of the calling thread in nanoseconds."""
    return int(Path(f"/proc/{threading.get_native_id()}/timerslack_ns").read_text())


def in_a_thread() -> int:
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(slack()))
    thread.start()
    thread.join()
    return found[0]


def test_timer_slack_applies_to_the_first_call_only() -> None:
    before = slack()
    run = with_timer_slack(lambda one, two: (one, two, in_a_thread()))
    assert run("a", "b") == ("a", "b", 50_000_000)
    assert slack() == before
    assert run("c", "d") == ("c", "d", before)


def test_timer_slack_is_restored_after_an_error() -> None:
    before = slack()
    with pytest.raises(ZeroDivisionError):
        with_timer_slack(lambda: 1 // 0)()
    assert slack() == before

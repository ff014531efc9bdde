"""How often the scheduler is asked for the state of jobs."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from clustrix_prefect.far_side.environments.commands import StatusPoller


@pytest.fixture
def poller() -> Iterator[StatusPoller]:
    poller = StatusPoller(lambda event: None, lambda: True)
    yield poller
    poller.configure(None, 1.0, 1.0, "")


def test_events_that_follow_each_other_do_not_make_polls_follow_each_other(poller, tmp_path):
    polls = tmp_path / "polls"
    poller.configure(["sh", "-c", f"echo >> {polls}; date +%N"], 0.5, 5.0, "")
    begun = time.monotonic()
    asked = 0
    # A busy machine answers slowly, and is then asked less often: the third poll may take a while.
    while asked < 3 and time.monotonic() - begun < 60:
        poller.wake()
        time.sleep(0.01)
        asked = len(polls.read_text().splitlines()) if polls.exists() else 0
    assert asked == 3
    assert time.monotonic() - begun >= 2 * 0.5


def test_a_slow_scheduler_is_asked_less_often(poller, tmp_path):
    polls = tmp_path / "polls"
    poller.configure(["sh", "-c", f"echo >> {polls}; sleep 0.2; date +%N"], 0.1, 5.0, "")
    threading.Event().wait(2)
    assert len(polls.read_text().splitlines()) == 1

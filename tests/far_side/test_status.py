"""How often the scheduler is asked for the state of jobs."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from clustrix_prefect.far_side.commands import StatusPoller


@pytest.fixture
def poller() -> Iterator[StatusPoller]:
    poller = StatusPoller(lambda event: None, lambda: True)
    yield poller
    poller.configure(None)


def test_events_that_follow_each_other_do_not_make_polls_follow_each_other(poller, tmp_path):
    polls = tmp_path / "polls"
    poller.configure(
        {
            "command": ["sh", "-c", f"echo >> {polls}; date +%N"],
            "interval_min": 0.5,
            "interval_max": 5,
        }
    )
    end = time.monotonic() + 2
    while time.monotonic() < end:
        poller.wake()
        time.sleep(0.01)
    assert 2 <= len(polls.read_text().splitlines()) <= 4


def test_a_slow_scheduler_is_asked_less_often(poller, tmp_path):
    polls = tmp_path / "polls"
    poller.configure(
        {
            "command": ["sh", "-c", f"echo >> {polls}; sleep 0.2; date +%N"],
            "interval_min": 0.1,
            "interval_max": 5,
        }
    )
    threading.Event().wait(2)
    assert len(polls.read_text().splitlines()) == 1

"""Timers, the elastic pool, and the pacing of state events."""

from __future__ import annotations

import threading
import time
from datetime import datetime, timedelta, timezone
from uuid import uuid4

import pytest

from clustrix_prefect.dispatch import pacing
from clustrix_prefect.dispatch.pacing import Pacer
from clustrix_prefect.dispatch.pool import StepPool
from clustrix_prefect.dispatch.timers import Timers


@pytest.fixture
def timers():
    timers = Timers("test-timers")
    yield timers
    timers.close()


def test_timers_fire_in_order_and_survive_a_failing_function(timers):
    fired, done = [], threading.Event()
    timers.after(0.10, lambda: fired.append("late") or done.set())
    timers.after(0.02, lambda: fired.append("early"))
    timers.after(0.04, lambda: 1 / 0)
    timers.after(0.03, lambda: fired.append("cancelled")).cancel()
    assert done.wait(60)
    assert fired == ["early", "late"]


def test_a_periodic_function_goes_on_after_a_failure(timers):
    calls, done = [], threading.Event()

    def fail_first():
        calls.append(1)
        if len(calls) == 1:
            raise ValueError
        done.set()

    timers.every(0.01, fail_first)
    assert done.wait(60)


def test_blocked_steps_hold_up_nobody(timers):
    pool = StepPool("test-pool", timers, core=2)
    release, quick = threading.Event(), threading.Event()
    for _ in range(40):
        pool.submit(release.wait)  # type: ignore[arg-type]
    pool.submit(quick.set)
    assert quick.wait(60), "a quick step waited for blocked ones"
    release.set()
    pool.close()


def test_quick_steps_share_few_threads(timers):
    pool = StepPool("test-few", timers, core=2)
    seen, done = set(), threading.Semaphore(0)

    def step():
        seen.add(threading.get_ident())
        done.release()

    for _ in range(500):
        pool.submit(step)
    for _ in range(500):
        assert done.acquire(timeout=60)
    assert 1 <= len(seen) <= 2
    pool.close()


def test_a_pool_survives_a_failing_step(timers):
    pool = StepPool("test-failing", timers, core=1)
    done = threading.Event()
    pool.submit(lambda: 1 / 0)  # type: ignore[arg-type]
    pool.submit(done.set)
    assert done.wait(60)
    pool.close()


class _Server:
    """Takes in states in the order in which they were sent, when told to."""

    def __init__(self):
        self.sent = []
        self.taken = 0

    def shown(self, task_run_id):
        for run, timestamp in reversed(self.sent[: self.taken]):
            if run == task_run_id:
                return timestamp
        return None

    def send(self, pacer, count):
        for _ in range(count):
            run, timestamp = uuid4(), datetime.now(timezone.utc)
            self.sent.append((run, timestamp))
            pacer.sent(run, timestamp)


def _waits(pacer):
    """A thread that waits for the pacer, and the event that it sets afterwards."""
    waited = threading.Event()
    threading.Thread(target=lambda: (pacer.wait(), waited.set()), daemon=True).start()
    return waited


@pytest.fixture
def hasty(monkeypatch):
    monkeypatch.setattr(pacing, "_ASK_EVERY", 0.01)


def test_task_runs_wait_for_a_server_that_is_behind(hasty):
    server = _Server()
    pacer = Pacer(server.shown)
    server.send(pacer, pacing._AHEAD)
    assert _waits(pacer).wait(60), "nothing to wait for yet"
    server.send(pacer, 1)
    waited = _waits(pacer)
    assert not waited.wait(0.2)
    server.taken = pacing._MARK_EVERY - 1
    assert not waited.wait(0.2)
    server.taken = pacing._MARK_EVERY
    assert waited.wait(60)


def test_a_later_state_of_the_same_task_run_shows_that_the_mark_was_taken_in(hasty):
    later = datetime.now(timezone.utc) + timedelta(seconds=1)
    pacer = Pacer(lambda _: later)
    _Server().send(pacer, pacing._AHEAD + 1)
    assert _waits(pacer).wait(60)


def test_a_server_that_says_nothing_does_not_hold_task_runs_for_ever(hasty, monkeypatch, caplog):
    monkeypatch.setattr(pacing, "_PATIENCE", 0.1)

    def fail(_):
        raise OSError

    pacer = Pacer(fail)
    _Server().send(pacer, pacing._AHEAD + 1)
    began = time.monotonic()
    pacer.wait()
    assert 0.1 <= time.monotonic() - began < 60
    assert "going on slowly" in caplog.text

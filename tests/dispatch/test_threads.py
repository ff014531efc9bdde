"""Timers, the elastic pool, and the pacing of state events."""

from __future__ import annotations

import threading
import time

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
    assert done.wait(5)
    assert fired == ["early", "late"]


def test_a_periodic_function_goes_on_after_a_failure(timers):
    calls, done = [], threading.Event()

    def fail_first():
        calls.append(1)
        if len(calls) == 1:
            raise ValueError
        done.set()

    timers.every(0.01, fail_first)
    assert done.wait(5)


def test_blocked_steps_hold_up_nobody(timers):
    pool = StepPool("test-pool", timers, core=2)
    release, quick = threading.Event(), threading.Event()
    for _ in range(40):
        pool.submit(release.wait)
    pool.submit(quick.set)
    assert quick.wait(20), "a quick step waited for blocked ones"
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
        assert done.acquire(timeout=10)
    assert 1 <= len(seen) <= 2
    pool.close()


def test_a_pool_survives_a_failing_step(timers):
    pool = StepPool("test-failing", timers, core=1)
    done = threading.Event()
    pool.submit(lambda: 1 / 0)
    pool.submit(done.set)
    assert done.wait(5)
    pool.close()


def test_task_runs_wait_for_a_server_that_is_behind(monkeypatch):
    monkeypatch.setattr(pacing, "_ASK_EVERY", 0.01)
    shown = [0]
    pacer = Pacer(lambda: (shown[0], 0))
    for _ in range(pacing._AHEAD + 1):
        pacer.begun()
    waited = threading.Event()
    thread = threading.Thread(target=lambda: (pacer.wait(), waited.set()), daemon=True)
    thread.start()
    assert not waited.wait(0.2)
    shown[0] = 1
    assert waited.wait(5)


def test_a_server_that_says_nothing_does_not_hold_task_runs_for_ever(monkeypatch, caplog):
    monkeypatch.setattr(pacing, "_ASK_EVERY", 0.01)
    monkeypatch.setattr(pacing, "_PATIENCE", 0.1)

    def fail():
        raise OSError

    pacer = Pacer(fail)
    for _ in range(pacing._AHEAD + 1):
        pacer.begun()
    began = time.monotonic()
    pacer.wait()
    assert time.monotonic() - began < 5
    assert "no progress" in caplog.text

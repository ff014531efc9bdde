"""`timeout_seconds`: it takes effect in time, on the call itself, and not while it waits."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect import flow, task
from prefect.task_runners import TaskRunner

from .api import task_run
from .conftest import Cluster


@task(timeout_seconds=1)
def tick(path: str) -> None:
    """Shows that it runs by letting a file grow."""
    end = time.time() + 90
    while time.time() < end:
        with open(path, "a") as file:
            file.write(".")
        time.sleep(0.05)


@task(timeout_seconds=1)
async def tick_later(path: str) -> None:
    end = time.time() + 90
    while time.time() < end:
        with open(path, "a") as file:
            file.write(".")
        await asyncio.sleep(0.05)


@task(timeout_seconds=1, retries=1)
def slow_at_first(directory: str) -> int:
    Path(directory, uuid4().hex).touch()
    number = len(os.listdir(directory))
    end = time.time() + (90 if number == 1 else 0)
    while time.time() < end:
        time.sleep(0.05)
    return number


@task(timeout_seconds=3)
def nearly_too_slow(_: int) -> tuple[float, float]:
    start = time.time()
    time.sleep(1.6)
    return start, time.time()


@task
def fail_with_a_timeout() -> None:
    raise TimeoutError("somebody else's")


@pytest.mark.parametrize("ticking", [tick, tick_later], ids=["sync", "async"])
def test_a_call_that_takes_too_long_is_stopped(
    runner: TaskRunner[Any], far_dir: str, ticking: Any
) -> None:
    ticks = Path(far_dir, "ticks")

    @flow(task_runner=runner)
    def limited() -> UUID:
        future = ticking.submit(str(ticks))
        with pytest.raises(TimeoutError):
            future.result()
        assert future.state.name == "TimedOut"
        assert future.state.is_failed()
        assert "exceeded timeout of 1" in str(future.state.message)
        return future.task_run_id

    found = task_run(limited(), "TimedOut")
    assert found.start_time is not None
    assert found.end_time is not None
    assert 0.9 <= (found.end_time - found.start_time).total_seconds() < 60
    time.sleep(0.5)
    # On a busy machine it may be stopped before its first line.
    size = ticks.stat().st_size if ticks.exists() else None
    time.sleep(0.5)
    assert (ticks.stat().st_size if ticks.exists() else None) == size, "the call still runs"


def test_a_timeout_is_retried(runner: TaskRunner[Any], far_dir: str) -> None:
    @flow(task_runner=runner)
    def second_chance() -> int:
        return slow_at_first.submit(far_dir).result()

    assert second_chance() == 2


def test_waiting_for_a_worker_does_not_count(cluster: Cluster) -> None:
    @flow(task_runner=cluster.one_by_one())
    def queued() -> list[tuple[float, float]]:
        return nearly_too_slow.map(range(2)).result()

    first, second = sorted(queued())
    assert second[0] >= first[1], "both ran at once, so nothing waited"


@pytest.mark.engine
def test_a_tasks_own_timeout_error_is_told_apart(runner: TaskRunner[Any]) -> None:
    @flow(task_runner=runner)
    def own() -> tuple[bool, Any]:
        future = fail_with_a_timeout.submit()
        with pytest.raises(TimeoutError, match="somebody else's"):
            future.result()
        return future.state.is_failed(), future.state.message

    failed, message = own()
    assert failed
    assert "exceeded timeout of" not in str(message)

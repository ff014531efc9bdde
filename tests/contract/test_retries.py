"""Retries: how often, when, on which condition, and what the API shows of them."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect import flow, task
from prefect.client.schemas.objects import TaskRun
from prefect.states import Completed, Failed, State
from prefect.task_runners import TaskRunner
from prefect.tasks import Task

from .api import history, task_run

pytestmark = pytest.mark.engine


class Flaky(Exception):
    """Raised by attempts that shall fail."""


def attempt(directory: str) -> int:
    """Record this attempt and return its number, from 1."""
    Path(directory, f"{time.time()}-{uuid4().hex}").touch()
    return len(os.listdir(directory))


def attempts(directory: str) -> list[float]:
    """When the attempts began."""
    return sorted(float(path.name.partition("-")[0]) for path in Path(directory).iterdir())


@task(retries=2)
def succeed_third_time(directory: str) -> int:
    number = attempt(directory)
    if number < 3:
        raise Flaky(number)
    return number


@task(retries=2, retry_delay_seconds=[0.3, 0.6])
async def succeed_third_time_with_delays(directory: str) -> int:
    number = attempt(directory)
    await asyncio.sleep(0)
    if number < 3:
        raise Flaky(number)
    return number


@task(retries=1)
def never_succeed(directory: str) -> None:
    raise Flaky(attempt(directory))


@task(retries=1)
def recover_from_a_failed_state(directory: str) -> State[Any]:
    if attempt(directory) == 1:
        return Failed(message="try again")
    return Completed(message="better")


@task(retries=5)
def fail_politely(directory: str) -> None:
    raise Flaky(attempt(directory))


def test_retries_until_success(runner: TaskRunner[Any], far_dir: str) -> None:
    @flow(task_runner=runner)
    def flaky() -> UUID:
        future = succeed_third_time.submit(far_dir)
        assert future.result() == 3
        return future.task_run_id

    task_run_id = flaky()
    states = history(task_run_id)
    assert [state.name for state in states if state.name not in ("Pending", "Queued")] == [
        "Running",
        "Retrying",
        "Retrying",
        "Completed",
    ]
    assert states[0].name == "Pending"
    found = task_run(task_run_id)
    assert found.run_count == 3
    assert found.empirical_policy.retries == 2


def test_retry_delays(runner: TaskRunner[Any], far_dir: str) -> None:
    @flow(task_runner=runner)
    def patient() -> UUID:
        future = succeed_third_time_with_delays.submit(far_dir)
        assert future.result() == 3
        return future.task_run_id

    task_run_id = patient()
    shown = [
        state.name for state in history(task_run_id) if state.name not in ("Pending", "Queued")
    ]
    assert shown == [
        "Running",
        "AwaitingRetry",
        "Retrying",
        "AwaitingRetry",
        "Retrying",
        "Completed",
    ]
    assert task_run(task_run_id).run_count == 3
    first, second, third = attempts(far_dir)
    assert second - first >= 0.3
    assert third - second >= 0.6


def test_retries_exhausted(runner: TaskRunner[Any], far_dir: str) -> None:
    @flow(task_runner=runner)
    def hopeless() -> UUID:
        future = never_succeed.submit(far_dir)
        with pytest.raises(Flaky, match="2"):
            future.result()
        assert future.state.is_failed()
        return future.task_run_id

    task_run_id = hopeless()
    assert len(attempts(far_dir)) == 2
    assert task_run(task_run_id, "Failed").run_count == 2


def test_a_returned_failed_state_is_retried(runner: TaskRunner[Any], far_dir: str) -> None:
    @flow(task_runner=runner)
    def stately() -> tuple[bool, Any]:
        future = recover_from_a_failed_state.submit(far_dir)
        future.wait()
        return future.state.is_completed(), future.state.message

    assert stately() == (True, "better")
    assert len(attempts(far_dir)) == 2


@pytest.mark.parametrize("awaited", [False, True], ids=["sync", "async"])
def test_retry_condition(runner: TaskRunner[Any], far_dir: str, awaited: bool) -> None:
    """It is asked after each failure, here, with what Prefect gives it, and obeyed."""
    asked: list[tuple[Any, ...]] = []

    def only_once(task: Task[Any, Any], run: TaskRun, state: State[Any]) -> bool:
        error = state.result(raise_on_failure=False) if not awaited else state.data
        asked.append((task.name, run.run_count, type(error), os.getpid()))
        return len(asked) == 1

    async def only_once_later(task: Task[Any, Any], run: TaskRun, state: State[Any]) -> bool:
        await asyncio.sleep(0)
        return only_once(task, run, state)

    conditional = fail_politely.with_options(
        retry_condition_fn=only_once_later if awaited else only_once
    )

    @flow(task_runner=runner)
    def choosy() -> None:
        future = conditional.submit(far_dir)
        future.wait()
        assert future.state.is_failed()

    choosy()
    assert len(attempts(far_dir)) == 2
    assert asked == [("fail_politely", count, Flaky, os.getpid()) for count in (1, 2)]

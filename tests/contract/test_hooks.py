"""Hooks: when they are called, with what, and that user code here holds up nobody else."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from prefect import flow, task
from prefect.client.schemas.objects import State, TaskRun
from prefect.serializers import PickleSerializer
from prefect.task_runners import TaskRunner
from prefect.tasks import Task

from .conftest import Cluster

pytestmark = pytest.mark.engine


@task
def double(x: int) -> int:
    return 2 * x


@task
def fail(x: int) -> None:
    raise ValueError(x)


@task(retries=1)
def fail_twice(x: int) -> None:
    raise ValueError(x)


@task
def span(_: int) -> tuple[float, float]:
    start = time.time()
    time.sleep(0.4)
    return start, time.time()


class Calls:
    """Hooks that note how they were called."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, Any, int]] = []

    def hook(self, label: str, asynchronous: bool = False) -> Callable[..., Any]:
        def note(task: Task[Any, Any], run: TaskRun, state: State[Any]) -> None:
            assert isinstance(run, TaskRun)
            self.seen.append((label, task.name, state.name, os.getpid()))

        async def note_later(task: Task[Any, Any], run: TaskRun, state: State[Any]) -> None:
            await asyncio.sleep(0)
            note(task, run, state)

        return note_later if asynchronous else note

    def of(self, name: str) -> list[tuple[str, Any]]:
        assert {pid for *_, pid in self.seen} == {os.getpid()}
        return [(label, state) for label, task, state, _ in self.seen if task == name]


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_hooks_follow_the_states(runner: TaskRunner[Any], asynchronous: bool) -> None:
    calls = Calls()
    hooks: dict[str, Any] = {
        "on_running": [calls.hook("running", asynchronous)],
        "on_completion": [calls.hook("completed", asynchronous), calls.hook("too")],
        "on_failure": [calls.hook("failed", asynchronous)],
    }

    @flow(task_runner=runner)
    def hooked() -> None:
        tasks = [each.with_options(**hooks) for each in (double, fail, fail_twice)]
        for future in [each.submit(1) for each in tasks]:
            future.wait()

    hooked()
    assert calls.of("double") == [
        ("running", "Running"),
        ("completed", "Completed"),
        ("too", "Completed"),
    ]
    assert calls.of("fail") == [("running", "Running"), ("failed", "Failed")]
    assert calls.of("fail_twice") == [
        ("running", "Running"),
        ("running", "Retrying"),
        ("failed", "Failed"),
    ]


def test_a_broken_hook_breaks_nothing(runner: TaskRunner[Any]) -> None:
    calls = Calls()

    def broken(*_: Any) -> None:
        raise RuntimeError("broken hook")

    @flow(task_runner=runner)
    def hooked() -> int:
        return (
            double.with_options(
                on_running=[broken], on_completion=[broken, calls.hook("completed")]
            )
            .submit(4)
            .result()
        )

    assert hooked() == 8
    assert calls.of("double") == [("completed", "Completed")]


def test_on_running_waits_for_the_start(cluster: Cluster) -> None:
    """A call that waits for its turn is not running yet."""
    started: list[float] = []

    @flow(task_runner=cluster.one_by_one())
    def hooked() -> list[tuple[float, float]]:
        hook = lambda *_: started.append(time.time())  # noqa: E731
        return span.with_options(on_running=[hook]).map(range(2)).result()

    first, second = sorted(hooked())
    assert second[0] >= first[1], "both ran at once, so nothing waited"
    assert len(started) == 2
    assert max(started) >= first[1]


def test_slow_hooks_run_side_by_side(runner: TaskRunner[Any]) -> None:
    """Ten hooks, each of which goes on only when five are running."""
    five = threading.Barrier(5, timeout=60)

    @flow(task_runner=runner)
    def hooked() -> list[int]:
        hook: Any = lambda *_: five.wait()  # noqa: E731
        return double.with_options(on_completion=[hook]).map(range(10)).result()

    assert hooked() == [2 * x for x in range(10)]
    assert not five.broken


class Stall:
    """User code that blocks until another call has finished, or a minute has passed."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.other_finished = threading.Event()
        self.was_alone: bool | None = None

    def __call__(self, *_: Any) -> None:
        if not self.entered.is_set():
            self.entered.set()
            self.was_alone = not self.other_finished.wait(60)


class StallingSerializer(PickleSerializer):
    type: str = "stalling"
    _stall: Stall | None = None

    def dumps(self, obj: Any) -> bytes:
        if self._stall:
            self._stall()
        return super().dumps(obj)


def _with_serializer(stall: Stall) -> Task[Any, Any]:
    serializer = StallingSerializer()
    serializer._stall = stall
    return double.with_options(persist_result=True, result_serializer=serializer)


def _key(stall: Stall) -> Callable[..., str]:
    def key(*_: Any) -> str:
        stall()
        return str(uuid4())

    return key


def _condition(stall: Stall) -> Callable[..., bool]:
    def condition(*_: Any) -> bool:
        stall()
        return False

    return condition


def _name(stall: Stall) -> Callable[[], str]:
    def name() -> str:
        stall()
        return "named"

    return name


def _hook(stall: Stall) -> Callable[..., None]:
    def hook(*_: Any) -> None:
        stall()

    return hook


def _async_hook(stall: Stall) -> Callable[..., Any]:
    async def hook(*_: Any) -> None:
        await asyncio.to_thread(stall)

    return hook


STALLED: dict[str, Callable[[Stall], Task[Any, Any]]] = {
    "on_running": lambda stall: double.with_options(on_running=[_hook(stall)]),
    "on_completion": lambda stall: double.with_options(on_completion=[_hook(stall)]),
    "async on_completion": lambda stall: double.with_options(on_completion=[_async_hook(stall)]),
    "on_failure": lambda stall: fail.with_options(on_failure=[_hook(stall)]),
    "retry_condition_fn": lambda stall: fail_twice.with_options(
        retry_condition_fn=_condition(stall)
    ),
    "cache_key_fn": lambda stall: double.with_options(cache_key_fn=_key(stall)),
    "task_run_name": lambda stall: double.with_options(task_run_name=_name(stall)),
    "serializer": _with_serializer,
}


@pytest.mark.parametrize("where", STALLED)
def test_slow_user_code_holds_up_no_other_call(runner: TaskRunner[Any], where: str) -> None:
    stall = Stall()
    stalled = STALLED[where](stall)

    @flow(task_runner=runner)
    def two_calls() -> None:
        slow = stalled.submit(1)
        assert stall.entered.wait(60)
        assert double.submit(2).result() == 4
        stall.other_finished.set()
        slow.wait()

    two_calls()
    assert stall.was_alone is False

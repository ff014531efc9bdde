"""Flows: sync, async, nested, sharing a runner, ending well or not; and no flow at all."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect import flow, task
from prefect.futures import PrefectFuture
from prefect.task_runners import TaskRunner

from .api import task_run

pytestmark = pytest.mark.engine


@task
def square(x: int) -> int:
    return x * x


@task
async def square_later(x: int) -> int:
    await asyncio.sleep(0.01)
    return x * x


@task
def where() -> int:
    return os.getpid()


@task
def mark(directory: str) -> None:
    time.sleep(0.3)
    Path(directory, uuid4().hex).touch()


@task
def tick(path: str) -> None:
    """Shows that it runs by letting a file grow."""
    end = time.time() + 120
    while time.time() < end:
        with open(path, "a") as file:
            file.write(".")
        time.sleep(0.05)


@task
def square_with_another_task(x: int) -> int:
    return square(x) + square.fn(1)


class Model:
    """Tasks as methods of every kind."""

    def __init__(self, weight: int) -> None:
        self.weight = weight

    @task
    def scale(self, x: int) -> int:
        return self.weight * x

    @task
    @staticmethod
    def halve(x: int) -> float:
        return x / 2

    @task
    @classmethod
    def label(cls, x: int) -> str:
        return f"{cls.__name__} {x}"


def test_sync_flow(runner: TaskRunner[Any]) -> None:
    @flow(task_runner=runner)
    def mixed() -> list[int]:
        futures: list[PrefectFuture[Any]] = [
            square.submit(2),
            square_later.submit(3),
            *square_later.map([4, 5]),
        ]
        return [future.result() for future in futures]

    assert mixed() == [4, 9, 16, 25]


def test_async_flow(runner: TaskRunner[Any]) -> None:
    @flow(task_runner=runner)
    async def mixed() -> list[int]:
        futures: list[PrefectFuture[Any]] = [
            square.submit(2),
            square_later.submit(3),
            *square_later.map([4, 5]),
        ]
        await asyncio.sleep(0)
        return [future.result() for future in futures]

    assert asyncio.run(mixed()) == [4, 9, 16, 25]


def test_two_flows_share_a_runner(runner: TaskRunner[Any]) -> None:
    """One after the other, and both at once."""

    @flow(task_runner=runner)
    def squares(xs: list[int]) -> list[int]:
        return square.map(xs).result()

    @flow(task_runner=runner)
    async def squares_later(xs: list[int]) -> list[Any]:
        return square_later.map(xs).result()

    async def both() -> Sequence[list[int]]:
        return await asyncio.gather(
            asyncio.to_thread(squares, [5, 6]), squares_later([7, 8]), squares_later([9])
        )

    assert squares([1, 2]) == [1, 4]
    assert asyncio.run(squares_later([3, 4])) == [9, 16]
    assert asyncio.run(both()) == [[25, 36], [49, 64], [81]]


def test_nested_flows_share_a_runner(runner: TaskRunner[Any]) -> None:
    @flow(task_runner=runner)
    def inner(x: int) -> int:
        return square.submit(x).result() + 1

    @flow(task_runner=runner)
    def outer() -> list[int]:
        before = square.submit(2)
        nested = inner(before)  # a future as a flow's parameter
        return [nested, inner(3), before.result(), square.submit(nested).result()]

    assert outer() == [17, 10, 4, 289]


def test_a_flow_run_twice(runner: TaskRunner[Any]) -> None:
    @flow(task_runner=runner)
    def again() -> int:
        return where.submit().result()

    assert isinstance(again(), int)
    assert isinstance(again(), int)


def test_as_a_plain_context_manager(runner: TaskRunner[Any]) -> None:
    with runner as entered:
        assert entered is runner
        future = runner.submit(square, {"x": 3})
        after = runner.submit(square_later, {"x": future}, wait_for=[future])
        mapped = runner.map(square, {"x": [1, 2, 3]})  # type: ignore[arg-type]
        assert (future.result(), after.result(), mapped.result()) == (9, 81, [1, 4, 9])
    found = task_run(future.task_run_id)
    assert found.state is not None
    assert found.state.is_completed()
    with runner:
        assert runner.submit(square, {"x": 4}).result() == 16


def test_only_a_started_runner_takes_calls(runner: TaskRunner[Any]) -> None:
    with pytest.raises(RuntimeError, match="start"):
        runner.submit(square, {"x": 1})
    with pytest.raises(RuntimeError, match="start"):
        runner.map(square, {"x": [1]})  # type: ignore[arg-type]
    with runner, pytest.raises(RuntimeError, match="already started"), runner:
        pass
    with pytest.raises(RuntimeError, match="start"):
        runner.submit(square, {"x": 1})


def test_calls_from_threads_of_the_flow(runner: TaskRunner[Any]) -> None:
    results: list[list[int]] = []

    with runner:
        threads = [
            threading.Thread(
                target=lambda start=start: results.append(
                    runner.map(square, {"x": range(start, start + 3)}).result()  # type: ignore[arg-type]
                )
            )
            for start in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(results) == [[x * x for x in range(start, start + 3)] for start in range(4)]


def test_methods_as_tasks(runner: TaskRunner[Any]) -> None:
    @flow(task_runner=runner)
    def modelling() -> list[Any]:
        model = Model(3)
        futures = [
            model.scale.submit(2),
            *model.scale.map([4, 5]),
            Model.halve.submit(3),
            Model.label.submit(6),
        ]
        return [future.result() for future in futures]

    assert modelling() == [6, 12, 15, 1.5, "Model 6"]


def test_a_task_calls_another(runner: TaskRunner[Any]) -> None:
    @flow(task_runner=runner)
    def calling() -> int:
        return square_with_another_task.submit(3).result()

    assert calling() == 10


def test_options(runner: TaskRunner[Any]) -> None:
    @flow(task_runner=runner)
    def optional() -> tuple[UUID, int]:
        future = square.with_options(name="cube", retries=2, tags=["t"]).submit(2)
        return future.task_run_id, future.result()

    task_run_id, result = optional()
    found = task_run(task_run_id)
    assert result == 4
    assert found.name.startswith("cube-")
    assert (found.tags, found.empirical_policy.retries) == (["t"], 2)


def test_with_options_of_a_flow(runner: TaskRunner[Any]) -> None:
    @flow
    def plain() -> list[int]:
        return square.map([1, 2]).result()

    assert plain.with_options(task_runner=runner)() == [1, 4]


@pytest.mark.cluster_only("Prefect's threads drop what has not begun")
def test_calls_that_nobody_waited_for_are_awaited(runner: TaskRunner[Any], far_dir: str) -> None:
    @flow(task_runner=runner)
    def careless() -> list[UUID]:
        futures = mark.map([far_dir] * 3)
        futures.append(mark.submit(far_dir, wait_for=futures[:1]))
        return [future.task_run_id for future in futures]

    ids = careless()
    assert len(list(Path(far_dir).iterdir())) == 4
    for task_run_id in ids:
        state = task_run(task_run_id).state
        assert state is not None
        assert state.is_completed()


@pytest.mark.cluster_only("Prefect's threads cannot be interrupted")
def test_a_flow_that_raises_cancels_its_calls(runner: TaskRunner[Any], far_dir: str) -> None:
    ticks = Path(far_dir, "ticks")
    ids: list[UUID] = []

    @flow(task_runner=runner)
    def unlucky() -> None:
        running = tick.submit(str(ticks))
        waiting = [mark.submit(far_dir, wait_for=[running]) for _ in range(20)]
        ids.extend(future.task_run_id for future in (running, *waiting))
        deadline = time.monotonic() + 60
        while not ticks.exists():
            assert time.monotonic() < deadline, "the call never started"
            time.sleep(0.05)
        for future in waiting:
            task_run(future.task_run_id, "Pending")
        raise ValueError("out of luck")

    started = time.monotonic()
    with pytest.raises(ValueError, match="out of luck"):
        unlucky()
    assert time.monotonic() - started < 60
    time.sleep(1)
    size = ticks.stat().st_size
    time.sleep(0.5)
    assert ticks.stat().st_size == size, "the call still runs"
    assert [path.name for path in Path(far_dir).iterdir()] == ["ticks"]
    for task_run_id in ids:
        state = task_run(task_run_id).state
        assert state is not None
        assert not state.is_completed()

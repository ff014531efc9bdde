"""`task.map`: what is iterated, what is not, and in which order results come."""

from __future__ import annotations

import os
import random
import time
from typing import Any

import pytest
from prefect import allow_failure, flow, task, unmapped
from prefect.exceptions import MappingLengthMismatch, MappingMissingIterable
from prefect.futures import PrefectFuture, PrefectFutureList
from prefect.task_runners import TaskRunner
from prefect.utilities.annotations import quote


@task
def add(x: Any, y: Any = 10) -> Any:
    return x + y


@task
async def add_later(x: Any, y: Any = 10) -> Any:
    return x + y


@task
def collect(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
    return args, kwargs


@task
def numbers(count: int) -> list[int]:
    return list(range(count))


@task
def fail_on_one(x: int) -> int:
    if x == 1:
        raise ValueError("one")
    return x


@task
def name_of(x: Any) -> str:
    return repr(x)


@task
def unhurried(x: int, seed: int) -> tuple[int, int]:
    time.sleep(random.Random(x + seed).random() / 50)
    return x * x, os.getpid()


@pytest.mark.engine
def test_what_is_iterated_and_what_is_not(runner: TaskRunner[Any]) -> None:
    @flow(task_runner=runner)
    def mapped() -> dict[str, list[Any]]:
        one = add.submit(0, 1)
        lists = {
            "positional": add.map([1, 2]),
            "keyword": add.map(x=[1, 2], y=[3, 4]),
            "range": add.map(range(2), 1),
            "text is one value": add.map(["a", "b"], "cd"),
            "unmapped": add.map([[1], [2]], unmapped([3, 4])),
            "unmapped future": add.map([1, 2], unmapped(one)),
            "scalar future": add.map([1, 2], one),
            "future of a list": add.map(numbers.submit(3), 1),
            "list of futures": add.map([one, one], [1, 2]),
            "map of a map": add.map(add.map([1, 2])),
            "futures nested": name_of.map([{"k": [one]}, [one]]),
            "async": add_later.map(numbers.submit(2), unmapped(5)),
            "quoted": add.map(quote([1, 2])),
        }
        for futures in lists.values():
            assert isinstance(futures, PrefectFutureList)
            assert all(isinstance(future, PrefectFuture) for future in futures)
        return {label: futures.result() for label, futures in lists.items()}

    assert mapped() == {
        "positional": [11, 12],
        "keyword": [4, 6],
        "range": [1, 2],
        "text is one value": ["acd", "bcd"],
        "unmapped": [[1, 3, 4], [2, 3, 4]],
        "unmapped future": [2, 3],
        "scalar future": [2, 3],
        "future of a list": [1, 2, 3],
        "list of futures": [2, 3],
        "map of a map": [21, 22],
        "futures nested": ["{'k': [1]}", "[1]"],
        "async": [5, 6],
        "quoted": [11, 12],
    }


@pytest.mark.engine
def test_over_variadic_parameters(runner: TaskRunner[Any]) -> None:
    """As in Prefect, a future among them is a value, not something to iterate."""

    @flow(task_runner=runner)
    def variadic() -> list[Any]:
        pair = numbers.submit(2)
        return [
            collect.map(a=[1, 2], b=unmapped([3]), c=4).result(),
            collect.map(a=pair, b=[5, 6]).result(),
        ]

    assert variadic() == [
        [((), {"a": 1, "b": [3], "c": 4}), ((), {"a": 2, "b": [3], "c": 4})],
        [((), {"a": [0, 1], "b": 5}), ((), {"a": [0, 1], "b": 6})],
    ]


@pytest.mark.engine
def test_over_nothing(runner: TaskRunner[Any]) -> None:
    @flow(task_runner=runner)
    def nothing() -> list[Any]:
        empty = [add.map([]), add.map(numbers.submit(0)), collect.map(a=[], b=unmapped(1))]
        assert all(isinstance(futures, PrefectFutureList) for futures in empty)
        for futures in empty:
            futures.wait()
        return [futures.result() for futures in empty]

    assert nothing() == [[], [], []]


@pytest.mark.engine
def test_what_cannot_be_mapped(runner: TaskRunner[Any]) -> None:
    with runner:
        with pytest.raises(MappingLengthMismatch):
            runner.map(add, {"x": [1, 2], "y": [1, 2, 3]})
        with pytest.raises(MappingMissingIterable):
            runner.map(add, {"x": 1, "y": unmapped([1])})


def test_one_failure_leaves_the_others(runner: TaskRunner[Any]) -> None:
    @flow(task_runner=runner)
    def some_fail() -> list[Any]:
        futures = fail_on_one.map(range(3))
        named = name_of.map(allow_failure(futures)).result()
        futures.wait()
        assert [future.state.is_failed() for future in futures] == [False, True, False]
        with pytest.raises(ValueError, match="one"):
            futures.result()
        results = futures.result(raise_on_failure=False)
        assert isinstance(results[1], ValueError)
        return [named, results[0], results[2]]

    assert some_fail() == [["0", "ValueError('one')", "2"], 0, 2]


def test_results_are_in_order(runner: TaskRunner[Any], every: bool) -> None:
    count = 100 if every else 25

    @flow(task_runner=runner)
    def squares() -> list[Any]:
        return unhurried.map(range(count), seed=7).result()

    results = squares()
    assert [square for square, _ in results] == [x * x for x in range(count)]

"""Futures: as parameters, wherever they are nested, and waiting for them."""

from __future__ import annotations

import asyncio
import datetime
import os
import threading
import time
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import pytest
from prefect import State, flow, task
from prefect.futures import PrefectFuture, PrefectFutureList, as_completed, wait
from prefect.task_runners import TaskRunner
from prefect.utilities.annotations import opaque, quote

pytestmark = pytest.mark.engine


@dataclass
class Parcel:
    label: str
    contents: list[Any] = field(default_factory=list)


class Sealed(list):
    """A list that nobody may look into."""

    def __iter__(self) -> Any:
        raise AssertionError("somebody looked into the sealed list")

    def __reduce__(self) -> Any:
        return Sealed, ()


@task
def echo(value: Any) -> Any:
    return value


@task
async def echo_later(value: Any) -> Any:
    await asyncio.sleep(0.01)
    return value


@task
def describe(value: Any) -> str:
    return repr(value)


@task
def kind(value: Any) -> str:
    return type(value).__name__


@task
def where() -> tuple[str, int]:
    return os.uname().nodename, os.getpid()


@task
def when(_: Any = None) -> float:
    return time.time()


@task
def held(path: str) -> tuple[str, float]:
    """Runs until the path exists; returns it and the time of its end."""
    deadline = time.time() + 60
    while not os.path.exists(path):
        if time.time() > deadline:  # an assert would need pytest far away
            raise TimeoutError("nobody let this call go")
        time.sleep(0.02)
    return path, time.time()


VALUES = [
    None,
    ("a", 1),
    {1, 2},
    frozenset({3}),
    b"\x00\xff",
    {"k": [1, {"deep": (2.5, 1j)}], 4: None},
    datetime.datetime(2024, 2, 29, tzinfo=datetime.timezone.utc),
    Decimal("1.10"),
    Parcel("books", [1, 2]),
    "x" * 1_000_000,
]


def release(path: str) -> None:
    with open(path, "w"):
        pass


@pytest.mark.cluster_only("threads share the flow's process")
def test_calls_run_outside_the_flow_process(runner: TaskRunner[Any]) -> None:
    @flow(task_runner=runner)
    def two_calls() -> list[Any]:
        return [where.submit().result(), where.submit().result()]

    for _, pid in two_calls():
        assert pid != os.getpid()


@pytest.mark.parametrize("echoing", [echo, echo_later], ids=["sync", "async"])
def test_values_travel_both_ways_unchanged(runner: TaskRunner[Any], echoing: Any) -> None:
    @flow(task_runner=runner)
    def send_all() -> list[Any]:
        return echoing.map(quote(VALUES)).result()

    results = send_all()
    assert results == VALUES
    assert [type(value) for value in results] == [type(value) for value in VALUES]


def test_futures_resolve_wherever_they_are_nested(runner: TaskRunner[Any]) -> None:
    @flow(task_runner=runner)
    def nest() -> list[str]:
        one, two = echo.submit(1), echo_later.submit(2)
        nested: list[Any] = [
            one,
            [one, two],
            (one, [two]),
            {two},
            {"k": {"deep": [one]}, "plain": 0},
            Parcel("futures", [one, {"k": two}]),
        ]
        return [future.result() for future in [describe.submit(value) for value in nested]]

    assert nest() == [
        "1",
        "[1, 2]",
        "(1, [2])",
        "{2}",
        "{'k': {'deep': [1]}, 'plain': 0}",
        "Parcel(label='futures', contents=[1, {'k': 2}])",
    ]


def test_annotations_are_honoured_and_do_not_travel(runner: TaskRunner[Any]) -> None:
    """`quote` keeps Prefect out of a value, `opaque` out of what a future brings."""

    @flow(task_runner=runner)
    def annotate() -> list[str]:
        sealed = echo.submit(quote([[Sealed()]]))
        return [
            kind.submit(quote(Sealed())).result(),
            kind.submit(opaque(sealed)).result(),
            describe.submit(quote({"a": (1,)})).result(),
        ]

    assert annotate() == ["Sealed", "list", "{'a': (1,)}"]


def test_submit_returns_before_anything_ran(runner: TaskRunner[Any], far_dir: str) -> None:
    gate = f"{far_dir}/gate"

    @flow(task_runner=runner)
    def chain() -> dict[str, Any]:
        first = held.submit(gate)
        second = echo.submit(first)
        third = echo.submit({"nested": [second]}, wait_for=[first])
        assert isinstance(third, PrefectFuture)
        assert not third.state.is_final()
        release(gate)  # had a submit waited for the first call, it would have given up
        return third.result()

    assert chain()["nested"][0][0] == gate


def test_wait_for_orders_calls(runner: TaskRunner[Any], far_dir: str) -> None:
    gate = f"{far_dir}/gate"

    @flow(task_runner=runner)
    def ordered() -> tuple[float, list[float]]:
        first = held.submit(gate)
        later: list[Any] = [when.submit(wait_for=[first]), when.submit(wait_for=[[first]])]
        later += when.map([1, 2], wait_for=[first])  # type: ignore[list-item]
        time.sleep(0.3)
        release(gate)
        return first.result()[1], [future.result() for future in later]

    end, starts = ordered()
    assert len(starts) == 4
    assert all(start >= end for start in starts)


def test_waiting_with_a_timeout(runner: TaskRunner[Any], far_dir: str) -> None:
    """`result` raises, `wait` returns, and the call itself is left alone."""
    gate = f"{far_dir}/gate"

    @flow(task_runner=runner)
    def impatient() -> list[float]:
        future = held.submit(gate)
        spent = []
        for attempt in (
            lambda: future.result(timeout=0.2),
            lambda: PrefectFutureList([future]).result(timeout=0.2),  # type: ignore[abstract]
            lambda: list(as_completed([future], timeout=0.2)),
        ):
            started = time.monotonic()
            with pytest.raises(TimeoutError):
                attempt()
            spent.append(time.monotonic() - started)
        for patience in (
            lambda: future.wait(timeout=0.2),
            lambda: PrefectFutureList([future]).wait(timeout=0.2),  # type: ignore[abstract]
        ):
            started = time.monotonic()
            assert patience() is None
            spent.append(time.monotonic() - started)
        assert not future.state.is_final()
        release(gate)
        assert future.wait() is None
        assert future.state.is_completed()
        assert future.result(timeout=0) == future.result()
        return spent

    assert all(0.15 < seconds < 60 for seconds in impatient())


def test_as_completed_and_wait_follow_completion(runner: TaskRunner[Any], far_dir: str) -> None:
    gates = [f"{far_dir}/{number}" for number in range(2)]

    @flow(task_runner=runner)
    def race() -> tuple[list[str], set[bool]]:
        futures = held.map(gates)
        release(gates[1])
        futures[1].wait()
        done, not_done = wait(futures, timeout=0.2)
        assert (done, not_done) == ({futures[1]}, {futures[0]})
        finished = []
        for future in as_completed([*futures, futures[0]]):
            finished.append(future.result()[0])
            release(gates[0])
        return finished, {future.state.is_completed() for future in futures}

    order, completed = race()
    assert order == [gates[1], gates[0]]
    assert completed == {True}


def test_done_callbacks(runner: TaskRunner[Any], far_dir: str) -> None:
    gate = f"{far_dir}/gate"

    @flow(task_runner=runner)
    def called_back() -> list[Any]:
        calls: list[Any] = []
        arrived = threading.Event()
        future = held.submit(gate)
        future.add_done_callback(lambda done: calls.append(done) or arrived.set())
        assert calls == []
        release(gate)
        assert arrived.wait(60)
        future.wait()
        future.add_done_callback(calls.append)
        assert calls == [future, future]
        return calls

    called_back()


def test_states_instead_of_futures(runner: TaskRunner[Any]) -> None:
    @flow(task_runner=runner)
    def stately() -> list[Any]:
        one = echo.submit(1, return_state=True)
        many = echo.map([2, one], return_state=True)
        assert all(isinstance(state, State) and state.is_completed() for state in [one, *many])
        return [state.result() for state in [one, *many]]

    assert stately() == [1, 2, 1]

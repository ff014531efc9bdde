"""The flows that are measured, each run in a process of its own."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from prefect import flow, runtime, task
from prefect.task_runners import TaskRunner

from clustrix_prefect.clusters.cluster import ClusterBlock
from clustrix_prefect.sessions.session import sessions
from tests.bench.apart import peak_memory

MakeRunner = Callable[[], TaskRunner[Any]]


@dataclass(frozen=True)
class Traffic:
    """What went over one connection."""

    round_trips: int
    sent: int
    received: int


@dataclass
class Mapped:
    """What a flow that maps no-ops found out about itself.

    Attributes:
        flow_run_id: The flow run.
        calls: How many were mapped.
        task_runs: How many task runs it had in all.
        seconds: From the call of `map` until every result was there.
        submit_seconds: From the call of `map` until it returned.
        one_call: Times of single calls, submit to result.
        peak_memory: Of the flow's process, in bytes.
        traffic: What went over the connection during the map, if there is one.
    """

    flow_run_id: UUID
    calls: int = 0
    task_runs: int = 0
    seconds: float = 0.0
    submit_seconds: float = 0.0
    one_call: list[float] = field(default_factory=list)
    peak_memory: int = 0
    traffic: Traffic | None = None

    @property
    def rate(self) -> float:
        """Mapped calls a second."""
        return self.calls / self.seconds


@task
def noop(number: int) -> int:
    """Nothing."""
    return number


def measured_flow(
    make_runner: MakeRunner,
) -> Callable[[Callable[[Mapped], None]], Callable[[], Mapped]]:
    """A decorator: run a function as a flow, and give it the `Mapped` that it fills in."""

    def decorate(function: Callable[[Mapped], None]) -> Callable[[], Mapped]:
        @flow(task_runner=make_runner())
        def measured() -> Mapped:
            mapped = Mapped(UUID(runtime.flow_run.id))
            function(mapped)
            return mapped

        def run() -> Mapped:
            mapped: Mapped = measured()
            mapped.peak_memory = peak_memory()
            return mapped

        return run

    return decorate


def map_noops(
    make_runner: MakeRunner,
    calls: int,
    *,
    single_calls: int = 0,
    warm_up: int = 32,
    cluster: ClusterBlock | None = None,
) -> Mapped:
    """Map a task that does nothing, in a flow of its own.

    Args:
        make_runner: Makes the flow's task runner.
        calls: How many.
        single_calls: How many calls are timed one by one before.
        warm_up: How many calls go before everything, for workers and connections to be there.
        cluster: Whose traffic is of interest.
    """

    @measured_flow(make_runner)
    def measured(mapped: Mapped) -> None:
        noop.map(range(warm_up)).result()
        mapped.one_call = [timed(lambda: noop.submit(0).result()) for _ in range(single_calls)]
        before = traffic(cluster)
        began = time.perf_counter()
        futures = noop.map(range(calls))
        mapped.submit_seconds = time.perf_counter() - began
        values = futures.result()
        mapped.seconds = time.perf_counter() - began
        assert values == list(range(calls))
        after = traffic(cluster)
        if before is not None and after is not None:
            mapped.traffic = difference(after, before)
        mapped.calls = calls
        mapped.task_runs = warm_up + single_calls + calls

    return measured()


def timed(action: Callable[[], Any]) -> float:
    """How long an action takes, in seconds."""
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def at_random_phase(actions: Mapping[str, Callable[[], Any]], times: int) -> dict[str, list[float]]:
    """Time some actions in turn, a number of times, each begun at a random moment.

    A scheduler acts in rounds; what always begins right after one looks slower than it is.

    Returns:
        The seconds of each action, by its name.
    """
    took: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(times):
        for name, action in actions.items():
            time.sleep(random.uniform(0, 1))
            took[name].append(timed(action))
    return took


def traffic(cluster: ClusterBlock | None) -> Traffic | None:
    """What went over this process's connection to a cluster so far."""
    if cluster is None:
        return None
    session = sessions.acquire(cluster)
    try:
        agent = session.agent
        return Traffic(agent.round_trips, agent.bytes_sent, agent.bytes_received)
    finally:
        sessions.release(session)


def difference(after: Traffic, before: Traffic) -> Traffic:
    """What went over between two looks."""
    return Traffic(
        after.round_trips - before.round_trips,
        after.sent - before.sent,
        after.received - before.received,
    )

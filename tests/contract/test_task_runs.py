"""What the API shows of a call: its states, names, tags and what it depends on."""

from __future__ import annotations

import time
from typing import Any
from uuid import UUID

import pytest
from prefect import flow, tags, task
from prefect.client.schemas.objects import TaskRunResult
from prefect.runtime import task_run as runtime_task_run
from prefect.task_runners import TaskRunner

from .api import history, task_run
from .conftest import Cluster

# How far, in seconds, the clocks that a state and a body are timed by may seem apart: the offset
# of a node is known as exactly as a message is quick.
_CLOCKS = 1.0


@task
def make(value: Any) -> list[Any]:
    return [value]


@task(tags=["declared"])
def use(value: Any, other: Any = None) -> Any:
    return value


@task
def span(_: int) -> tuple[float, float]:
    start = time.time()
    time.sleep(0.4)
    return start, time.time()


def test_states_and_times(runner: TaskRunner[Any]) -> None:
    @flow(task_runner=runner)
    def timed() -> tuple[UUID, tuple[float, float]]:
        future = span.submit(0)
        return future.task_run_id, future.result()

    task_run_id, (start, end) = timed()
    states = history(task_run_id)
    shown = [state.name for state in states]
    assert [name for name in shown if name != "Queued"] == ["Pending", "Running", "Completed"]
    assert shown[-2:] == ["Running", "Completed"]
    times = [state.timestamp.timestamp() for state in states]
    assert times == sorted(set(times))
    running, completed = times[-2:]
    assert running <= start + _CLOCKS
    assert start - running < 60
    assert running < end <= completed + _CLOCKS
    found = task_run(task_run_id)
    assert found.start_time is not None
    assert found.end_time is not None
    assert (found.start_time.timestamp(), found.end_time.timestamp()) == (running, completed)
    assert abs(found.total_run_time.total_seconds() - (completed - running)) < 0.01
    assert found.run_count == 1
    assert found.expected_start_time is not None
    assert found.flow_run_run_count == 1


def test_a_call_that_waits_is_not_shown_as_running(cluster: Cluster) -> None:
    @flow(task_runner=cluster.one_by_one())
    def queued() -> list[tuple[UUID, tuple[float, float]]]:
        futures = span.map(range(2))
        return [(future.task_run_id, future.result()) for future in futures]

    (_, first), (waiting, second) = sorted(queued(), key=lambda call: call[1])
    assert second[0] >= first[1], "both ran at once, so nothing waited"
    states = history(waiting)
    [running] = [state for state in states if state.name == "Running"]
    assert running.timestamp.timestamp() >= first[1] - 0.05
    found = task_run(waiting)
    assert found.end_time is not None
    assert found.end_time.timestamp() - found.total_run_time.total_seconds() >= first[1] - 0.05


@pytest.mark.engine
def test_names(runner: TaskRunner[Any]) -> None:
    def called() -> str:
        return f"called for {runtime_task_run.parameters['value']}"

    @flow(task_runner=runner)
    def named() -> list[UUID]:
        futures = [
            use.submit(1),
            use.with_options(task_run_name="use-{value}-{other}").submit(2, "b"),
            use.with_options(task_run_name=called).submit(3),
            use.with_options(name="another").submit(4),
            *use.with_options(task_run_name="mapped-{value}").map([5, 6]),
            use.with_options(task_run_name="resolved-{value}").submit(make.submit(7)),
        ]
        for future in futures:
            future.wait()
        return [future.task_run_id for future in futures]

    plain, *others = [task_run(task_run_id).name for task_run_id in named()]
    assert plain.startswith("use-")
    assert others[2].startswith("another-")
    del others[2]
    assert others == ["use-2-b", "called for 3", "mapped-5", "mapped-6", "resolved-[7]"]


@pytest.mark.engine
def test_tags(runner: TaskRunner[Any]) -> None:
    @flow(task_runner=runner)
    def tagged() -> list[UUID]:
        with tags("around"):
            futures = [use.submit(1), *use.map([2]), use.with_options(tags=["option"]).submit(3)]
        futures.append(use.submit(4))
        for future in futures:
            future.wait()
        return [future.task_run_id for future in futures]

    with tags("outside"):
        ids = tagged()
    assert [set(task_run(task_run_id).tags) for task_run_id in ids] == [
        {"declared", "around", "outside"},
        {"declared", "around", "outside"},
        {"option", "around", "outside"},
        {"declared", "outside"},
    ]


@pytest.mark.engine
def test_each_call_is_a_task_run_of_the_flow_run(runner: TaskRunner[Any]) -> None:
    @flow(task_runner=runner)
    def several() -> tuple[UUID, list[UUID]]:
        futures = [make.submit(0), *make.map([1, 2])]
        for future in futures:
            future.wait()
        from prefect.context import get_run_context

        context: Any = get_run_context()
        return context.flow_run.id, [future.task_run_id for future in futures]

    flow_run_id, ids = several()
    found = [task_run(task_run_id) for task_run_id in ids]
    assert {each.flow_run_id for each in found} == {flow_run_id}
    assert {each.task_key for each in found} == {make.task_key}
    assert len({each.dynamic_key for each in found}) == 3


@pytest.mark.engine
def test_dependencies_are_recorded(runner: TaskRunner[Any]) -> None:
    @flow(task_runner=runner)
    def dependent() -> dict[str, UUID]:
        one, two = make.submit(1), make.submit(2)
        futures = {
            "one": one,
            "two": two,
            "parameter": use.submit(one),
            "nested": use.submit({"k": [one, two]}, other=5),
            "wait_for": use.submit(1, wait_for=[one]),
            "result": use.submit(one.result()),
            "mapped": use.map(two)[0],
            "mapped list": use.map([one, 5], wait_for=[two])[0],
        }
        for future in futures.values():
            future.wait()
        return {label: future.task_run_id for label, future in futures.items()}

    ids = dependent()
    one, two = TaskRunResult(id=ids["one"]), TaskRunResult(id=ids["two"])

    def inputs(label: str) -> dict[str, set[TaskRunResult]]:
        # Prefect calls the run that a parameter comes from a parent, too, if
        # that still runs when this one is made: who is quicker decides it.
        found = {k: v for k, v in task_run(ids[label]).task_inputs.items() if k != "__parents__"}
        return {name: set(sources) for name, sources in found.items() if sources}  # type: ignore[arg-type]

    assert inputs("one") == {}
    assert inputs("parameter") == {"value": {one}}
    assert inputs("nested") == {"value": {one, two}}
    assert inputs("wait_for") == {"wait_for": {one}}
    assert inputs("result") == {"value": {one}}
    assert inputs("mapped") == {"value": {two}}
    assert inputs("mapped list") == {"value": {one}, "wait_for": {two}}

"""Caching and results: a cached call is not run, and results are stored as asked."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect import flow, task
from prefect.cache_policies import INPUTS, NO_CACHE, TASK_SOURCE
from prefect.context import TaskRunContext
from prefect.filesystems import LocalFileSystem
from prefect.futures import PrefectFuture
from prefect.results import ResultRecord
from prefect.task_runners import TaskRunner
from prefect.tasks import Task

from .api import history

pytestmark = pytest.mark.engine


def unique(seed: Any) -> str:
    """Different each time that it is executed."""
    return f"{seed} {uuid4()}"


@task(persist_result=True)
def by_default(seed: Any) -> str:
    return unique(seed)


@task(persist_result=True, cache_policy=INPUTS)
def by_inputs(seed: Any) -> str:
    return unique(seed)


@task(persist_result=True, cache_policy=INPUTS)
async def by_inputs_later(seed: Any) -> str:
    return unique(seed)


@task(persist_result=True, cache_policy=TASK_SOURCE)
def by_source(seed: Any) -> str:
    return unique(seed)


@task(persist_result=True, cache_policy=NO_CACHE)
def never(seed: Any) -> str:
    return unique(seed)


@task
def not_persisted(seed: Any) -> str:
    return unique(seed)


@task(persist_result=True)
def table(rows: int) -> dict[str, list[int]]:
    return {"rows": list(range(rows))}


Outcome = tuple[str, str | None]


def stored_in(directory: Path) -> LocalFileSystem:
    storage = LocalFileSystem(basepath=str(directory))
    storage.save(f"contract-{uuid4()}")
    return storage


def outcome(future: PrefectFuture[Any]) -> Outcome:
    return future.result(), future.state.name


def twice(runner: TaskRunner[Any], task: Task[Any, Any], *seeds: Any) -> list[Outcome]:
    """Call it for one seed after another, in two runs of a flow."""

    @flow(task_runner=runner)
    def calling(seed: Any) -> Outcome:
        return outcome(task.submit(seed))

    return [calling(seed) for seed in seeds]


@pytest.mark.parametrize("task", [by_inputs, by_inputs_later], ids=["sync", "async"])
def test_equal_inputs(runner: TaskRunner[Any], task: Task[Any, Any]) -> None:
    seed = str(uuid4())
    first, second, other = twice(runner, task, seed, seed, "other" + seed)
    assert first[1] == "Completed"
    assert second == (first[0], "Cached")
    assert other[1] == "Completed"
    assert other[0] != first[0]


def test_equal_source(runner: TaskRunner[Any], tmp_path: Path) -> None:
    """Whatever the inputs are; the store is this test's own, so that the first call runs."""
    first, second = twice(runner, by_source.with_options(result_storage=stored_in(tmp_path)), 1, 2)
    assert first[1] == "Completed"
    assert second == (first[0], "Cached")


def test_within_one_flow_run(runner: TaskRunner[Any]) -> None:
    """Prefect's default policy: equal inputs, equal source, the same flow run."""

    @flow(task_runner=runner)
    def repeating() -> list[Outcome]:
        calls = [by_default, by_default, never, never, not_persisted, not_persisted]
        return [outcome(task.submit("same")) for task in calls]

    first, second, *others = repeating()
    assert second == (first[0], "Cached")
    assert len({first[0], *(result for result, _ in others)}) == 5
    assert {name for _, name in others} == {"Completed"}
    again = repeating()
    assert again[0][1] == "Completed"


def test_a_key_of_ones_own(runner: TaskRunner[Any]) -> None:
    run = str(uuid4())
    asked: list[tuple[Any, ...]] = []

    def parity(context: TaskRunContext, inputs: dict[str, Any]) -> str:
        asked.append((context.task.name, inputs["seed"], os.getpid()))
        return f"{run}-{inputs['seed'] % 2}"

    first, second, third = twice(runner, by_inputs.with_options(cache_key_fn=parity), 1, 2, 3)
    assert third == (first[0], "Cached")
    assert second[1] == "Completed"
    assert asked == [("by_inputs", seed, os.getpid()) for seed in (1, 2, 3)]


def test_expiration(runner: TaskRunner[Any]) -> None:
    seed = str(uuid4())
    brief = by_inputs.with_options(cache_expiration=timedelta(seconds=2))

    @flow(task_runner=runner)
    def expiring() -> list[Outcome]:
        fresh = [outcome(brief.submit(seed)) for _ in range(2)]
        time.sleep(2)
        return [*fresh, outcome(brief.submit(seed))]

    first, second, third = expiring()
    assert second == (first[0], "Cached")
    assert third[1] == "Completed"
    assert third[0] != first[0]


def test_refreshing(runner: TaskRunner[Any]) -> None:
    seed = str(uuid4())
    [first] = twice(runner, by_inputs, seed)
    [second] = twice(runner, by_inputs.with_options(refresh_cache=True), seed)
    [third] = twice(runner, by_inputs, seed)
    assert second[1] == "Completed"
    assert second[0] != first[0]
    assert third == (second[0], "Cached")


def test_what_the_api_shows_of_a_cached_call(runner: TaskRunner[Any]) -> None:
    seed = str(uuid4())

    @flow(task_runner=runner)
    def cached() -> UUID:
        by_inputs.submit(seed).wait()
        future = by_inputs.submit(seed)
        future.wait()
        return future.task_run_id

    states = history(cached(), "Cached")
    assert [state.type.value for state in states] == ["PENDING", "RUNNING", "COMPLETED"]


@pytest.mark.parametrize("serializer", ["json", "pickle", "compressed/json"])
def test_results_are_stored_as_asked(
    runner: TaskRunner[Any], tmp_path: Path, serializer: str
) -> None:
    storing = table.with_options(
        result_serializer=serializer,
        result_storage=stored_in(tmp_path),
        result_storage_key="table-{parameters[rows]}",
    )

    @flow(task_runner=runner)
    def store() -> Sequence[Any]:
        future = storing.submit(3)
        assert future.result() == {"rows": [0, 1, 2]}
        data = future.state.data
        assert isinstance(data, ResultRecord)
        return data.metadata.serializer.type, data.metadata.storage_key

    kind, key = store()
    assert kind == serializer
    assert Path(key).name == "table-3"
    record = json.loads((tmp_path / "table-3").read_text())
    assert record["metadata"]["serializer"]["type"] == serializer
    assert (record["result"] == '{"rows": [0, 1, 2]}') == (serializer == "json")

"""`resources(...)`: accepted wherever calls are made, refused at once where wrong."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any

import pytest
from prefect import flow, task
from prefect.task_runners import TaskRunner

from clustrix_prefect import resources
from clustrix_prefect.errors import InvalidResources
from clustrix_prefect.task_resources import Resources, current_resources


@task
def cores(_: int = 0) -> int:
    return int(os.environ.get("SLURM_CPUS_ON_NODE", 0))


@task
@resources(cores=3)
def three_cores() -> int:
    return int(os.environ.get("SLURM_CPUS_ON_NODE", 0))


@resources(cores=5)
@task
def five_cores() -> int:
    return int(os.environ.get("SLURM_CPUS_ON_NODE", 0))


def counted(function: Callable[[], int]) -> Callable[[], int]:
    @functools.wraps(function)
    def count() -> int:
        return function()

    return count


@task
@counted
@resources(cores=6)
def six_cores() -> int:
    return int(os.environ.get("SLURM_CPUS_ON_NODE", 0))


def test_around_and_under(runner: TaskRunner[Any]) -> None:
    """The results do not depend on it, on any cluster."""

    @flow(task_runner=runner)
    def resourceful() -> list[int]:
        with resources(cores=2, memory="300MB", time="00:10:00"):
            futures = [cores.submit(), *cores.map(range(2)), three_cores.submit()]
        return [future.result() for future in futures]

    assert len(resourceful()) == 4


@pytest.mark.only_on("slurm")
def test_the_job_gets_them(runner: TaskRunner[Any]) -> None:
    @flow(task_runner=runner)
    def nested() -> dict[str, Any]:
        futures: dict[str, Any] = {
            "default": cores.submit(),
            "declared": three_cores.submit(),
            "declared over the task": five_cores.submit(),
            "of a task with other options": five_cores.with_options(name="five").submit(),
            "under another decorator": six_cores.submit(),
        }
        with resources(cores=2):
            futures["around"] = cores.submit()
            with resources(cores=4):
                futures["innermost"] = cores.submit()
                futures["over the declared"] = three_cores.submit()
            futures["mapped"] = cores.map(range(2))
        futures["after"] = cores.submit()
        return {label: future.result() for label, future in futures.items()}

    assert nested() == {
        "default": 1,
        "declared": 3,
        "declared over the task": 5,
        "of a task with other options": 5,
        "under another decorator": 6,
        "around": 2,
        "innermost": 4,
        "over the declared": 4,
        "mapped": [2, 2],
        "after": 1,
    }


@pytest.mark.parametrize(
    "wrong",
    [
        {"cores": 0},
        {"cores": "four"},
        {"memory": "lots"},
        {"time": "soon"},
        {"gpus": -1},
        {"partition": "two\nlines"},
        {"speed": 11},
    ],
    ids=str,
)
def test_wrong_values_are_refused_at_once(wrong: dict[str, Any]) -> None:
    [name] = wrong
    with pytest.raises(InvalidResources, match=name) as caught, resources(**wrong):
        pytest.fail("entered")
    assert caught.value.remedy
    with pytest.raises(InvalidResources, match=name):
        resources(**wrong)(cores.fn)


def test_decorators_add_up() -> None:
    @resources(memory="2GB")
    @task
    @resources(cores=3, memory="1GB")
    def declared() -> None: ...

    found = current_resources(declared, Resources.of(time=60))
    assert found == Resources.of(cores=3, memory="2GB", time=60)


def test_a_flow_has_none() -> None:
    @flow
    def whole() -> None: ...

    with pytest.raises(InvalidResources, match="flow 'whole'"):
        resources(cores=2)(whole)

"""Failures: they arrive as what they were, and stop what depends on them."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any

import pytest
from prefect import allow_failure, flow, task
from prefect.exceptions import FailedRun, UnfinishedRun
from prefect.states import Completed, Failed, State
from prefect.task_runners import TaskRunner

from .api import task_run


class Overheated(Exception):
    """An exception that only this module has."""


class Coded(Exception):
    """Its arguments are not those of its constructor, so unpickling it as usual fails."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{reason} ({code})")
        self.code = code


def divide_by(divisor: int) -> float:
    return 1 / divisor


@task
def fail_deep() -> float:
    return divide_by(0)


@task
async def fail_later() -> None:
    raise LookupError("nowhere", 4)


@task
def overheat() -> None:
    raise Overheated("99 degrees")


@task
def fail_coded() -> None:
    raise Coded(7, "out of paper")


@task
def fail_for_a_reason() -> None:
    try:
        raise KeyError("root")
    except KeyError as error:
        raise RuntimeError("branch") from error


@task
def fail_with_details() -> None:
    error = OSError(28, "No space left on device", "/data")
    error.rank = 3  # type: ignore[attr-defined]
    raise error


@task
def give_up() -> State[Any]:
    return Failed(message="no luck")


@task
def finish_by_name() -> State[Any]:
    return Completed(message="enough", name="Enough", data=5)


@task
def leave_a_mark(directory: str, *_: Any) -> str:
    Path(directory, "mark").touch()
    return "marked"


@task
def name_of(value: Any) -> str:
    return f"{type(value).__name__}: {value}"


def failures_of(runner: TaskRunner[Any], *tasks: Any) -> list[tuple[BaseException, State[Any]]]:
    @flow(task_runner=runner)
    def failing() -> list[tuple[BaseException, State[Any]]]:
        found = []
        for future in [each.submit() for each in tasks]:
            with pytest.raises(Exception) as caught:
                future.result()
            assert future.result(raise_on_failure=False) is caught.value
            found.append((caught.value, future.state))
        return found

    return failing()


def test_exceptions_are_what_they_were(runner: TaskRunner[Any]) -> None:
    (lookup, _), (overheated, _), (coded, _), (detailed, _) = failures_of(
        runner, fail_later, overheat, fail_coded, fail_with_details
    )
    assert (type(lookup), lookup.args) == (LookupError, ("nowhere", 4))
    assert (type(overheated), str(overheated)) == (Overheated, "99 degrees")
    assert (type(coded), str(coded), coded.code) == (Coded, "out of paper (7)", 7)  # type: ignore[attr-defined]
    assert isinstance(detailed, OSError)
    assert (detailed.errno, detailed.filename) == (28, "/data")
    assert detailed.rank == 3  # type: ignore[attr-defined]


@pytest.mark.engine
def test_causes_travel(runner: TaskRunner[Any]) -> None:
    [(branch, _)] = failures_of(runner, fail_for_a_reason)
    assert (type(branch), str(branch)) == (RuntimeError, "branch")
    assert isinstance(branch.__cause__, KeyError)
    assert branch.__cause__.args == ("root",)


def test_the_traceback_is_the_far_sides(runner: TaskRunner[Any]) -> None:
    [(error, _)] = failures_of(runner, fail_deep)
    text = "".join(traceback.format_exception(error))
    assert "ZeroDivisionError: division by zero" in text
    for frame in ("in fail_deep", "in divide_by", Path(__file__).name, "return 1 / divisor"):
        assert frame in text
    assert "clustrix_prefect/" not in text, "what leads to it is of no use to anybody"


@pytest.mark.engine
def test_failed_states(runner: TaskRunner[Any]) -> None:
    [(error, state)] = failures_of(runner, fail_deep)
    assert state.is_failed()
    assert state.name == "Failed"
    assert "ZeroDivisionError: division by zero" in str(state.message)
    assert state.result(raise_on_failure=False) is error
    assert state.state_details.task_run_id is not None
    recorded = task_run(state.state_details.task_run_id, "Failed")
    assert recorded.state is not None
    assert recorded.state.message == state.message


@pytest.mark.engine
def test_states_as_return_values(runner: TaskRunner[Any]) -> None:
    @flow(task_runner=runner)
    def returned() -> tuple[State[Any], State[Any], Any]:
        failed, completed = give_up.submit(), finish_by_name.submit()
        with pytest.raises(FailedRun, match="no luck"):
            failed.result()
        data = completed.result()
        return failed.state, completed.state, data

    failed, completed, data = returned()
    assert (failed.is_failed(), failed.message) == (True, "no luck")
    assert (completed.is_completed(), completed.name, data) == (True, "Enough", 5)
    assert completed.message == "enough"


@pytest.mark.engine
def test_downstream_of_a_failure_is_not_ready(runner: TaskRunner[Any], far_dir: str) -> None:
    @flow(task_runner=runner)
    def downstream() -> list[State[Any]]:
        broken = overheat.submit()
        waiting = [
            leave_a_mark.submit(far_dir, broken),
            leave_a_mark.submit(far_dir, [{"nested": broken}]),
            leave_a_mark.submit(far_dir, wait_for=[broken]),
        ]
        waiting.append(name_of.submit(waiting[0]))
        for future in waiting:
            future.wait()
            with pytest.raises(UnfinishedRun):
                future.result()
            assert task_run(future.task_run_id, "NotReady").run_count == 0
        return [future.state for future in waiting]

    for state in downstream():
        assert state.is_pending()
        assert state.name == "NotReady"
        assert "did not reach a 'COMPLETED' state" in str(state.message)
    assert not list(Path(far_dir).iterdir())


@pytest.mark.engine
def test_allowed_failures(runner: TaskRunner[Any], far_dir: str) -> None:
    @flow(task_runner=runner)
    def tolerant() -> list[str]:
        broken = overheat.submit()
        futures = [
            name_of.submit(allow_failure(broken)),
            leave_a_mark.submit(far_dir, wait_for=[allow_failure(broken)]),
        ]
        return [future.result() for future in futures]

    assert tolerant() == ["Overheated: 99 degrees", "marked"]
    assert [path.name for path in Path(far_dir).iterdir()] == ["mark"]


@pytest.mark.engine
def test_a_flow_fails_with_its_task(runner: TaskRunner[Any]) -> None:
    @flow(task_runner=runner)
    def unlucky() -> None:
        overheat.submit().result()

    with pytest.raises(Overheated, match="99 degrees"):
        unlucky()
    state = unlucky(return_state=True)
    assert state.is_failed()
    assert isinstance(state.result(raise_on_failure=False), Overheated)

"""What the Prefect API shows of a run, which is what a user sees of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId, LogFilterTaskRunId
from prefect.client.schemas.objects import Log, State, TaskRun
from prefect.client.schemas.sorting import LogSort
from prefect.exceptions import ObjectNotFound

T = TypeVar("T")

# A run's states are all there when so many reads, 50 ms apart, find no more of them.
_SETTLED_READS = 10


def eventually(
    read: Callable[[SyncPrefectClient], T], holds: Callable[[T], bool], within: float = 60.0
) -> T:
    """Read until it holds: states and logs reach the API a moment after they happened."""
    deadline = time.monotonic() + within
    with get_client(sync_client=True) as client:
        while not holds(value := read(client)):
            assert time.monotonic() < deadline, f"after {within} s still {value!r}"
            time.sleep(0.05)
    return value


def task_run_that(
    task_run_id: UUID, holds: Callable[[TaskRun], bool], within: float = 60.0
) -> TaskRun:
    """The task run, once the server has it and this holds of it."""

    def read(client: SyncPrefectClient) -> TaskRun | None:
        try:
            return client.read_task_run(task_run_id)
        except ObjectNotFound:
            return None

    found = eventually(read, lambda found: found is not None and holds(found), within)
    assert found is not None
    return found


def task_run(task_run_id: UUID, state: str | None = None) -> TaskRun:
    """The task run, once it is in the named state (or in any final one)."""

    def arrived(found: TaskRun) -> bool:
        if found.state is None:
            return False
        return found.state.name == state if state else found.state.is_final()

    return task_run_that(task_run_id, arrived)


def history(task_run_id: UUID, last: str = "Completed") -> list[State]:
    """Every state of the task run in order of time, once the named one is the last.

    The server records two at a time, so the last may be there before the one before it.
    """
    counts: list[int] = []

    def read(client: SyncPrefectClient) -> list[State]:
        states = client.read_task_run_states(task_run_id)
        return sorted(states, key=lambda state: state.timestamp)

    def complete(states: list[State]) -> bool:
        counts.append(len(states) if states and states[-1].name == last else 0)
        recent = counts[-_SETTLED_READS:]
        return len(recent) == _SETTLED_READS and len(set(recent)) == 1 and recent[0] > 0

    return eventually(read, complete)


def logs(task_run_id: UUID, until: str) -> list[Log]:
    """The task run's log lines in order of time, once one contains the text."""
    return _logs(LogFilter(task_run_id=LogFilterTaskRunId(any_=[task_run_id])), until)


def flow_run_logs(flow_run_id: UUID, until: str) -> list[Log]:
    """The log lines of the flow run and of its tasks, once one contains the text."""
    return _logs(LogFilter(flow_run_id=LogFilterFlowRunId(any_=[flow_run_id])), until)


def _logs(which: LogFilter, until: str) -> list[Log]:
    def read(client: SyncPrefectClient) -> list[Log]:
        return client.read_logs(which, limit=200, offset=0, sort=LogSort.TIMESTAMP_ASC)

    return eventually(read, lambda lines: any(until in line.message for line in lines))


def queued(task_run_id: UUID, reason: str) -> State:
    """The run's state once it is `Queued` for this reason."""

    def waits(found: TaskRun) -> bool:
        state = found.state
        return state is not None and state.name == "Queued" and reason in str(state.message)

    state = task_run_that(task_run_id, waits).state
    assert state is not None
    return state

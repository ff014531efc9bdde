"""What the Prefect API shows of flow runs whose process is another."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import State, TaskRun
from prefect.client.schemas.sorting import TaskRunSort

from tests.contract.api import eventually


def flow_run_state(flow_run_id: UUID) -> State:
    """A flow run's state, once it is a final one."""
    state = eventually(
        lambda client: client.read_flow_run(flow_run_id).state,
        lambda state: state is not None and state.is_final(),
    )
    assert state is not None
    return state


def ended_task_runs(flow_run_id: UUID, count: int) -> list[TaskRun]:
    """All of a flow run's task runs, once there are so many, each in a final state."""
    return _task_runs(flow_run_id, count, State.is_final)


def running_task_runs(flow_run_id: UUID, count: int) -> list[TaskRun]:
    """All of a flow run's task runs, once there are so many, and each is shown as running."""
    return _task_runs(flow_run_id, count, State.is_running)


def _task_runs(flow_run_id: UUID, count: int, wanted: Callable[[State], bool]) -> list[TaskRun]:
    of_flow_run = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id]))

    def read(client: SyncPrefectClient) -> list[TaskRun]:
        order = TaskRunSort.EXPECTED_START_TIME_ASC
        return client.read_task_runs(flow_run_filter=of_flow_run, limit=200, offset=0, sort=order)

    return eventually(
        read,
        lambda runs: (
            len(runs) == count and all(run.state is not None and wanted(run.state) for run in runs)
        ),
    )

"""Many calls in one flow process: none is lost on the way to the API, and memory stays small."""

from __future__ import annotations

import time
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import TERMINAL_STATES

from clustrix_prefect import ClusterTaskRunner, LocalCluster
from clustrix_prefect.dispatch import pacing
from tests.bench.apart import apart
from tests.bench.flows import map_noops

# Their states are more events than are sent ahead; 10,000 calls take minutes: `make bench`.
CALLS = 3_000
EVENTS_PER_CALL = 3


def _count(flow_run_id: UUID, *state_types: str) -> int:
    task_runs: dict[str, Any] = {"flow_run_id": {"any_": [str(flow_run_id)]}}
    if state_types:
        task_runs["state"] = {"type": {"any_": list(state_types)}}
    with get_client(sync_client=True) as client:
        answer = client.request("POST", "/task_runs/count", json={"task_runs": task_runs})
        return int(answer.json())


@pytest.mark.every
@pytest.mark.usefixtures("prefect_server")
def test_every_task_run_of_a_large_map_ends_in_the_api(tmp_path):
    assert CALLS * EVENTS_PER_CALL > pacing._AHEAD, "nothing would be paced"
    cluster = LocalCluster(remote_work_dir=str(tmp_path / "work"))

    mapped = apart(
        tmp_path / "log", map_noops, partial(ClusterTaskRunner, cluster), CALLS, warm_up=0
    )

    assert mapped.peak_memory < 1.5 * 2**30
    final = [state.value for state in TERMINAL_STATES]
    deadline = time.monotonic() + 300
    while (ended := _count(mapped.flow_run_id, *final)) < CALLS:
        assert time.monotonic() < deadline, f"{ended} of {CALLS} task runs ended"
        time.sleep(1)
    assert _count(mapped.flow_run_id, "COMPLETED") == CALLS
    assert _count(mapped.flow_run_id) == CALLS

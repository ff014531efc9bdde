"""A flow of short calls, some of which depend on others or are tried again, that can go on.

Usage: python -m tests.dispatch.counting_flow CLUSTER DIRECTORY CALLS PERSISTED [FLOW_RUN_ID]
"""

from __future__ import annotations

import os
import sys
import time
from uuid import UUID

from prefect import flow, runtime, task
from prefect.client.orchestration import get_client
from prefect.flow_engine import run_flow

from clustrix_prefect import ClusterTaskRunner
from tests.dispatch.flow_process import ANNOUNCED
from tests.dispatch.marks import mark

SUCCESS = "Every number is right."


@task
def count(directory: str, n: int) -> int:
    mark(directory, f"count-{n}")
    time.sleep(0.2)
    return n


@task(retries=1)
def count_the_second_time(directory: str, n: int) -> int:
    attempt = mark(directory, f"again-{n}")
    if attempt == 1:
        raise ValueError("the first time")
    return n


def main(
    cluster: str, directory: str, calls: str, persisted: str, flow_run_id: str | None = None
) -> None:
    """Run the flow: anew, or under the id of an earlier run."""

    @flow(task_runner=ClusterTaskRunner(cluster), persist_result=bool(persisted))
    def counting_flow() -> None:
        print(f"{ANNOUNCED}{runtime.flow_run.id}", flush=True)
        third = int(calls) // 3
        first = count.map(directory, range(third))
        second = count.map(directory, [third + n for n in range(third)], wait_for=first[:1])
        tried = count_the_second_time.map(directory, range(int(calls) - 2 * third))
        found = [future.result() for future in (*first, *second, *tried)]
        assert found == [*range(2 * third), *range(len(tried))], found
        # Those whose results are here may all have to be found again.
        while not os.path.exists(os.path.join(directory, "gates", "end")):
            time.sleep(0.1)
        print(SUCCESS, flush=True)

    if flow_run_id is None:
        counting_flow()
        return
    with get_client(sync_client=True) as client:
        flow_run = client.read_flow_run(UUID(flow_run_id))
    run_flow(counting_flow, flow_run=flow_run)


if __name__ == "__main__":
    main(*sys.argv[1:])

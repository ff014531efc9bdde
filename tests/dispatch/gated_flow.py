"""A flow whose calls wait for a file, and that can be run again.

Usage: python -m tests.dispatch.gated_flow CLUSTER DIRECTORY CALLS [FLOW_RUN_ID]
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any
from uuid import UUID

from prefect import flow, runtime, task
from prefect.client.orchestration import get_client
from prefect.flow_engine import run_flow

from clustrix_prefect import ClusterTaskRunner
from tests.dispatch.flow_process import ANNOUNCED
from tests.dispatch.marks import mark

# The variable that names the block with its secret.
SIGNING_SECRET = "TEST_SIGNING_SECRET"
SUCCESS = "All results are right."


@task
def pass_gate(directory: str, name: str, gate: str, things: set[Any]) -> tuple[str, int]:
    """Comes to its end once the gate is open."""
    mark(directory, name)
    while not os.path.exists(os.path.join(directory, gate)):
        time.sleep(0.1)
    return name, len(things)


def main(cluster: str, directory: str, calls: int, flow_run_id: str | None = None) -> None:
    """Run the flow: anew, or under the id of an earlier run."""

    runner = ClusterTaskRunner(cluster, signing_secret=os.environ.get(SIGNING_SECRET))

    @flow(task_runner=runner)
    def gated_flow() -> None:
        print(f"{ANNOUNCED}{runtime.flow_run.id}", flush=True)
        futures = [
            pass_gate.submit(
                directory,
                f"call-{n}",
                os.path.join("gates", "early" if n % 3 == 0 else "late"),
                # Sets of text come in another order in each process.
                {"one", "two", frozenset({"three", "four", n}), ("five", frozenset({"six"}))},
            )
            for n in range(calls)
        ]
        results = [future.result() for future in futures]
        assert results == [(f"call-{n}", 4) for n in range(calls)], results
        print(SUCCESS, flush=True)

    if flow_run_id is None:
        gated_flow()
        return
    with get_client(sync_client=True) as client:
        flow_run = client.read_flow_run(UUID(flow_run_id))
    run_flow(gated_flow, flow_run=flow_run)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), *sys.argv[4:])

"""A flow whose calls take long.

Usage: python -m tests.dispatch.long_flow CLUSTER DIRECTORY CALLS [raise | timeout]
"""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path

from prefect import flow, runtime, task

from clustrix_prefect import ClusterTaskRunner
from tests.dispatch.flow_process import ANNOUNCED
from tests.dispatch.marks import mark, wait_for_marks


@task
def hang(directory: str, name: str, deaf: bool) -> None:
    """Runs on for minutes, and if it is deaf, also when it is asked to end."""
    if deaf:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    mark(directory, name)
    end = time.time() + 120
    while time.time() < end:
        time.sleep(1)


def main(cluster: str, directory: str, calls: int, how: str = "") -> None:
    """Run the flow."""

    @flow(task_runner=ClusterTaskRunner(cluster), timeout_seconds=6 if how == "timeout" else None)
    def long_flow() -> None:
        print(f"{ANNOUNCED}{runtime.flow_run.id}", flush=True)
        futures = [hang.submit(directory, f"call-{n}", deaf=n == 0) for n in range(calls)]
        if how == "raise":
            wait_for_marks(Path(directory), calls)
            raise RuntimeError("the flow's own")
        for future in futures:
            future.result()

    long_flow()


if __name__ == "__main__":
    # What a script's shell starts in the background ignores Ctrl-C, and so would all it starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), *sys.argv[4:])

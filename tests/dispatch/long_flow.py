"""A flow whose calls take long, run as a user does, in a process of its own.

Usage: python -m tests.dispatch.long_flow CLUSTER DIRECTORY CALLS [raise | timeout]
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from uuid import UUID

from prefect import flow, runtime, task

from clustrix_prefect import ClusterTaskRunner
from clustrix_prefect.clusters.cluster import ClusterBlock
from tests.dispatch.marks import mark, wait_for_marks

_ANNOUNCED = "The flow run's id is "


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
        print(f"{_ANNOUNCED}{runtime.flow_run.id}", flush=True)
        futures = [hang.submit(directory, f"call-{n}", deaf=n == 0) for n in range(calls)]
        if how == "raise":
            wait_for_marks(Path(directory), calls)
            raise RuntimeError("the flow's own")
        for future in futures:
            future.result()

    long_flow()


class LongFlow:
    """The flow above, under way in a process of its own, all of its calls running.

    Attributes:
        process: The process.
        flow_run_id: Its flow run.
    """

    def __init__(
        self, cluster: ClusterBlock, directory: Path, log: Path, calls: int, how: str = ""
    ) -> None:
        name = f"{type(cluster).__name__.lower()}-{os.getpid()}"
        cluster.model_copy().save(name, overwrite=True)
        block = f"{cluster.get_block_type_slug()}/{name}"
        arguments = [block, str(directory), str(calls), *([how] if how else [])]
        self._log = log
        with log.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", __name__, *arguments],
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            wait_for_marks(directory, calls)
        except BaseException:
            self.process.kill()
            print(self.output())
            raise
        self.flow_run_id = UUID(self.output().partition(_ANNOUNCED)[2].split()[0])

    def output(self) -> str:
        """What it wrote so far."""
        return self._log.read_text()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), *sys.argv[4:])

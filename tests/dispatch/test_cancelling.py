"""However a flow run ends early, its jobs end with it, and the API shows every end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import TaskRun
from prefect.states import Cancelled, Cancelling, State

from clustrix_prefect.clusters.cluster import ClusterBlock
from tests.contract.api import eventually
from tests.dispatch import long_flow
from tests.dispatch.marks import wait_for_marks
from tests.live.slurm import Slurm
from tests.live.ssh_host import SSHHost

pytestmark = pytest.mark.usefixtures("quick_prefect")

CALLS = 3
GONE_WITHIN = 10.0


class FlowProcess:
    """`python long_flow.py`, under way.

    Attributes:
        flow_run_id: Its flow run.
    """

    def __init__(self, cluster: ClusterBlock, directory: Path, log: Path, how: str = "") -> None:
        name = f"{type(cluster).__name__.lower()}-{os.getpid()}"
        block = cluster.copy()
        block.save(name, overwrite=True)
        arguments = [block.get_block_type_slug() + "/" + name, str(directory), str(CALLS), how]
        with log.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", long_flow.__name__, *filter(None, arguments)],
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self._log = log
        wait_for_marks(directory, CALLS)
        self.flow_run_id = UUID(log.read_text().partition("id of the flow run: ")[2].split()[0])

    def output(self) -> str:
        """What it wrote so far."""
        return self._log.read_text()


def flow_run_state(flow_run_id: UUID) -> State | None:
    return eventually(
        lambda client: client.read_flow_run(flow_run_id).state,
        lambda state: state is not None and state.is_final(),
    )


def task_runs(flow_run_id: UUID) -> list[TaskRun]:
    """All of a flow run's task runs, once they are in final states."""
    of_flow_run = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id]))
    return eventually(
        lambda client: client.read_task_runs(flow_run_filter=of_flow_run),
        lambda runs: all(run.state is not None and run.state.is_final() for run in runs),
    )

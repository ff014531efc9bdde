"""However a flow run ends early, its jobs end with it, and the API shows every end."""

from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from prefect.client.orchestration import get_client
from prefect.states import Cancelled, Cancelling, State

from clustrix_prefect.clusters.cluster import ClusterBlock
from tests.dispatch import long_flow
from tests.dispatch.api import ended_task_runs, flow_run_state, running_task_runs
from tests.dispatch.flow_process import FlowProcess
from tests.dispatch.marks import wait_for_marks
from tests.live.slurm import Slurm

pytestmark = pytest.mark.usefixtures("quick_prefect")

CALLS = 3
# From the wish to the last job's end, one of the bodies being deaf to SIGTERM; SLURM, left to
# itself, would kill it after 30 s more.
WITHIN = 30.0


def ask_the_api(state: State) -> Callable[[FlowProcess], None]:
    def ask(flow_process: FlowProcess) -> None:
        with get_client(sync_client=True) as client:
            client.set_flow_run_state(flow_process.flow_run_id, state)

    return ask


def send(number: signal.Signals) -> Callable[[FlowProcess], None]:
    return lambda flow_process: flow_process.process.send_signal(number)


def wait_for_timeout(flow_process: FlowProcess) -> None:
    while "exceeded timeout" not in flow_process.output:
        time.sleep(0.05)


ENDS = {
    # What the UI does to a flow run that runs; and what the command line and scripts do.
    "cancelling": (ask_the_api(Cancelling()), "Cancelled"),
    "cancelled": (ask_the_api(Cancelled()), "Cancelled"),
    "ctrl-c": (send(signal.SIGINT), "Crashed"),
    "sigterm": (send(signal.SIGTERM), "Crashed"),
    "raise": (lambda _: None, "Failed"),
    "timeout": (wait_for_timeout, "TimedOut"),
}


def processes(directory: Path) -> set[int]:
    """The processes of the bodies that marked this directory and are still there."""
    pids = {json.loads(path.read_text())["pid"] for path in directory.iterdir()}
    return {pid for pid in pids if Path(f"/proc/{pid}").exists()}


every = pytest.mark.every


@pytest.mark.parametrize(
    ("where", "how"),
    [
        *(("on_slurm", how) for how in ("cancelled", "ctrl-c")),
        ("over_ssh", "sigterm"),
        *(("local", how) for how in ("raise", "timeout")),
        *(
            pytest.param("on_slurm", how, marks=every)
            for how in ("cancelling", "sigterm", "raise", "timeout")
        ),
        *(
            pytest.param("over_ssh", how, marks=every)
            for how in ("cancelling", "ctrl-c", "timeout")
        ),
        *(pytest.param("local", how, marks=every) for how in ("cancelled", "sigterm")),
    ],
)
def test_nothing_is_left(
    where: str,
    how: str,
    request: pytest.FixtureRequest,
    far_dir: Path,
    tmp_path: Path,
) -> None:
    cluster: ClusterBlock = request.getfixturevalue(where)
    slurm: Slurm | None = request.getfixturevalue("slurm") if where == "on_slurm" else None
    end, final_state = ENDS[how]
    own = how if how in ("raise", "timeout") else ""
    flow_process = FlowProcess(long_flow, cluster, tmp_path / "log", far_dir, CALLS, own)
    try:
        wait_for_marks(far_dir, CALLS)
        if not own:
            running_task_runs(flow_process.flow_run_id, CALLS)
        end(flow_process)
        deadline = time.monotonic() + WITHIN
        while any(left := (processes(far_dir), slurm.queue() if slurm else [])):
            assert time.monotonic() < deadline, left
            time.sleep(0.1)
        flow_process.process.wait(60)
        assert flow_run_state(flow_process.flow_run_id).name == final_state
        for run in ended_task_runs(flow_process.flow_run_id, CALLS):
            assert run.state is not None
            assert run.state.is_cancelled()
        # For all of them, as there may be thousands.
        ends = re.findall("Task run .*Finished in state Cancelled", flow_process.output)
        assert len(ends) == 1, ends
    finally:
        flow_process.process.kill()
        print(flow_process.output)
        if slurm:
            slurm.cancel_all_jobs()

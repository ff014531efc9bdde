"""A flow's process is killed at any moment, and the flow run goes on: nothing runs twice.

CLUSTRIX_TEST_KILLS=20 kills so often on each cluster; without it, once.
"""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest

from clustrix_prefect.clusters.cluster import ClusterBlock
from tests.contract.api import eventually
from tests.dispatch import counting_flow
from tests.dispatch.api import flow_run_state
from tests.dispatch.flow_process import FlowProcess
from tests.dispatch.marks import marks
from tests.live.daemon import wait_until
from tests.live.slurm import Slurm

pytestmark = pytest.mark.usefixtures("quick_prefect")

_KILLS = int(os.environ.get("CLUSTRIX_TEST_KILLS", "1"))
_CALLS = 60 if _KILLS > 1 else 24
# A third of the calls is tried twice.
_BODIES = _CALLS + _CALLS // 3


def wait_for_bodies(directory: Path, count: int) -> None:
    """Wait until so many have begun, each as often as it is tried."""
    wait_until(lambda: marks(directory).total() >= count, 120)


@pytest.mark.timeout(60 * (_KILLS + 4))
@pytest.mark.parametrize(
    ("where", "persisted"),
    [
        ("on_slurm", ""),
        pytest.param("over_ssh", "persisted", marks=pytest.mark.every),
        pytest.param("local", "", marks=pytest.mark.every),
        pytest.param("on_slurm", "persisted", marks=pytest.mark.every),
        pytest.param("over_ssh", "", marks=pytest.mark.every),
        pytest.param("local", "persisted", marks=pytest.mark.every),
    ],
)
def test_nothing_is_lost_or_runs_twice(
    where: str, persisted: str, request: pytest.FixtureRequest, far_dir: Path, tmp_path: Path
) -> None:
    found: ClusterBlock = request.getfixturevalue(where)
    arrays = {"max_array_size": 7} if where == "on_slurm" else {}
    cluster = found.model_copy(update={"keep_job_files": "never", **arrays})
    for number in range(_KILLS):
        # Without many kills the worst moment: every result is here, and the flow goes on.
        bodies = random.randint(1, _BODIES) if _KILLS > 1 else _BODIES
        directory = far_dir / f"kill-{number}"
        directory.mkdir(mode=0o777)
        directory.chmod(0o777)
        gates = directory / "gates"
        gates.mkdir()
        arguments = (cluster, tmp_path / f"first-{number}", directory, _CALLS, persisted)
        first = FlowProcess(counting_flow, *arguments)
        flow_run_id = first.flow_run_id
        try:
            wait_for_bodies(directory, bodies)
            time.sleep(random.uniform(0, 1))
        finally:
            first.process.kill()
            first.process.wait()
        (gates / "end").touch()
        arguments = (cluster, tmp_path / f"second-{number}", directory, _CALLS, persisted)
        second = FlowProcess(counting_flow, *arguments, flow_run_id)
        try:
            second.wait_for(counting_flow.SUCCESS)
            assert second.process.wait(60) == 0
        finally:
            second.process.kill()
            print(f"kill {number}, after {bodies} bodies", second.output)
        third = _CALLS // 3
        assert marks(directory) == {
            **{f"count-{n}": 1 for n in range(2 * third)},
            **{f"again-{n}": 2 for n in range(_CALLS - 2 * third)},
        }
        assert flow_run_state(flow_run_id).is_completed()
    assert not list(Path(cluster.remote_work_dir or "").glob("runs/*/*"))
    if where == "on_slurm":
        slurm: Slurm = request.getfixturevalue("slurm")
        eventually(lambda _: slurm.queue(), lambda queue: not queue)

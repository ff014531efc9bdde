"""A flow's process dies and is started again: its calls are found where they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from clustrix_prefect.clusters.cluster import ClusterBlock
from tests.dispatch import gated_flow
from tests.dispatch.api import flow_run_state
from tests.dispatch.flow_process import FlowProcess
from tests.dispatch.marks import marks, wait_for_marks

pytestmark = pytest.mark.usefixtures("quick_prefect")


@pytest.mark.parametrize(
    ("where", "calls", "running"),
    [("on_slurm", 50, 50), ("over_ssh", 7, 4), ("local", 7, 4), ("on_kubernetes", 6, 4)],
)
def test_a_killed_flow_goes_on(
    where: str,
    calls: int,
    running: int,
    request: pytest.FixtureRequest,
    far_dir: Path,
    tmp_path: Path,
) -> None:
    """Some calls finish while nobody is there, some go on, and some had not begun."""
    cluster: ClusterBlock = request.getfixturevalue(where)
    gates = far_dir / "gates"
    gates.mkdir(mode=0o755)
    first = FlowProcess(gated_flow, cluster, tmp_path / "first", far_dir, calls)
    flow_run_id = first.flow_run_id
    wait_for_marks(far_dir, running)
    first.process.kill()
    first.process.wait()
    (gates / "early").touch()

    second = FlowProcess(gated_flow, cluster, tmp_path / "second", far_dir, calls, flow_run_id)
    try:
        second.wait_for("Found this call again", times=running)
        assert second.flow_run_id == flow_run_id
        (gates / "late").touch()
        second.wait_for(gated_flow.SUCCESS)
        assert second.process.wait(60) == 0
    finally:
        second.process.kill()
        print(second.output)
    assert marks(far_dir) == {f"call-{n}": 1 for n in range(calls)}
    assert flow_run_state(flow_run_id).is_completed()

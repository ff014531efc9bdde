"""A flow's process dies and is started again: its calls are found where they are."""

from __future__ import annotations

from pathlib import Path

import pytest
from prefect.blocks.system import Secret

from clustrix_prefect import SlurmCluster, SSHCluster
from clustrix_prefect.clusters.cluster import ClusterBlock
from tests.dispatch import gated_flow, imported_flow
from tests.dispatch.api import flow_run_state
from tests.dispatch.flow_process import FlowProcess
from tests.dispatch.marks import marks, wait_for_marks
from tests.live.daemon import wait_until
from tests.live.slurm import Slurm

pytestmark = pytest.mark.usefixtures("quick_prefect")


@pytest.mark.every
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


def test_a_flow_goes_on_from_another_machine(
    over_ssh: SSHCluster, far_dir: Path, tmp_path: Path
) -> None:
    """It shares nothing with the first but the server, with the signing secret in a block."""
    Secret(value="known to both").save("shared-by-machines", overwrite=True)
    (far_dir / "gates").mkdir()
    processes: list[FlowProcess] = []

    def start(name: str, *flow_run_id: object) -> FlowProcess:
        home = tmp_path / name
        home.mkdir()
        processes.append(
            FlowProcess(
                gated_flow,
                over_ssh,
                home / "log",
                *(far_dir, 4, *flow_run_id),
                environment={
                    "PREFECT_HOME": str(home),
                    gated_flow.SIGNING_SECRET: "shared-by-machines",
                },
            )
        )
        return processes[-1]

    try:
        first = start("first")
        flow_run_id = first.flow_run_id
        wait_for_marks(far_dir, 4)
        first.process.kill()
        first.process.wait()
        second = start("second", flow_run_id)
        second.wait_for("Found this call again", times=4)
        for gate in ("early", "late"):
            (far_dir / "gates" / gate).touch()
        second.wait_for(gated_flow.SUCCESS)
        assert second.process.wait(60) == 0
    finally:
        for process in processes:
            process.process.kill()
            print(process.output)
    assert marks(far_dir) == {f"call-{n}": 1 for n in range(4)}
    own = list(tmp_path.glob("*/clustrix-prefect/secret"))
    assert not own, "a secret of the machine's own was made"


def test_calls_of_another_modules_name_are_cancelled(
    on_slurm: SlurmCluster, slurm: Slurm, far_dir: Path, tmp_path: Path
) -> None:
    """Code is known by its module, so that they cannot be taken up; that is said."""
    gates = far_dir / "gates"
    gates.mkdir(mode=0o755)
    first = FlowProcess(gated_flow, on_slurm, tmp_path / "first", far_dir, 3)
    flow_run_id = first.flow_run_id
    wait_for_marks(far_dir, 3)
    before = set(slurm.queue())
    first.process.kill()
    first.process.wait()
    second = FlowProcess(imported_flow, on_slurm, tmp_path / "second", far_dir, 3, flow_run_id)
    try:
        second.wait_for("from the module '__main__'")
        wait_until(lambda: not before.intersection(slurm.queue()), 60)
        for gate in ("early", "late"):
            (gates / gate).touch()
        second.wait_for(gated_flow.SUCCESS)
        assert second.process.wait(60) == 0
    finally:
        second.process.kill()
        print(second.output)
    assert flow_run_state(flow_run_id).is_completed()

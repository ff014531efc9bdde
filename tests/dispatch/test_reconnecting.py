"""A connection breaks: it is opened again, and everything in flight goes on."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect import flow, runtime, task

from clustrix_prefect import ClusterTaskRunner, SlurmCluster, SSHCluster
from clustrix_prefect.errors import ConnectionLost
from clustrix_prefect.schedulers.slurm import SlurmScheduler
from tests.contract.api import logs
from tests.dispatch.marks import mark, marks, wait_for_marks
from tests.dispatch.test_reports import artifacts
from tests.live.ssh_host import SSHHost

pytestmark = pytest.mark.usefixtures("quick_prefect")

Cluster = SSHCluster | SlurmCluster


@task(log_prints=True)
def work(directory: str, name: str, seconds: float) -> str:
    mark(directory, name)
    print(f"{name} begins")
    time.sleep(seconds)
    print(f"{name} ends")
    return name.upper()


@pytest.fixture(params=["over_ssh", "on_slurm"])
def cluster(request: pytest.FixtureRequest) -> Cluster:
    """A cluster at the end of an SSH connection."""
    found: Cluster = request.getfixturevalue(request.param)
    return found


def once_each(names: list[str]) -> dict[str, int]:
    return dict.fromkeys(names, 1)


def test_dropped_again_and_again(cluster: Cluster, ssh_host: SSHHost, far_dir: Path) -> None:
    names = [f"call-{n}" for n in range(12)]

    @flow(task_runner=ClusterTaskRunner(cluster))
    def shaky() -> list[str]:
        futures = work.map([str(far_dir)] * 12, names, 1.5)
        for began in (1, 4, 8):
            wait_for_marks(far_dir, began)
            assert ssh_host.drop_connections()
            time.sleep(1)
        values = futures.result()
        for future, name in zip(futures, names, strict=True):
            lines = [line.message for line in logs(future.task_run_id, f"{name} ends")]
            assert [line for line in lines if line.startswith(name)] == [
                f"{name} begins",
                f"{name} ends",
            ]
        return values

    assert shaky() == [name.upper() for name in names]
    assert marks(far_dir) == once_each(names)


def test_dropped_before_anything_was_sent(
    cluster: Cluster, ssh_host: SSHHost, far_dir: Path
) -> None:
    names = [f"call-{n}" for n in range(8)]

    @flow(task_runner=ClusterTaskRunner(cluster))
    def shaky() -> list[str]:
        work.submit(str(far_dir), "first", 0).result()
        ssh_host.drop_connections()
        values: list[str] = work.map([str(far_dir)] * 8, names, 0.5).result()
        return values

    assert shaky() == [name.upper() for name in names]
    assert marks(far_dir) == once_each(["first", *names])


@pytest.mark.parametrize("moment", ["before", "after"])
def test_dropped_while_a_job_is_submitted(
    on_slurm: SlurmCluster,
    ssh_host: SSHHost,
    far_dir: Path,
    moment: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The connection breaks just before, or just after, SLURM took the job."""
    pauses = (2, 0) if moment == "before" else (0, 2)
    slow = f'touch "$1"; sleep {pauses[0]}; sbatch --parsable "$0"; sleep {pauses[1]}'
    submitting = far_dir / "submitting"
    monkeypatch.setattr(
        SlurmScheduler,
        "submit_command",
        lambda self, script, spec: ["sh", "-c", slow, script, str(submitting)],
    )
    names = ["call-0", "call-1"]

    @flow(task_runner=ClusterTaskRunner(on_slurm))
    def shaky() -> list[str]:
        futures = work.map([str(far_dir)] * 2, names, 0.5)
        while not submitting.exists():
            time.sleep(0.02)
        time.sleep(0.5)
        ssh_host.drop_connections()
        values: list[str] = futures.result()
        return values

    assert shaky() == [name.upper() for name in names]
    submitting.unlink()
    assert marks(far_dir) == once_each(names)


def test_a_frozen_peer_is_noticed(
    over_ssh: SSHCluster, ssh_host: SSHHost, far_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = [f"call-{n}" for n in range(8)]

    @flow(task_runner=ClusterTaskRunner(over_ssh))
    def hanging() -> tuple[list[str], float]:
        futures = work.map([str(far_dir)] * 8, names, 3)
        wait_for_marks(far_dir, 4)
        began = time.monotonic()
        with ssh_host.frozen():
            while "is open again" not in caplog.text:
                assert time.monotonic() - began < 120, "the silence was not noticed"
                time.sleep(0.1)
            noticed = time.monotonic() - began
            return futures.result(), noticed

    values, noticed = hanging()
    assert values == [name.upper() for name in names]
    assert noticed > 20
    assert marks(far_dir) == once_each(names)


def test_lost_for_good(cluster: Cluster, ssh_host: SSHHost, far_dir: Path) -> None:
    """The calls fail, by name; what runs is not harmed."""
    errors: list[Any] = []
    flow_run_ids: list[UUID] = []
    impatient = cluster.model_copy(update={"reconnect_seconds": 2})

    @flow(task_runner=ClusterTaskRunner(impatient))
    def cut_off() -> None:
        flow_run_ids.append(UUID(str(runtime.flow_run.id)))
        future = work.submit(str(far_dir), "call", 6)
        wait_for_marks(far_dir, 1)
        ssh_host.stop_listening()
        ssh_host.drop_connections()
        future.wait(60)
        errors.append(future.state.result(raise_on_failure=False))

    try:
        began = time.monotonic()
        cut_off(return_state=True)
        assert time.monotonic() - began < 100
    finally:
        ssh_host.listen_again()
    assert type(errors[0]) is ConnectionLost
    assert "2 seconds" in str(errors[0])
    (page,) = artifacts(flow_run_ids[0], "cluster-call-failed")
    assert "**ConnectionLost**" in str(page.data)
    assert marks(far_dir) == {"call": 1}
    (path,) = far_dir.iterdir()
    assert Path(f"/proc/{json.loads(path.read_text())['pid']}").exists(), "the body was ended"


@pytest.mark.parametrize(
    "cluster", ["over_ssh", pytest.param("on_slurm", marks=pytest.mark.every)], indirect=True
)
def test_a_flow_that_ends_while_the_connection_is_down_does_not_wait_for_it(
    cluster: Cluster, ssh_host: SSHHost, far_dir: Path, request: pytest.FixtureRequest
) -> None:
    @flow(task_runner=ClusterTaskRunner(cluster))
    def cut_off() -> None:
        work.submit(str(far_dir), "call", 300)
        wait_for_marks(far_dir, 1)
        ssh_host.stop_listening()
        ssh_host.drop_connections()
        raise RuntimeError("the flow's own")

    began = time.monotonic()
    try:
        with pytest.raises(RuntimeError, match="the flow's own"):
            cut_off()
        assert time.monotonic() - began < 100
    finally:
        ssh_host.listen_again()
        if isinstance(cluster, SlurmCluster):
            request.getfixturevalue("slurm").cancel_all_jobs()


def test_what_was_taken_up_again_can_be_cancelled(
    cluster: Cluster, ssh_host: SSHHost, far_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    @flow(task_runner=ClusterTaskRunner(cluster))
    def shaky() -> None:
        work.map([str(far_dir)] * 3, ["a", "b", "c"], 60)
        wait_for_marks(far_dir, 3)
        ssh_host.drop_connections()
        while "is open again" not in caplog.text:
            time.sleep(0.05)
        time.sleep(1)
        raise RuntimeError("the flow's own")

    with pytest.raises(RuntimeError, match="the flow's own"):
        shaky()
    deadline = time.monotonic() + 60
    for path in far_dir.iterdir():
        while Path(f"/proc/{json.loads(path.read_text())['pid']}").exists():
            assert time.monotonic() < deadline, "a body runs on"
            time.sleep(0.1)

"""A SLURM that is newer and stricter: accounting, limits, Prolog and Epilog, another Python."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from prefect import flow, task
from prefect.client.schemas.filters import LogFilter

from clustrix_prefect import ClusterTaskRunner, SlurmCluster, resources
from clustrix_prefect.errors import JobCancelled, SubmissionRefused, WorkerFailed
from clustrix_prefect.validation.cluster_check import check_cluster
from tests.contract.api import eventually, queued
from tests.dispatch.marks import left_by, mark, marks
from tests.dispatch.test_named_failures import run_alone
from tests.live import slurm_site as site_module
from tests.live.daemon import wait_until
from tests.live.slurm_site import SlurmSite

pytestmark = pytest.mark.usefixtures("quick_prefect")


@task
def double(x: int) -> int:
    return 2 * x


@task
def hang(directory: str, name: str) -> None:
    mark(directory, name)
    time.sleep(120)


@task
def wait_for_signal(seconds: float) -> float:
    """How long it took until SIGUSR1 came."""
    came: list[float] = []
    signal.signal(signal.SIGUSR1, lambda *_: came.append(time.time()))
    began = time.time()
    while not came and time.time() < began + seconds:
        time.sleep(0.1)
    return came[0] - began


@task
def leave(status: int) -> None:
    os._exit(status)


@task
def in_a_step() -> str:
    import subprocess

    done = subprocess.run(["srun", "-n1", "hostname"], capture_output=True, text=True)
    return done.stdout + done.stderr


def doubled(cluster: SlurmCluster, calls: int, **wanted: Any) -> list[int]:
    @flow(task_runner=ClusterTaskRunner(cluster))
    def sweep() -> list[int]:
        with resources(**wanted):
            return double.map(range(calls)).result()

    return sweep()


def test_what_check_finds(on_slurm_site: SlurmCluster) -> None:
    found = {finding.name: finding for finding in check_cluster(on_slurm_site)}
    assert all(finding.is_ok for finding in found.values()), found
    assert found["scheduler"].value.startswith("SLURM 24.11")
    assert found["limits"].value == "arrays of 1001, 9999 jobs"
    tight = on_slurm_site.model_copy(update={"account": site_module.TIGHT_ACCOUNT})
    found = {finding.name: finding for finding in check_cluster(tight)}
    assert found["limits"].value == f"arrays of 1001, {site_module.TIGHT_ACCOUNT_JOBS} jobs"


@pytest.mark.parametrize(
    "wanted",
    [{"qos": site_module.SMALL_QOS}, {"account": site_module.TIGHT_ACCOUNT}],
    ids=["QOS", "account"],
)
def test_a_map_is_larger_than_a_limit(on_slurm_site: SlurmCluster, wanted: dict[str, str]) -> None:
    assert doubled(on_slurm_site, 9, **wanted) == [2 * n for n in range(9)]


def test_a_limit_that_is_not_known(
    on_slurm_site: SlurmCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Smaller arrays are tried until one is taken."""
    from clustrix_prefect.schedulers import slurm

    monkeypatch.setattr(slurm, "_USER_LIMITS", "exit 1")
    assert doubled(on_slurm_site, 9, qos=site_module.SMALL_QOS) == [2 * n for n in range(9)]


def test_a_node_whose_prolog_fails(on_slurm_site: SlurmCluster, slurm_site: SlurmSite) -> None:
    """It is the node's doing: the call is submitted again, and the node is drained."""
    with slurm_site.broken_node_up():
        assert doubled(on_slurm_site, 1, partition=site_module.BROKEN_PARTITION) == [0]
        # slurmd tells of it beside the job's being queued again, sometimes after its second end.
        asked = ("sinfo", "-h", "-n", site_module.BROKEN_NODE, "-o", "%E")
        wait_until(lambda: "Prolog error" in slurm_site.run(*asked).stdout)


def test_an_end_is_told_before_its_epilog_has_ended(
    on_slurm_site: SlurmCluster, slurm_site: SlurmSite
) -> None:
    with resources(partition=site_module.SLOW_PARTITION):
        error: Any = run_alone(on_slurm_site, lambda: leave.submit(3), requeues=0).error
    assert type(error) is WorkerFailed, repr(error)
    assert error.exit_code == 3
    states = slurm_site.run("squeue", "-h", "-o", "%T", "-p", site_module.SLOW_PARTITION).stdout
    assert states.split() == ["COMPLETING"]


def test_who_cancelled_a_job(
    on_slurm_site: SlurmCluster, slurm_site: SlurmSite, far_dir: Path
) -> None:
    def trouble() -> None:
        slurm_site.run("scancel", left_by(far_dir, "cancelled")["job"])

    threading.Thread(target=trouble).start()
    error: Any = run_alone(on_slurm_site, lambda: hang.submit(str(far_dir), "cancelled")).error
    assert type(error) is JobCancelled, repr(error)
    assert "the id 0 cancelled" in str(error)
    assert marks(far_dir) == {"cancelled": 1}


@pytest.mark.parametrize("unrunnable", ["wait", "fail"])
def test_what_will_not_start_by_waiting(on_slurm_site: SlurmCluster, unrunnable: str) -> None:
    cluster = on_slurm_site.model_copy(update={"unrunnable": unrunnable})
    kept: list[Any] = []

    @flow(task_runner=ClusterTaskRunner(cluster))
    def too_long() -> None:
        with resources(partition="short", time="01:00:00", queue_timeout=20):
            kept.append(double.submit(1))
        if unrunnable == "wait":
            queued(kept[0].task_run_id, "PartitionTimeLimit")
        kept[0].wait()

    state: Any = too_long(return_state=True)
    error = kept[0].state.result(raise_on_failure=False)
    if unrunnable == "fail":
        assert type(error) is SubmissionRefused, repr(error)
        assert "PartitionTimeLimit" in str(error)
    else:
        said = LogFilter(flow_run_id={"any_": [state.state_details.flow_run_id]})
        eventually(
            lambda client: [log.message for log in client.read_logs(said)],
            lambda lines: any("will not start by waiting" in line for line in lines),
        )


def test_variables_of_the_login_do_not_change_a_call(
    on_slurm_site: SlurmCluster, slurm_site: SlurmSite
) -> None:
    """Such as those of a job that the flow runs in, which `srun` would take for its own."""
    bashrc = f"{slurm_site.home}/.bashrc"
    lines = "export SBATCH_ARRAY_INX=0-3 SBATCH_WAIT=1 SLURM_MEM_PER_CPU=300"
    slurm_site.run("sh", "-c", f"cp {bashrc} /tmp/bashrc; echo '{lines}' > {bashrc}")

    @flow(task_runner=ClusterTaskRunner(on_slurm_site))
    def one() -> str:
        return in_a_step.submit().result()

    try:
        assert one().strip() == "site13"
    finally:
        slurm_site.run("cp", "/tmp/bashrc", bashrc)
    assert slurm_site.run("sacct", "-anX", "-o", "jobid", "-s", "R,PD").stdout == ""


def test_a_signal_before_the_end_reaches_the_call(on_slurm_site: SlurmCluster) -> None:
    @flow(task_runner=ClusterTaskRunner(on_slurm_site))
    def warned() -> float:
        # SLURM looks now and then: it may come up to a minute before it is due.
        with resources(time="00:02:00", signal_before_end=110):
            return wait_for_signal.submit(100).result()

    assert warned() >= 0

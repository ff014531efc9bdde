"""On a real Grid Engine: ends with names, waiting with reasons, and nothing left behind."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect import flow, task
from prefect.client.orchestration import get_client
from prefect.futures import PrefectFuture
from prefect.states import Cancelling

from clustrix_prefect import ClusterTaskRunner, SGECluster, SSHCluster, resources
from clustrix_prefect.errors import (
    JobCancelled,
    QueueTimeout,
    SubmissionRefused,
    TimeLimitExceeded,
    WorkerFailed,
    WorkerNotStarted,
)
from clustrix_prefect.sessions.job_listing import cluster_jobs
from clustrix_prefect.validation.cluster_check import check_cluster
from tests.contract.api import history, queued
from tests.dispatch import long_flow
from tests.dispatch.api import ended_task_runs, flow_run_state
from tests.dispatch.flow_process import FlowProcess
from tests.dispatch.marks import left_by, mark, marks, wait_for_marks
from tests.dispatch.test_named_failures import End, assert_told, end_of, run_alone
from tests.live import clusters
from tests.live.gridengine import SLOTS, GridEngine
from tests.live.openpbs import OpenPBS
from tests.live.pythons import FarPythons
from tests.live.ssh_host import SSHHost

pytestmark = pytest.mark.usefixtures("quick_prefect")


@task
def hang(directory: str, name: str) -> None:
    mark(directory, name)
    print(f"{name} hangs", file=sys.stderr)
    time.sleep(120)


@task
def leave(status: int) -> None:
    print("leaving now", file=sys.stderr)
    os._exit(status)


@task
def crash(number: int) -> None:
    os.kill(os.getpid(), number)
    time.sleep(30)


@task
def where_am_i() -> tuple[str, int]:
    return os.environ["QUEUE"], int(os.environ["NSLOTS"])


@task
def warned() -> str:
    said = threading.Event()
    signal.signal(signal.SIGUSR1, lambda *_: said.set())
    return "warned" if said.wait(60) else "not warned"


@pytest.fixture(scope="module")
def ends(
    quick_prefect: None, gridengine: GridEngine, ssh_host: SSHHost, far_pythons: FarPythons
) -> dict[str, End]:
    """The ends of calls that all failed at the same time, in one flow run."""
    directory = ssh_host.home / "sge-ends"
    directory.mkdir(mode=0o777)
    directory.chmod(0o777)
    cluster = clusters.sge_cluster(ssh_host, far_pythons, ssh_host.home / "work" / "sge-ends")
    found: dict[str, End] = {}

    def trouble() -> None:
        gridengine.command("qdel", left_by(directory, "cancelled")["job"])

    @flow(task_runner=ClusterTaskRunner(cluster))
    def many_ends() -> None:
        with resources(time=3):
            limited = hang.submit(str(directory), "limited")
        with resources(partition="nowhere"):
            refused = leave.submit(1)
        futures: dict[str, PrefectFuture[Any]] = {
            "limited": limited,
            "refused": refused,
            "cancelled": hang.submit(str(directory), "cancelled"),
            "crashed": crash.submit(signal.SIGSEGV),
        }
        # One of several elements of an array: the ends are told apart by their index.
        left = leave.map([3, 4])
        futures.update(left=left[0], left_too=left[1])
        threading.Thread(target=trouble).start()
        for name, future in futures.items():
            found[name] = end_of(future)

    many_ends(return_state=True)
    return found


def test_time_limit(ends: dict[str, End]) -> None:
    error = ends["limited"].error
    assert type(error) is TimeLimitExceeded, repr(error)
    assert "limited hangs" in error.stderr_tail
    assert "resources(time=" in str(error)


def test_deleted_by_somebody(ends: dict[str, End]) -> None:
    error = ends["cancelled"].error
    assert type(error) is JobCancelled, repr(error)
    assert "cancelled hangs" in error.stderr_tail


def test_worker_that_ends(ends: dict[str, End]) -> None:
    for name, status in (("left", 3), ("left_too", 4)):
        assert_told(ends[name].error, WorkerFailed)
        error: Any = ends[name].error
        assert error.exit_code == status
        assert "leaving now" in error.stderr_tail


def test_worker_that_crashes(ends: dict[str, End]) -> None:
    error: Any = ends["crashed"].error
    assert_told(error, WorkerFailed)
    assert error.exit_code == -signal.SIGSEGV


def test_submission_that_is_refused(ends: dict[str, End]) -> None:
    error = ends["refused"].error
    assert type(error) is SubmissionRefused
    assert 'unknown queue "nowhere"' in str(error)
    assert "qconf -sql" in str(error)


def test_a_job_in_error_state_is_named_and_taken_out(
    on_gridengine: SGECluster, gridengine: GridEngine
) -> None:
    """Eqw: Grid Engine itself would let it wait for ever."""
    nowhere = ["-o /nowhere/at/all/"]
    cluster = on_gridengine.model_copy(update={"extra_directives": nowhere})
    error = run_alone(cluster, lambda: leave.submit(1)).error
    assert type(error) is WorkerNotStarted, repr(error)
    assert 'can\'t open output file "/nowhere/at/all/"' in str(error)
    assert gridengine.queue() == []


def test_worker_that_does_not_start(on_gridengine: SGECluster) -> None:
    setup = ['test -z "$JOB_ID" || { echo no licence >&2; exit 9; }']
    cluster = on_gridengine.model_copy(update={"setup": setup})
    error: Any = run_alone(cluster, lambda: leave.submit(1)).error
    assert type(error) is WorkerNotStarted, repr(error)
    assert error.exit_code == 9
    assert error.node == "localhost"  # the name that Grid Engine has for this host
    assert "no licence" in error.stderr_tail


def test_an_end_that_the_accounting_tells_later_is_waited_for(
    on_gridengine: SGECluster, gridengine: GridEngine, far_dir: Path
) -> None:
    """What vanished and is in no accounting would be taken for lost, and be run again."""

    def delete() -> None:
        gridengine.command("qdel", left_by(far_dir, "deleted")["job"])

    with gridengine.slow_accounting():
        threading.Thread(target=delete).start()
        error: Any = run_alone(on_gridengine, lambda: hang.submit(str(far_dir), "deleted")).error
    assert type(error) is JobCancelled, repr(error)
    assert marks(far_dir) == {"deleted": 1}


# --- waiting --------------------------------------------------------------------------------


@pytest.fixture
def full(gridengine: GridEngine) -> Iterator[GridEngine]:
    """A Grid Engine without a free slot."""
    gridengine.set_slots(0)
    yield gridengine
    gridengine.set_slots(SLOTS)
    gridengine.cancel_all_jobs()


def test_waiting_and_held(on_gridengine: SGECluster, full: GridEngine, far_dir: Path) -> None:
    @flow(task_runner=ClusterTaskRunner(on_gridengine))
    def patient() -> UUID:
        future = where_am_i.submit()
        message = queued(future.task_run_id, "waiting (qw)").message
        job = str(message).removeprefix("Grid Engine job ").partition(":")[0]
        full.command("qhold", job)
        queued(future.task_run_id, "held (hqw)")
        full.command("qrls", job)
        full.set_slots(SLOTS)
        assert future.result() == ("all.q", 1)
        return future.task_run_id

    names = [state.name for state in history(patient())]
    assert names[-2:] == ["Running", "Completed"]
    assert names.count("Running") == 1


def test_too_long_in_the_queue(on_gridengine: SGECluster, full: GridEngine) -> None:
    with resources(queue_timeout=8):
        end = run_alone(on_gridengine, lambda: where_am_i.submit())
    assert type(end.error) is QueueTimeout
    assert "waiting (qw)" in str(end.error)
    assert full.queue() == []


def test_elements_that_wait_for_each_other(on_gridengine: SGECluster, far_dir: Path) -> None:
    @flow(task_runner=ClusterTaskRunner(on_gridengine))
    def in_turn() -> list[Any]:
        with resources(max_parallel_jobs=1, cores=3):
            return [future.result() for future in [where_am_i.submit() for _ in range(3)]]

    assert in_turn() == [("all.q", 3)] * 3


def test_a_signal_before_the_end(on_gridengine: SGECluster) -> None:
    @flow(task_runner=ClusterTaskRunner(on_gridengine))
    def forewarned() -> str:
        with resources(time=30, signal_before_end=28):
            return warned.submit().result()

    assert forewarned() == "warned"


# --- the end of a flow, and from outside ----------------------------------------------------


def test_nothing_is_left_of_a_cancelled_flow(
    on_gridengine: SGECluster, gridengine: GridEngine, far_dir: Path, tmp_path: Path
) -> None:
    process = FlowProcess(long_flow, on_gridengine, tmp_path / "log", far_dir, 3)
    try:
        wait_for_marks(far_dir, 3)
        with cluster_jobs(on_gridengine) as jobs:
            assert sum(job.running for job in jobs.find()) == 3
        with get_client(sync_client=True) as client:
            client.set_flow_run_state(process.flow_run_id, Cancelling())
        deadline = time.monotonic() + 60
        while gridengine.queue():
            assert time.monotonic() < deadline, gridengine.queue()
            time.sleep(0.1)
        process.process.wait(60)
        assert flow_run_state(process.flow_run_id).name == "Cancelled"
        for run in ended_task_runs(process.flow_run_id, 3):
            assert run.state is not None
            assert run.state.is_cancelled()
    finally:
        process.process.kill()
        print(process.output)


def test_check(on_gridengine: SGECluster) -> None:
    found = {finding.name: finding for finding in check_cluster(on_gridengine)}
    assert all(finding.is_ok for finding in found.values()), found
    assert found["scheduler"].value == "Grid Engine (SGE 8.1.9)"
    assert "arrays of 75000" in found["limits"].value
    assert "found suitable queue" in found["trial job"].value


def test_check_names_the_block_for_what_it_finds(
    on_gridengine: SGECluster, over_ssh: SSHCluster, ssh_host: SSHHost
) -> None:
    with ssh_host.bashrc("export SLURM_CONF=/nowhere\n"):
        found = {finding.name: finding for finding in check_cluster(over_ssh)}
    assert found["scheduler"].is_ok
    assert found["scheduler"].value == (
        "Grid Engine (SGE 8.1.9) is there: to submit jobs, use SGECluster (sge-cluster/NAME)"
    )


def test_check_names_the_right_block_beside_a_wrong_one(
    on_gridengine: SGECluster, openpbs: OpenPBS, ssh_host: SSHHost
) -> None:
    nobody = "export SLURM_CONF=/nowhere SGE_QMASTER_PORT=1\n"
    with ssh_host.bashrc(openpbs.login + nobody):
        found = {finding.name: finding for finding in check_cluster(on_gridengine)}
    assert "Grid Engine does not answer" in found["scheduler"].problem
    assert "OpenPBS 23.06.06 is there" in found["scheduler"].remedy
    assert "use PBSCluster" in found["scheduler"].remedy

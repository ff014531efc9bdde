"""On SLURM's real PBS commands, and on what stands in for OpenPBS: from submitting to the end."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from prefect import flow, task
from prefect.client.orchestration import get_client
from prefect.futures import PrefectFuture
from prefect.states import Cancelling

from clustrix_prefect import ClusterTaskRunner, PBSCluster, SSHCluster, resources
from clustrix_prefect.errors import (
    JobCancelled,
    JobLost,
    SubmissionRefused,
    TimeLimitExceeded,
    WorkerFailed,
)
from clustrix_prefect.validation.access import check_access
from clustrix_prefect.validation.cluster_check import check_cluster
from tests.contract.api import history, logs, queued
from tests.dispatch import long_flow
from tests.dispatch.api import ended_task_runs
from tests.dispatch.flow_process import FlowProcess
from tests.dispatch.marks import left_by, mark, marks, wait_for_marks
from tests.dispatch.test_named_failures import end_of, run_alone
from tests.dispatch.test_requeueing import assert_requeued_unseen
from tests.live.daemon import wait_until
from tests.live.openpbs import SLOTS, OpenPBS
from tests.live.slurm import CORES, Slurm
from tests.live.slurm_pbs import SlurmPBS
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
def job_account() -> str:
    return os.environ["SLURM_JOB_ACCOUNT"]


@task
def fall() -> None:
    """Take the whole job along, as a node that fails does."""
    os.killpg(os.getsid(0), signal.SIGKILL)


@task
def survive(directory: str, name: str) -> int:
    """Hangs until there is `go`; returns how often it began."""
    began = mark(directory, name)
    while not os.path.exists(os.path.join(directory, "go")):
        time.sleep(0.1)
    return began


@task
def double(x: int) -> int:
    return 2 * x


@pytest.fixture(params=["on_openpbs", "on_slurm_pbs"])
def pbs(request: pytest.FixtureRequest) -> PBSCluster:
    """Both."""
    found: PBSCluster = request.getfixturevalue(request.param)
    return found


def test_results_and_exceptions_come_back(pbs: PBSCluster) -> None:
    @flow(task_runner=ClusterTaskRunner(pbs))
    def doubled() -> list[int]:
        lost = double.submit("x" * 3)
        futures = double.map(range(6))
        assert lost.result() == "xxxxxx"
        return futures.result()

    assert doubled() == [0, 2, 4, 6, 8, 10]


def test_a_worker_that_ends_and_a_queue_that_is_not_there(pbs: PBSCluster) -> None:
    error: Any = run_alone(pbs, lambda: leave.submit(3)).error
    assert type(error) is WorkerFailed, repr(error)
    assert "leaving now" in error.stderr_tail
    with resources(partition="nowhere"):
        refused: Any = run_alone(pbs, lambda: leave.submit(3)).error
    assert type(refused) is SubmissionRefused, repr(refused)
    assert "qstat -Q" in str(refused)
    assert "/sbatch" not in str(refused)


def test_nothing_is_left_of_a_cancelled_flow(
    pbs: PBSCluster, far_dir: Path, tmp_path: Path, ssh_host: SSHHost
) -> None:
    process = FlowProcess(long_flow, pbs, tmp_path / "log", far_dir, 3)
    try:
        wait_for_marks(far_dir, 3)
        with get_client(sync_client=True) as client:
            client.set_flow_run_state(process.flow_run_id, Cancelling())
        for run in ended_task_runs(process.flow_run_id, 3):
            assert run.state is not None
            assert run.state.is_cancelled()
        deadline = time.monotonic() + 60  # a body is deaf, and SLURM waits 30 s for it
        while b"hang" in _command_lines(ssh_host):
            assert time.monotonic() < deadline
            time.sleep(0.2)
        process.process.wait(60)
    finally:
        process.process.kill()
        print(process.output)


def _command_lines(ssh_host: SSHHost) -> bytes:
    lines = b""
    for pid in ssh_host.processes:
        try:
            lines += Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:  # it has just ended
            continue
    return lines


def test_check(on_openpbs: PBSCluster) -> None:
    found = {finding.name: finding for finding in check_cluster(on_openpbs)}
    assert all(finding.is_ok for finding in found.values()), found
    assert found["scheduler"].value == "OpenPBS 23.06.06"
    assert found["limits"].value == "arrays of 10000, 500 jobs"


def test_check_of_slurms_pbs(on_slurm_pbs: PBSCluster) -> None:
    found = {finding.name: finding for finding in check_cluster(on_slurm_pbs)}
    assert all(finding.is_ok for finding in found.values()), found
    assert found["scheduler"].value == "PBS commands of SLURM 22.05.8"


# --- what OpenPBS tells and SLURM's commands do not -----------------------------------------


def test_ends_with_names(on_openpbs: PBSCluster, far_dir: Path, ssh_host: SSHHost) -> None:
    found = {}

    def trouble() -> None:
        ssh_host.run(f"qdel '{left_by(far_dir, 'cancelled')['job']}'")

    @flow(task_runner=ClusterTaskRunner(on_openpbs))
    def many_ends() -> None:
        with resources(time=3):
            limited = hang.submit(str(far_dir), "limited")
        futures = {
            "limited": limited,
            "cancelled": hang.submit(str(far_dir), "cancelled"),
        }
        futures.update(zip(("three", "four"), leave.map([3, 4]), strict=True))
        threading.Thread(target=trouble).start()
        for name, future in futures.items():
            found[name] = end_of(future).error

    many_ends(return_state=True)
    kinds = {name: type(error) for name, error in found.items()}
    assert kinds == {
        "limited": TimeLimitExceeded,
        "cancelled": JobCancelled,
        "three": WorkerFailed,
        "four": WorkerFailed,
    }
    assert [found[name].exit_code for name in ("three", "four")] == [3, 4]


def test_without_a_history_the_job_itself_tells_how_it_ended(
    on_openpbs: PBSCluster, openpbs: OpenPBS, far_dir: Path, ssh_host: SSHHost
) -> None:
    """As PBS is installed: what has left the queue is unknown. Nothing is run again for it."""
    found: dict[str, Any] = {}

    def trouble() -> None:
        ssh_host.run(f"qdel '{left_by(far_dir, 'cancelled')['job']}'")

    @flow(task_runner=ClusterTaskRunner(on_openpbs))
    def many_ends() -> None:
        with resources(time=5):
            limited = hang.submit(str(far_dir), "limited")
        futures = {
            "limited": limited,
            "cancelled": hang.submit(str(far_dir), "cancelled"),
            "left": leave.submit(3),
        }
        threading.Thread(target=trouble).start()
        for name, future in futures.items():
            found[name] = end_of(future).error

    openpbs.write(history=False)
    try:
        many_ends(return_state=True)
    finally:
        openpbs.write(history=True)
    assert {name: type(error) for name, error in found.items()} == {
        "limited": TimeLimitExceeded,
        "cancelled": JobCancelled,
        "left": WorkerFailed,
    }
    assert found["left"].exit_code == 3
    assert "leaving now" in found["left"].stderr_tail
    assert marks(far_dir) == {"limited": 1, "cancelled": 1}


def test_without_a_history_a_job_that_was_killed_is_lost(
    on_openpbs: PBSCluster, openpbs: OpenPBS, far_dir: Path
) -> None:
    """Nobody could write down why; that is said."""
    openpbs.write(history=False)
    try:
        error: Any = run_alone(on_openpbs, lambda: fall.submit(), requeues=0).error
    finally:
        openpbs.write(history=True)
    assert type(error) is JobLost, repr(error)
    assert "history" in str(error)


@pytest.mark.parametrize("free", [SLOTS, 1], ids=["at once", "when there is room"])
def test_what_pbs_would_run_again_is_submitted_again_once(
    on_openpbs: PBSCluster, openpbs: OpenPBS, far_dir: Path, ssh_host: SSHHost, free: int
) -> None:
    """OpenPBS takes no arrays but those that it may run again by itself."""
    kept: list[PrefectFuture[Any]] = []

    @flow(task_runner=ClusterTaskRunner(on_openpbs))
    def unlucky() -> list[int]:
        kept.extend(survive.map([str(far_dir)] * 2, ["first", "second"]))
        wait_for_marks(far_dir, 2)
        taken = left_by(far_dir, "first")["job"]
        assert "[" in taken
        openpbs.write(slots=free)
        done = ssh_host.run(f"qrerun '{taken}'")
        assert done.returncode == 0, done.stderr
        logs(kept[0].task_run_id, "Submitting the call again")
        openpbs.write(slots=SLOTS)
        (far_dir / "go").mkdir()
        return [future.result() for future in kept]

    try:
        assert unlucky() == [2, 1]
    finally:
        openpbs.write(slots=SLOTS)
    assert marks(far_dir) == {"first": 2, "second": 1}
    assert_requeued_unseen(kept[0], "The scheduler took the job from its node")


def test_waiting_is_told_with_the_reason(on_openpbs: PBSCluster, far_dir: Path) -> None:
    @flow(task_runner=ClusterTaskRunner(on_openpbs))
    def patient() -> list[int]:
        with resources(cores=SLOTS):
            first = survive.submit(str(far_dir), "first")
            job = left_by(far_dir, "first")["job"]
            second = survive.submit(str(far_dir), "second")
        queued(second.task_run_id, "Insufficient amount of resource: ncpus")
        assert job.endswith(".pbs")
        Path(far_dir, "go").touch()
        return [first.result(), second.result()]

    assert patient() == [1, 1]


def test_a_limit_of_jobs_is_waited_for(on_openpbs: PBSCluster, openpbs: OpenPBS) -> None:
    openpbs.write(most=1)
    try:

        @flow(task_runner=ClusterTaskRunner(on_openpbs))
        def one_after_another() -> list[int]:
            return double.map(range(3)).result()

        assert one_after_another() == [0, 2, 4]
    finally:
        openpbs.write(most=500)


def test_a_queue_takes_less_than_an_array(on_openpbs: PBSCluster) -> None:
    """Its limit counts elements; whoever does not know of it sends ever smaller arrays."""

    @flow(task_runner=ClusterTaskRunner(on_openpbs))
    def through_a_narrow_queue() -> list[int]:
        with resources(partition="lim"):
            return double.map(range(7)).result()

    assert through_a_narrow_queue() == [0, 2, 4, 6, 8, 10, 12]


@pytest.mark.parametrize("history", [True, False])
def test_an_element_is_not_judged_by_its_array(
    on_openpbs: PBSCluster, openpbs: OpenPBS, far_dir: Path, ssh_host: SSHHost, history: bool
) -> None:
    """OpenPBS tells of elements whose record is gone what is true of their array."""
    found: list[Any] = []

    @flow(task_runner=ClusterTaskRunner(on_openpbs))
    def many_ends() -> None:
        with resources(cores=SLOTS - 1):
            futures = hang.map(str(far_dir), ["call"] * 3)
            whole, _, runs = left_by(far_dir, "call")["job"].partition("[")
            running = int(runs.partition("]")[0])
            waits, last = (running + 1) % 3, (running + 2) % 3
            # Of what waited nothing is known any more once its whole array has gone.
            ssh_host.run(f"qdel '{whole}[{waits}].pbs'")
            wait_until(lambda: any(future.state.is_final() for future in futures), 60)
            ssh_host.run(f"qdel '{whole}[{running}].pbs'")
            wait_until(lambda: marks(far_dir).total() == 2, 60)
            ssh_host.run(f"qdel '{whole}[{last}].pbs'")
            found.extend(end_of(future).error for future in futures)

    openpbs.write(history=history)
    try:
        many_ends(return_state=True)
    finally:
        openpbs.write(history=True)
    assert {type(error) for error in found} == {JobCancelled}, found


@pytest.mark.every  # SLURM looks at time limits once a minute, and does so for its own jobs
def test_slurms_pbs_tells_of_the_time_limit(
    on_slurm_pbs: PBSCluster, slurm: Slurm, far_dir: Path
) -> None:
    def end_it() -> None:
        job = left_by(far_dir, "limited")["job"]
        slurm.command("scontrol", "update", f"jobid={job}", "EndTime=now")

    threading.Thread(target=end_it).start()
    with resources(time=60):
        error: Any = run_alone(on_slurm_pbs, lambda: hang.submit(str(far_dir), "limited")).error
    assert type(error) is TimeLimitExceeded, repr(error)
    assert "limited hangs" in error.stderr_tail


def test_slurms_pbs_tells_what_waits_and_what_somebody_deleted(
    on_slurm_pbs: PBSCluster, slurm: Slurm, far_dir: Path, ssh_host: SSHHost
) -> None:
    """Its `qstat` has one state for all ends, and no exit status."""
    found: list[Any] = []
    states: list[str] = []

    @flow(task_runner=ClusterTaskRunner(on_slurm_pbs))
    def deleted() -> None:
        running = hang.submit(str(far_dir), "running")
        job = left_by(far_dir, "running")["job"]
        with resources(cores=CORES):
            waiting = hang.submit(str(far_dir), "waiting")
            patient = double.submit(4)
        message = queued(waiting.task_run_id, "waiting (Q)").message
        queued(patient.task_run_id, "waiting (Q)")
        waits = str(message).removeprefix("PBS job ").partition(":")[0]
        done = ssh_host.run(f"qdel {job} {waits}")
        assert done.returncode == 0, done.stderr
        found.extend(end_of(future).error for future in (running, waiting))
        states.extend(str(state.name) for state in history(patient.task_run_id))

    deleted(return_state=True)
    assert [type(error) for error in found] == [JobCancelled, JobCancelled], found
    assert "running hangs" in found[0].stderr_tail
    assert states[-3:] == ["Queued", "Running", "Completed"]
    assert marks(far_dir) == {"running": 1}


def test_slurms_qsub_gets_what_has_a_space_in_it(on_slurm_pbs: PBSCluster, slurm: Slurm) -> None:
    cluster = on_slurm_pbs.model_copy(
        update={"account": "my lab", "extra_directives": ["-m n -p 7"]}
    )

    @flow(task_runner=ClusterTaskRunner(cluster))
    def account() -> str:
        return job_account.submit().result()

    assert account() == "my lab"


def test_check_names_the_block_for_slurms_pbs(
    on_slurm_pbs: PBSCluster, over_ssh: SSHCluster, ssh_host: SSHHost, slurm_pbs: SlurmPBS
) -> None:
    """Where SLURM's PBS commands are all that there is to submit jobs with."""
    hidden = ssh_host.home / "hidden"
    hidden.mkdir()
    (hidden / "scontrol").write_text("#!/bin/sh\nexit 127\n")
    for path in (hidden, hidden / "scontrol"):
        path.chmod(0o755)
    nobody = f"export PATH={hidden}:$PATH SGE_QMASTER_PORT=1\n"
    with ssh_host.bashrc(slurm_pbs.login + nobody):
        found = {finding.name: finding for finding in check_cluster(over_ssh)}
    assert found["scheduler"].value == (
        "PBS commands of SLURM 22.05.8 is there: to submit jobs, use PBSCluster (pbs-cluster/NAME)"
    )


def test_the_validation_of_access_speaks_the_sites_dialect(pbs: PBSCluster) -> None:
    found = {check.name: check for check in check_access("pbs", pbs)}
    assert found["submit and cancel"].problem == ""
    assert "was " in found["submit and cancel"].value

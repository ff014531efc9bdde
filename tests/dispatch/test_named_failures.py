"""What can befall a call has a name, a place and a remedy."""

from __future__ import annotations

import json
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect import flow, task
from prefect.futures import PrefectFuture

from clustrix_prefect import ClusterTaskRunner, LocalCluster, SlurmCluster, SSHCluster, resources
from clustrix_prefect.clusters.cluster import ClusterBlock
from clustrix_prefect.dispatch.places.jobs import JobExecutor
from clustrix_prefect.errors import (
    CallNotPortable,
    InfrastructureError,
    JobCancelled,
    OutOfMemory,
    QueueTimeout,
    ResultNotPortable,
    SubmissionRefused,
    TamperedResult,
    TimeLimitExceeded,
    WorkerFailed,
    WorkerNotStarted,
)
from clustrix_prefect.far_side.wire import protocol
from tests.contract.api import queued, task_run
from tests.dispatch.marks import left_by, mark  # history, task_run
from tests.live import clusters
from tests.live.pythons import FarPythons
from tests.live.slurm import CORES, Slurm
from tests.live.ssh_host import SSHHost

pytestmark = pytest.mark.usefixtures("quick_prefect")

# --- what travels -------------------------------------------------------------------------


@task
def hang(directory: str, name: str) -> None:
    mark(directory, name)
    print(f"{name} hangs", file=sys.stderr)
    time.sleep(120)


@task
def take_memory(size: int) -> int:
    kept = bytearray(size)
    kept[::4096] = b"1" * len(kept[::4096])
    time.sleep(60)
    return len(kept)


@task
def leave(status: int) -> None:
    print("leaving now", file=sys.stderr)
    os._exit(status)


@task
def crash(number: int) -> None:
    print("about to crash", file=sys.stderr)
    os.kill(os.getpid(), number)
    time.sleep(30)


@task
def take(value: Any) -> str:
    return str(value)


@task
def give_a_lock() -> Any:
    return threading.Lock()


class Unopenable:
    """Can be pickled, and not unpickled."""

    def __reduce__(self) -> Any:
        return json.loads, ("{",)


class Trap:
    """Does something where it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return open, (self.path, "w")


def in_a_job_of_its_own(what: Any, *args: Any) -> Any:
    """Submit a call that goes into no array with others: it asks for something else."""
    with resources(memory="300MB"):
        return what.submit(*args)


@task
def forge(trap: bytes) -> None:
    """Put a result in place of the one that the worker would write."""
    batch = sys.argv[sys.argv.index("--batch") + 1]
    results = os.path.join(batch, "results")
    (name,) = os.listdir(os.path.join(batch, "events"))
    header = {"call": name, "attempt": 0, "kind": "result", "status": "ok"}
    header.update(mac="0" * 64, size=len(trap), started=time.time(), host=os.uname().nodename)
    with open(os.path.join(results, "forged"), "wb") as file:
        file.write(json.dumps(header).encode() + b"\n" + trap)
    os.rename(os.path.join(results, "forged"), os.path.join(results, name))
    time.sleep(30)


# --- what is to be seen of it -------------------------------------------------------------


@dataclass(frozen=True)
class End:
    """How a call ended."""

    task_run_id: UUID
    error: Any


def end_of(future: PrefectFuture[Any]) -> End:
    future.wait()
    return End(future.task_run_id, future.state.result(raise_on_failure=False))


def run_alone(
    cluster: ClusterBlock, submit: Callable[[], PrefectFuture[Any]], requeues: int = 2
) -> End:
    """Run one call that fails, in a flow of its own."""
    ends = []

    @flow(task_runner=ClusterTaskRunner(cluster, requeues=requeues))
    def alone() -> None:
        ends.append(end_of(submit()))

    alone(return_state=True)
    return ends[0]


def assert_told(error: BaseException, kind: type[InfrastructureError], slurm: bool = True) -> None:
    """The exception is of this very class and says where and what to do."""
    assert type(error) is kind, repr(error)
    assert isinstance(error, InfrastructureError)
    assert error.remedy
    assert error.node == os.uname().nodename
    assert bool(error.job_id) == slurm
    if slurm:
        assert str(error.job_id) in str(error)


# --- SLURM: one flow, many ends -------------------------------------------------------------


@pytest.fixture(scope="module")
def ends(
    quick_prefect: None,
    slurm: Slurm,
    ssh_host: SSHHost,
    far_pythons: FarPythons,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, End]:
    """The ends of calls that all failed at the same time, in one flow run."""
    directory = ssh_host.home / "ends"
    directory.mkdir(mode=0o777)
    directory.chmod(0o777)
    trap = tmp_path_factory.mktemp("trap") / "sprung"
    cluster = clusters.slurm_cluster(ssh_host, far_pythons, ssh_host.home / "work" / "ends")
    found: dict[str, End] = {}

    def trouble() -> None:
        job = left_by(directory, "limited")["job"]
        slurm.command("scontrol", "update", f"jobid={job}", "EndTime=now")
        slurm.command("scancel", left_by(directory, "cancelled")["job"])

    @flow(task_runner=ClusterTaskRunner(cluster))
    def many_ends() -> None:
        with resources(time="00:01:00"):
            limited = hang.submit(str(directory), "limited")
        with resources(memory="64MB"):
            greedy = take_memory.submit(600 * 1024**2)
        with resources(partition="nowhere"):
            refused = take.submit(1)
        futures = {
            "limited": limited,
            "greedy": greedy,
            "refused": refused,
            "cancelled": hang.submit(str(directory), "cancelled"),
            "left": leave.submit(3),
            "crashed": crash.submit(signal.SIGSEGV),
            "unopened": take.submit(Unopenable()),
            "unreturned": give_a_lock.submit(),
            "forged": in_a_job_of_its_own(forge, pickle.dumps(Trap(str(trap)))),
        }
        threading.Thread(target=trouble).start()
        for name, future in futures.items():
            found[name] = end_of(future)

    many_ends(return_state=True)
    assert not trap.exists(), "a forged result was opened"
    return found


def test_time_limit(ends: dict[str, End]) -> None:
    assert_told(ends["limited"].error, TimeLimitExceeded)
    assert "limited hangs" in ends["limited"].error.stderr_tail
    assert "resources(time=" in str(ends["limited"].error)


def test_out_of_memory(ends: dict[str, End]) -> None:
    assert_told(ends["greedy"].error, OutOfMemory)
    assert "resources(memory=" in str(ends["greedy"].error)


def test_cancelled_by_somebody(ends: dict[str, End]) -> None:
    assert_told(ends["cancelled"].error, JobCancelled)
    assert "cancelled hangs" in ends["cancelled"].error.stderr_tail


def test_worker_that_ends(ends: dict[str, End]) -> None:
    assert_told(ends["left"].error, WorkerFailed)
    assert ends["left"].error.exit_code == 3
    assert "leaving now" in ends["left"].error.stderr_tail


def test_worker_that_crashes(ends: dict[str, End]) -> None:
    assert_told(ends["crashed"].error, WorkerFailed)
    assert ends["crashed"].error.exit_code == -signal.SIGSEGV
    assert "about to crash" in ends["crashed"].error.stderr_tail


def test_what_befell_many_calls_has_a_traceback_for_each(on_slurm: SlurmCluster) -> None:
    """Of one object that all raise, the traceback would grow with every call."""
    errors: list[BaseException] = []

    @flow(task_runner=ClusterTaskRunner(on_slurm))
    def refused() -> None:
        with resources(partition="nowhere"):
            futures = take.map(range(40))
        errors.extend(end_of(future).error for future in futures)

    refused(return_state=True)
    assert {type(error) for error in errors} == {SubmissionRefused}
    assert len({id(error) for error in errors}) == 40
    lengths = {len(traceback.extract_tb(error.__traceback__)) for error in errors}
    assert max(lengths) <= 12, lengths


def test_submission_that_is_refused(ends: dict[str, End]) -> None:
    error = ends["refused"].error
    assert type(error) is SubmissionRefused
    assert "invalid partition" in str(error).lower()
    assert "sinfo" in str(error)


def test_arguments_that_cannot_be_opened_there(ends: dict[str, End]) -> None:
    assert_told(ends["unopened"].error, CallNotPortable)
    assert "JSONDecodeError" in str(ends["unopened"].error)


def test_result_that_cannot_travel(ends: dict[str, End]) -> None:
    assert_told(ends["unreturned"].error, ResultNotPortable)
    assert "lock" in str(ends["unreturned"].error)


def test_result_that_somebody_else_wrote(ends: dict[str, End]) -> None:
    assert_told(ends["forged"].error, TamperedResult)


@pytest.mark.parametrize(
    "name",
    ["limited", "greedy", "refused", "cancelled", "left", "crashed", "unopened", "unreturned"],
)
def test_the_api_shows_the_failure(ends: dict[str, End], name: str) -> None:
    found = task_run(ends[name].task_run_id)
    assert found.state is not None
    assert found.state.is_failed()
    assert type(ends[name].error).__name__ in str(found.state.message)
    assert found.run_count == (0 if name == "refused" else 1)


# --- SLURM: before the call begins ----------------------------------------------------------


def test_worker_that_does_not_start(on_slurm: SlurmCluster, ssh_host: SSHHost) -> None:
    """Its Python is there when the flow begins, and gone when the job does."""
    link = ssh_host.home / "python-of-the-site"
    assert on_slurm.python
    link.symlink_to(on_slurm.python)
    cluster = on_slurm.model_copy(update={"python": str(link)})

    def submit() -> PrefectFuture[Any]:
        link.unlink()
        return take.submit(1)

    error = run_alone(cluster, submit).error
    assert_told(error, WorkerNotStarted)
    assert error.exit_code == 127
    assert f"has no {link}" in error.stderr_tail


def test_setup_that_fails_on_the_node(on_slurm: SlurmCluster) -> None:
    setup = ['test -z "$SLURM_JOB_ID" || { echo no licence >&2; exit 9; }']
    cluster = on_slurm.model_copy(update={"setup": setup})
    error = run_alone(cluster, lambda: take.submit(1)).error
    assert_told(error, WorkerNotStarted)
    assert error.exit_code == 9
    assert "no licence" in error.stderr_tail
    assert "`setup`" in str(error)


def test_too_long_in_the_queue(on_slurm: SlurmCluster, slurm: Slurm) -> None:
    submitted = slurm.command(
        "sbatch", "--parsable", f"--ntasks={CORES}", "--output=/dev/null", "--wrap=sleep 60"
    )
    with resources(queue_timeout=6):
        end = run_alone(on_slurm, lambda: take.submit(1))
    assert type(end.error) is QueueTimeout
    assert "Resources" in str(end.error)
    assert "queue_timeout" in end.error.remedy
    assert task_run(end.task_run_id).run_count == 0
    assert slurm.queue() == [submitted.stdout.strip()], "the call's job is still there"
    slurm.cancel_all_jobs()


@pytest.mark.parametrize("many", [200, pytest.param(1000, marks=pytest.mark.every)])
def test_many_failures_cost_few_commands(
    on_slurm: SlurmCluster, slurm: Slurm, monkeypatch: pytest.MonkeyPatch, many: int
) -> None:
    """How each ended is asked of the scheduler in common."""
    asked: list[list[str]] = []
    command = JobExecutor._command

    def noting(self: JobExecutor, argv: list[str]) -> protocol.Ended:
        asked.append(argv)
        return command(self, argv)

    monkeypatch.setattr(JobExecutor, "_command", noting)
    held = on_slurm.model_copy(update={"extra_directives": ["--hold"]})
    errors: list[BaseException] = []

    @flow(task_runner=ClusterTaskRunner(held))
    def cancelled() -> None:
        futures = take.map(range(many))
        queued(futures[-1].task_run_id, "JobHeldUser")
        slurm.cancel_all_jobs()
        errors.extend(end_of(future).error for future in futures)

    cancelled(return_state=True)
    assert [type(error) for error in errors] == [JobCancelled] * many
    assert len(asked) <= 10, [argv[:5] for argv in asked]


# --- warm workers ---------------------------------------------------------------------------


@pytest.fixture(params=["local", pytest.param("over_ssh", marks=pytest.mark.every)])
def workers(request: pytest.FixtureRequest) -> LocalCluster | SSHCluster:
    """A cluster without a scheduler."""
    cluster: LocalCluster | SSHCluster = request.getfixturevalue(request.param)
    return cluster


def test_warm_workers(workers: LocalCluster | SSHCluster, far_dir: Path) -> None:
    ends: dict[str, End] = {}

    @flow(task_runner=ClusterTaskRunner(workers))
    def many_ends() -> None:
        with resources(time=2):
            limited = hang.submit(str(far_dir), "limited")
        futures = {
            "limited": limited,
            "left": leave.submit(3),
            "crashed": crash.submit(signal.SIGSEGV),
            "killed": crash.submit(signal.SIGKILL),
            "unreturned": give_a_lock.submit(),
            "unopened": take.submit(Unopenable()),
        }
        for name, future in futures.items():
            ends[name] = end_of(future)

    many_ends(return_state=True)
    errors = {name: end.error for name, end in ends.items()}
    assert_told(errors["limited"], TimeLimitExceeded, slurm=False)
    assert_told(errors["left"], WorkerFailed, slurm=False)
    assert errors["left"].exit_code == 3
    assert "leaving now" in errors["left"].stderr_tail
    assert_told(errors["crashed"], WorkerFailed, slurm=False)
    assert errors["crashed"].exit_code == -signal.SIGSEGV
    assert "SIGSEGV" in str(errors["crashed"])
    assert_told(errors["killed"], WorkerFailed, slurm=False)
    assert "SIGKILL" in str(errors["killed"])
    assert "memory" in str(errors["killed"])
    assert_told(errors["unreturned"], ResultNotPortable, slurm=False)
    assert_told(errors["unopened"], CallNotPortable, slurm=False)
    for end in ends.values():
        found = task_run(end.task_run_id)
        assert found.state is not None
        assert found.state.is_failed()
        assert found.run_count == 1


def test_warm_worker_that_does_not_start(
    workers: LocalCluster | SSHCluster, ssh_host: SSHHost, far_dir: Path
) -> None:
    link = far_dir / "python-of-the-site"
    link.symlink_to(workers.python or sys.executable)
    cluster = workers.model_copy(update={"python": str(link)})

    def submit() -> PrefectFuture[Any]:
        link.unlink()
        return take.submit(1)

    end = run_alone(cluster, submit)
    assert_told(end.error, WorkerNotStarted, slurm=False)
    assert task_run(end.task_run_id).run_count == 0

"""What the cluster took away is submitted again; the task's own retries are not asked."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prefect import flow, task
from prefect.futures import PrefectFuture

from clustrix_prefect import ClusterTaskRunner, SlurmCluster, resources
from clustrix_prefect.dispatch.places.jobs import JobExecutor
from clustrix_prefect.errors import (
    InfrastructureError,
    JobCancelled,
    JobLost,
    NodeFailure,
    Preempted,
)
from clustrix_prefect.schedulers.slurm import SlurmScheduler
from tests.contract.api import eventually, history, logs, task_run
from tests.dispatch.marks import left_by, mark, marks, wait_for_marks
from tests.live.slurm import CORES, URGENT_PARTITION, Slurm

pytestmark = pytest.mark.usefixtures("quick_prefect")


@task
def survive(directory: str, name: str) -> int:
    """Hangs the first time; then returns how often it began."""
    began = mark(directory, name)
    time.sleep(120 if began == 1 else 0.5)
    return began


@task
def take_a_while(directory: str, name: str) -> int:
    began = mark(directory, name)
    time.sleep(50)
    return began


@task
def nap(directory: str, name: str) -> int:
    began = mark(directory, name)
    time.sleep(12)
    return began


@task
def hang(directory: str, name: str) -> None:
    mark(directory, name)
    time.sleep(120)


def lose_and_regain(
    cluster: SlurmCluster, directory: Path, lose: Callable[[], None]
) -> PrefectFuture[Any]:
    """Run a call, lose it once when it runs, and see that it came back the second time."""
    kept = []

    @flow(task_runner=ClusterTaskRunner(cluster))
    def unlucky() -> int:
        future = survive.submit(str(directory), "body")
        kept.append(future)
        wait_for_marks(directory, 1)
        lose()
        return future.result()

    assert unlucky() == 2
    return kept[0]


def assert_requeued_unseen(future: PrefectFuture[Any], why: str) -> None:
    """The API shows one run that was queued twice."""
    found = task_run(future.task_run_id)
    assert found.run_count == 1, "the second submission was counted as a run"
    names = [state.name for state in history(future.task_run_id)]
    assert names[-3:] == ["Queued", "Running", "Completed"], names
    assert names.count("Running") == 2
    assert "Retrying" not in names
    assert "AwaitingRetry" not in names
    assert any(
        f"{why}" in line.message and "Submitting the call again (1 of 2)" in line.message
        for line in logs(future.task_run_id, "Submitting the call again")
    )


def test_node_failure(on_slurm: SlurmCluster, slurm: Slurm, far_dir: Path) -> None:
    def fail_the_node() -> None:
        with slurm.node_down():
            time.sleep(1)

    future = lose_and_regain(on_slurm, far_dir, fail_the_node)
    assert_requeued_unseen(future, "The node failed under the job.")


def preempt(slurm: Slurm) -> None:
    urgent = [f"--ntasks={CORES}", f"--partition={URGENT_PARTITION}", "--output=/dev/null"]
    assert slurm.command("sbatch", *urgent, "--wrap=sleep 4").returncode == 0


def test_preemption(on_slurm: SlurmCluster, slurm: Slurm, far_dir: Path) -> None:
    future = lose_and_regain(on_slurm, far_dir, lambda: preempt(slurm))
    assert_requeued_unseen(future, "The job was preempted")


def test_loss(on_slurm: SlurmCluster, slurm: Slurm, far_dir: Path) -> None:
    future = lose_and_regain(on_slurm, far_dir, slurm.forget_everything)
    assert_requeued_unseen(future, "The scheduler no longer knows the job")


def fail_the_node(slurm: Slurm) -> None:
    with slurm.node_down():
        time.sleep(1)


@pytest.mark.parametrize(
    ("lose", "kind", "remedy"),
    [
        (fail_the_node, NodeFailure, "Run the flow again"),
        (preempt, Preempted, "not preempted"),
        (Slurm.forget_everything, JobLost, "shared with the nodes"),
    ],
    ids=["node failure", "preemption", "loss"],
)
def test_requeues_are_counted(
    on_slurm: SlurmCluster,
    slurm: Slurm,
    far_dir: Path,
    lose: Callable[[Slurm], None],
    kind: type[InfrastructureError],
    remedy: str,
) -> None:
    errors = []

    @flow(task_runner=ClusterTaskRunner(on_slurm, requeues=0))
    def not_again() -> None:
        future = hang.submit(str(far_dir), "body")
        wait_for_marks(far_dir, 1)
        lose(slurm)
        future.wait()
        errors.append(future.state.result(raise_on_failure=False))
        assert task_run(future.task_run_id).run_count == 1

    not_again(return_state=True)
    error = errors[0]
    assert type(error) is kind
    assert error.job_id == left_by(far_dir, "body")["job"]
    assert error.node == slurm.node
    assert remedy in error.remedy
    assert marks(far_dir) == {"body": 1}


def test_a_controller_that_is_down_has_lost_nothing(
    on_slurm: SlurmCluster,
    slurm: Slurm,
    far_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It goes before it lists the job for the first time, and comes back."""
    answer = far_dir / "answer"
    submit = 'sbatch --parsable "$0"; until [ -e "$1" ]; do sleep 0.1; done'
    values = []

    @flow(task_runner=ClusterTaskRunner(on_slurm))
    def interrupted() -> None:
        survive.submit(str(far_dir), "earlier")
        wait_for_marks(far_dir, 1)
        # There is a listing by then, and the next one is not due soon.
        time.sleep(2 * on_slurm.patience.poll_max)
        monkeypatch.setattr(
            SlurmScheduler,
            "submit_command",
            lambda self, script, spec: ["sh", "-c", submit, script, str(answer)],
        )
        future = take_a_while.submit(str(far_dir), "body")
        left_by(far_dir, "body")
        slurm.controller.stop()
        answer.touch()
        try:
            time.sleep(4 * on_slurm.patience.unexplained)  # an unlisted job is looked for so long
        finally:
            slurm.controller.start()
        values.append(future.result())
        slurm.cancel_all_jobs()

    interrupted(return_state=True)
    assert values == [1]
    assert marks(far_dir)["body"] == 1
    assert "Submitting the call again" not in caplog.text


def test_a_listing_from_before_the_start_takes_nothing_away(
    on_slurm: SlurmCluster,
    far_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is heard of late, and then the controller cannot be asked."""
    executors: list[JobExecutor] = []
    make = JobExecutor.__init__

    def noting(self: JobExecutor, *arguments: Any) -> None:
        make(self, *arguments)
        executors.append(self)

    monkeypatch.setattr(JobExecutor, "__init__", noting)

    @flow(task_runner=ClusterTaskRunner(on_slurm))
    def late() -> int:
        future = nap.submit(str(far_dir), "body")
        eventually(lambda _: future.state, lambda state: state.is_running())
        job = left_by(far_dir, "body")["job"]
        with monkeypatch.context() as silent:
            for command in ("status_command", "details_command"):
                silent.setattr(SlurmScheduler, command, lambda self, of: ["false"])
            pending = f"{job}|PENDING||Resources||||nap"
            executors[0].on_event({"event": "status", "returncode": 0, "stdout": pending})
            time.sleep(on_slurm.patience.explained + 4)
        return future.result()

    assert late() == 1
    assert marks(far_dir)["body"] == 1
    assert "Submitting the call again" not in caplog.text


def test_the_tasks_retries_come_after(on_slurm: SlurmCluster, slurm: Slurm, far_dir: Path) -> None:
    """Lost for good, it is retried as the task says."""

    @flow(task_runner=ClusterTaskRunner(on_slurm, requeues=0))
    def again() -> int:
        future = survive.with_options(retries=1).submit(str(far_dir), "body")
        wait_for_marks(far_dir, 1)
        with slurm.node_down():
            time.sleep(1)
        value = future.result()
        assert task_run(future.task_run_id).run_count == 2
        names = [state.name for state in history(future.task_run_id)]
        assert "Retrying" in names
        return value

    assert again() == 2


def test_an_element_cancelled_while_it_waits_is_not_lost(
    on_slurm: SlurmCluster, slurm: Slurm, far_dir: Path
) -> None:
    """SLURM forgets such an element at once."""
    errors: list[Any] = []

    @flow(task_runner=ClusterTaskRunner(on_slurm))
    def waiting() -> None:
        with resources(cores=CORES // 2 + 1):
            futures = hang.map([str(far_dir)] * 3, ["a", "b", "c"])
        wait_for_marks(far_dir, 1)
        running = left_by(far_dir, next(iter(marks(far_dir))))["job"]
        # On a busy machine the calls go out as more than one submission: 3 are 1 + 2, or 2 + 1.
        elements = eventually(
            lambda _: slurm.queue(),
            lambda queue: len(queue) == 3 and any("_" in job for job in queue),
        )
        waiting_element = [job for job in elements if "_" in job and job != running][-1]
        scancel = slurm.command("scancel", waiting_element)
        assert scancel.returncode == 0, scancel.stderr
        ended = eventually(
            lambda _: [future for future in futures if future.state.is_final()], bool
        )
        ended[0].wait()  # the result itself is here, the API has only its text
        errors.append(ended[0].state.result(raise_on_failure=False))
        slurm.cancel_all_jobs()
        for future in futures:
            future.wait()

    waiting(return_state=True)
    assert type(errors[0]) is JobCancelled, repr(errors[0])
    assert len(marks(far_dir)) == 1

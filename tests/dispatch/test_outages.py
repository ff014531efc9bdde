"""What is to happen while the connection is down does happen, at the latest afterwards."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect import flow, task

from clustrix_prefect import ClusterTaskRunner, SlurmCluster, SSHCluster, resources
from clustrix_prefect.errors import InfrastructureError, QueueTimeout
from clustrix_prefect.schedulers.slurm import SlurmScheduler
from tests.contract.api import eventually, task_run, task_run_that
from tests.dispatch.marks import left_by, mark, marks, wait_for_marks
from tests.live.slurm import CORES, Slurm
from tests.live.ssh_host import SSHHost

pytestmark = pytest.mark.usefixtures("quick_prefect")

Cluster = SSHCluster | SlurmCluster
OPEN_AGAIN = "is open again"


@pytest.fixture(params=["over_ssh", "on_slurm"])
def cluster(request: pytest.FixtureRequest) -> Cluster:
    """A cluster at the end of an SSH connection."""
    found: Cluster = request.getfixturevalue(request.param)
    return found


@contextlib.contextmanager
def outage(ssh_host: SSHHost) -> Iterator[None]:
    """Break the connection, and let none be opened for a while."""
    ssh_host.stop_listening()
    try:
        assert ssh_host.drop_connections()
        yield
    finally:
        ssh_host.listen_again()


def wait_for_text(caplog: pytest.LogCaptureFixture, text: str) -> None:
    deadline = time.monotonic() + 60
    while text not in caplog.text:
        assert time.monotonic() < deadline, f"{text!r} was not logged"
        time.sleep(0.05)


def assert_ended(directory: Path) -> None:
    """Every body has been ended, or is within a while."""
    deadline = time.monotonic() + 60
    for path in directory.iterdir():
        while Path(f"/proc/{json.loads(path.read_text())['pid']}").exists():
            assert time.monotonic() < deadline, "a body runs on"
            time.sleep(0.1)


@task
def work(directory: str, name: str, seconds: float) -> str:
    mark(directory, name)
    time.sleep(seconds)
    return name.upper()


@task
def wait_for_gate(directory: str, gate: str) -> None:
    mark(directory, "body")
    while not os.path.exists(gate):
        time.sleep(0.1)


@task
def survive(directory: str, seconds: float) -> int:
    """Hangs the first time; then takes so long, and returns how often it began."""
    began = mark(directory, "body")
    time.sleep(120 if began == 1 else seconds)
    return began


def test_many_calls_that_are_submitted_meanwhile_run_once(
    over_ssh: SSHCluster, ssh_host: SSHHost, far_dir: Path
) -> None:
    names = [f"call-{n}" for n in range(400)]

    @flow(task_runner=ClusterTaskRunner(over_ssh))
    def cut_off() -> list[str]:
        work.submit(str(far_dir), "first", 0).result()
        with outage(ssh_host):
            futures = work.map([str(far_dir)] * len(names), names, 0)
            time.sleep(4)
        values: list[str] = futures.result()
        return values

    assert cut_off() == [name.upper() for name in names]
    assert marks(far_dir) == dict.fromkeys(["first", *names], 1)


@pytest.mark.parametrize(
    "cluster", [pytest.param("over_ssh", marks=pytest.mark.every), "on_slurm"], indirect=True
)
def test_timeouts_take_effect_meanwhile_and_reach_the_calls_later(
    cluster: Cluster, ssh_host: SSHHost, far_dir: Path
) -> None:
    states: list[str] = []
    limited = work.with_options(timeout_seconds=10)

    @flow(task_runner=ClusterTaskRunner(cluster))
    def cut_off() -> None:
        futures = limited.map([str(far_dir)] * 3, ["a", "b", "c"], 300)
        # A time-out counts from the start: it takes effect in an outage if the news of the start
        # came before. (If it did not: test_a_timeout_counts_from_a_start_that_nobody_saw.)
        for future in futures:
            task_run_that(future.task_run_id, lambda found: found.start_time is not None)
        with outage(ssh_host):
            for future in futures:
                future.wait(60)
            states.extend(str(future.state.name) for future in futures)
        assert_ended(far_dir)

    cut_off(return_state=True)
    assert states == ["TimedOut"] * 3
    assert_ended(far_dir)
    assert sum(marks(far_dir).values()) == 3


def test_a_call_that_ends_its_wait_meanwhile_is_never_begun(
    over_ssh: SSHCluster, ssh_host: SSHHost, far_dir: Path
) -> None:
    errors: list[Any] = []

    @flow(task_runner=ClusterTaskRunner(over_ssh))
    def cut_off() -> str:
        work.submit(str(far_dir), "first", 0).result()
        with outage(ssh_host):
            with resources(queue_timeout=1):
                future = work.submit(str(far_dir), "late", 0)
            future.wait(60)
            errors.append(future.state.result(raise_on_failure=False))
        value: str = work.submit(str(far_dir), "last", 0).result()
        return value

    assert cut_off() == "LAST"
    assert isinstance(errors[0], QueueTimeout), repr(errors[0])
    assert marks(far_dir) == {"first": 1, "last": 1}


def test_a_requeued_call_has_its_whole_time(
    over_ssh: SSHCluster, ssh_host: SSHHost, far_dir: Path
) -> None:
    """Its first attempt's time-out is not its second's."""

    @flow(task_runner=ClusterTaskRunner(over_ssh))
    def unlucky() -> int:
        future = survive.with_options(timeout_seconds=9).submit(str(far_dir), 7)
        pid = left_by(far_dir, "body")["pid"]
        time.sleep(2)
        with outage(ssh_host):
            os.kill(pid, signal.SIGKILL)
        value: int = future.result()
        return value

    assert unlucky() == 2


def test_a_timeout_counts_from_a_start_that_nobody_saw(
    on_slurm: SlurmCluster,
    slurm: Slurm,
    ssh_host: SSHHost,
    far_dir: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    found: list[Any] = []
    gate = far_dir / "gate"
    limited = wait_for_gate.with_options(timeout_seconds=8)

    @flow(task_runner=ClusterTaskRunner(on_slurm))
    def cut_off() -> None:
        blocker = slurm.command(
            "sbatch", "--parsable", f"--ntasks={CORES}", "--output=/dev/null", "--wrap=sleep 300"
        ).stdout.strip()
        future = limited.submit(str(far_dir), str(gate))
        eventually(lambda _: slurm.queue(), lambda queue: len(queue) == 2)
        task_run(future.task_run_id, "Queued")
        with outage(ssh_host):
            slurm.command("scancel", blocker)
            left_by(far_dir, "body")
            time.sleep(9)
        wait_for_text(caplog, OPEN_AGAIN)
        future.wait(10)
        gate.touch()
        future.wait()
        found.append((future.state.name, future.task_run_id))

    cut_off(return_state=True)
    ((state, task_run_id),) = found
    assert state == "TimedOut"
    started = task_run(task_run_id).start_time
    assert started is not None
    # It was seen 9 seconds later.
    assert abs(started.timestamp() - left_by(far_dir, "body")["time"]) < 5


def test_an_orphan_that_dies_is_replaced_without_another_break(
    over_ssh: SSHCluster,
    ssh_host: SSHHost,
    far_dir: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Connections of earlier tests break too, to the same host.
    monkeypatch.setattr(SSHCluster, "description", property(lambda self: self.remote_work_dir))
    again = f"The connection to {over_ssh.remote_work_dir} {OPEN_AGAIN}"

    @flow(task_runner=ClusterTaskRunner(over_ssh))
    def unlucky() -> int:
        future = survive.submit(str(far_dir), 0)
        pid = left_by(far_dir, "body")["pid"]
        assert ssh_host.drop_connections()
        wait_for_text(caplog, again)
        time.sleep(1)
        os.kill(pid, signal.SIGKILL)
        value: int = future.result()
        return value

    assert unlucky() == 2
    assert caplog.text.count(again) == 1, "the connection was given up once more"


def test_a_job_whose_submission_was_not_heard_is_cancelled(
    on_slurm: SlurmCluster,
    slurm: Slurm,
    ssh_host: SSHHost,
    far_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nobody knew its id when its call was given up."""
    submitting = far_dir / "submitting"
    slow = 'touch "$1"; sleep 2; sbatch --parsable "$0"'
    monkeypatch.setattr(
        SlurmScheduler,
        "submit_command",
        lambda self, script, spec: ["sh", "-c", slow, script, str(submitting)],
    )
    errors: list[Any] = []

    @flow(task_runner=ClusterTaskRunner(on_slurm))
    def cut_off() -> None:
        with resources(queue_timeout=6):
            future = work.submit(str(far_dir), "body", 300)
        while not submitting.exists():
            time.sleep(0.02)
        with outage(ssh_host):
            eventually(lambda _: slurm.queue(), bool)
            future.wait(60)
            errors.append(future.state.result(raise_on_failure=False))
        eventually(lambda _: slurm.queue(), lambda queue: not queue, within=40)

    try:
        cut_off(return_state=True)
        assert isinstance(errors[0], QueueTimeout), repr(errors[0])
        assert not slurm.queue()
    finally:
        slurm.cancel_all_jobs()


def test_a_call_whose_files_vanished_meanwhile_is_submitted_again(
    on_slurm: SlurmCluster, slurm: Slurm, ssh_host: SSHHost, far_dir: Path, remote_work_dir: Path
) -> None:
    @flow(task_runner=ClusterTaskRunner(on_slurm))
    def purged() -> int:
        future = survive.submit(str(far_dir), 0)
        wait_for_marks(far_dir, 1)
        with outage(ssh_host):
            shutil.rmtree(remote_work_dir / "runs")
        future.wait(90)
        value: int = future.result()
        return value

    try:
        assert purged() == 2
        eventually(lambda _: slurm.queue(), lambda queue: not queue)
    finally:
        slurm.cancel_all_jobs()


def test_a_call_whose_files_vanish_under_it_fails_by_name(
    on_slurm: SlurmCluster, far_dir: Path, remote_work_dir: Path
) -> None:
    errors: list[Any] = []

    @flow(task_runner=ClusterTaskRunner(on_slurm, requeues=0))
    def purged() -> None:
        future = work.submit(str(far_dir), "body", 3)
        wait_for_marks(far_dir, 1)
        shutil.rmtree(remote_work_dir / "runs")
        future.wait(90)
        errors.append(future.state.result(raise_on_failure=False))

    purged(return_state=True)
    assert isinstance(errors[0], InfrastructureError), repr(errors[0])
    assert errors[0].job_id == left_by(far_dir, "body")["job"]

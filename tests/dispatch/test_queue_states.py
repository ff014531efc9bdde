"""A call that waits in a queue is shown as waiting, with the reason; and only then as running."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest
from prefect import flow, task
from prefect.client.schemas.objects import StateType
from prefect.runtime import flow_run

from clustrix_prefect import ClusterTaskRunner, SlurmCluster, resources
from tests.contract.api import flow_run_logs, history, queued, task_run
from tests.dispatch.marks import mark
from tests.live.slurm import CORES, Slurm

pytestmark = pytest.mark.usefixtures("quick_prefect")


@task
def work(directory: str, name: str, seconds: float = 1) -> float:
    mark(directory, name)
    began = time.time()
    time.sleep(seconds)
    return began


@task
def take_time(_: int, seconds: float) -> tuple[float, float]:
    began = time.time()
    time.sleep(seconds)
    return began, time.time()


@task(retries=1, retry_delay_seconds=0.2)
def fail_at_first(directory: str, name: str) -> int:
    count = mark(directory, name)
    if count == 1:
        raise RuntimeError("not yet")
    return count


class Blocker:
    """A job that keeps the whole cluster busy until it is told to go."""

    def __init__(self, slurm: Slurm) -> None:
        self._slurm = slurm
        submitted = slurm.command(
            *("sbatch", "--parsable", f"--ntasks={CORES}", "--output=/dev/null"),
            "--wrap=sleep 120",
        )
        self._job = submitted.stdout.strip()
        while slurm.node_state() != "allocated":
            time.sleep(0.1)

    def end(self) -> None:
        self._slurm.command("scancel", self._job)


@pytest.fixture
def blocker(slurm: Slurm) -> Iterator[Blocker]:
    yield Blocker(slurm)
    slurm.cancel_all_jobs()


def test_from_the_queue_to_the_end(
    on_slurm: SlurmCluster, slurm: Slurm, blocker: Blocker, far_dir: Path
) -> None:
    waited = 2.0

    @flow(task_runner=ClusterTaskRunner(on_slurm))
    def patient() -> tuple[UUID, float, float]:
        future = work.submit(str(far_dir), "call")
        state = queued(future.task_run_id, "Resources")
        assert state.type is StateType.PENDING
        (job,) = [job for job in slurm.queue() if job != blocker._job]
        assert state.message == f"SLURM job {job}: Resources"
        assert task_run(future.task_run_id, "Queued").start_time is None
        time.sleep(waited)
        released = time.time()
        blocker.end()
        return future.task_run_id, released, future.result()

    task_run_id, released, began = patient()
    run = task_run(task_run_id, "Completed")
    assert [state.name for state in history(task_run_id)] == [
        "Pending",
        "Queued",
        "Running",
        "Completed",
    ]
    assert run.start_time is not None
    assert run.end_time is not None
    assert released < run.start_time.timestamp() <= began + 0.5
    assert run.run_count == 1
    assert 0.9 < run.total_run_time.total_seconds() <= run.end_time.timestamp() - released
    assert run.estimated_start_time_delta.total_seconds() > waited


def test_reasons_are_told_when_they_change(
    on_slurm: SlurmCluster, slurm: Slurm, blocker: Blocker, far_dir: Path
) -> None:
    @flow(task_runner=ClusterTaskRunner(on_slurm))
    def held() -> UUID:
        future = work.submit(str(far_dir), "call")
        message = queued(future.task_run_id, "Resources").message
        job = str(message).removeprefix("SLURM job ").partition(":")[0]
        slurm.command("scontrol", "hold", job)
        queued(future.task_run_id, "JobHeldAdmin")
        time.sleep(4)
        slurm.command("scontrol", "release", job)
        blocker.end()
        future.result()
        return future.task_run_id

    told = [state.message for state in history(held()) if state.name == "Queued"]
    assert all(one != next_one for one, next_one in itertools.pairwise(told)), "told twice"
    assert 2 <= len(told) <= 4


def test_the_log_says_once_for_all_calls_of_a_job_why_they_wait(
    on_slurm: SlurmCluster, slurm: Slurm, blocker: Blocker, far_dir: Path
) -> None:
    @flow(task_runner=ClusterTaskRunner(on_slurm))
    def patient() -> UUID:
        futures = work.map([str(far_dir)] * 3, ["a", "b", "c"], 0.1)
        for future in futures:
            queued(future.task_run_id, "SLURM job")
        blocker.end()
        futures.result()
        return flow_run.id

    lines = [line.message for line in flow_run_logs(patient(), "Finished in state")]
    (submitted,) = [line for line in lines if line.startswith("Submitted 3 calls of work as SLURM")]
    job = submitted.rpartition(" ")[2]
    told = [line for line in lines if "Queued" in line]
    assert told
    assert len(told) == len(set(told)), "told twice"
    assert all(line.startswith(f"Queued: SLURM job {job}: ") for line in told)
    assert any("not free yet" in line or "other jobs go first" in line for line in told)


def test_elements_that_wait_for_each_other(on_slurm: SlurmCluster, far_dir: Path) -> None:
    @flow(task_runner=ClusterTaskRunner(on_slurm))
    def one_by_one() -> list[UUID]:
        with resources(max_parallel_jobs=1):
            futures = work.map([str(far_dir)] * 3, ["a", "b", "c"], 2.5)
        assert futures.result()
        return [future.task_run_id for future in futures]

    told: set[str] = set()
    for task_run_id in one_by_one():
        states = history(task_run_id)
        names = [state.name for state in states]
        assert names[-2:] == ["Running", "Completed"]
        assert names.count("Running") == 1
        told.update(str(state.message) for state in states if state.name == "Queued")
    # Which ones wait for another depends on how many went out together.
    assert any("JobArrayTaskLimit" in message for message in told)


def test_a_map_that_takes_several_arrays_keeps_to_its_limit(
    on_slurm: SlurmCluster,
) -> None:
    narrow = on_slurm.model_copy(update={"max_array_size": 2})

    @flow(task_runner=ClusterTaskRunner(narrow))
    def limited() -> list[tuple[float, float]]:
        with resources(max_parallel_jobs=1):
            spans: list[tuple[float, float]] = take_time.map(range(5), 1.5).result()
        return spans

    spans = sorted(limited())
    for (_, before), (after, _) in itertools.pairwise(spans):
        assert before <= after, "two ran at once"


def test_a_retry_is_shown_as_one(on_slurm: SlurmCluster, far_dir: Path) -> None:
    @flow(task_runner=ClusterTaskRunner(on_slurm))
    def second_chance() -> UUID:
        future = fail_at_first.submit(str(far_dir), "call")
        assert future.result() == 2
        return future.task_run_id

    task_run_id = second_chance()
    names = [state.name for state in history(task_run_id) if state.name != "Queued"]
    assert names == ["Pending", "Running", "AwaitingRetry", "Retrying", "Completed"]
    assert task_run(task_run_id, "Completed").run_count == 2

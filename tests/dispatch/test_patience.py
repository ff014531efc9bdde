"""What a cluster waits for by default; the other tests' clusters wait for less."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from uuid import UUID

import pytest
from prefect import flow, task

from clustrix_prefect import ClusterTaskRunner, LocalCluster, SlurmCluster
from clustrix_prefect.far_side.wire.patience import Patience
from clustrix_prefect.schedulers.scheduler import JobStatus
from clustrix_prefect.schedulers.slurm import SlurmScheduler
from tests.contract.api import task_run
from tests.dispatch.marks import left_by, mark

pytestmark = pytest.mark.usefixtures("quick_prefect")


@task
def leave(directory: str, name: str, code: int) -> None:
    """Ends its process without a result."""
    mark(directory, name)
    os._exit(code)


@task
def stay(directory: str) -> None:
    """Does not end when it is asked to."""
    signal.signal(signal.SIGTERM, lambda *_: mark(directory, "asked"))
    mark(directory, "body")
    while True:
        time.sleep(0.05)


def test_a_block_has_the_real_values(tmp_path: Path) -> None:
    cluster = LocalCluster(remote_work_dir=str(tmp_path))
    assert cluster.patience == Patience(2.0, 10.0, 4.0, 5.0, 1.0, 10.0)


def test_a_result_may_come_late(on_slurm_site: SlurmCluster, far_dir: Path) -> None:
    patient = on_slurm_site.model_copy()
    patient._patience = Patience()

    @flow(task_runner=ClusterTaskRunner(patient, requeues=0))
    def waits() -> dict[str, UUID]:
        codes = {"explained": 3, "unexplained": 0}
        futures = {name: leave.submit(str(far_dir), name, code) for name, code in codes.items()}
        for future in futures.values():
            future.wait()
        return {name: future.task_run_id for name, future in futures.items()}

    for name, task_run_id in waits().items():
        ended = task_run(task_run_id, "Failed").end_time
        assert ended is not None
        waited = ended.timestamp() - left_by(far_dir, name)["time"]
        assert waited > getattr(Patience(), name), name


def test_it_has_as_long_if_its_job_was_seen_while_the_node_is_cleared(
    on_slurm_site: SlurmCluster, far_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only later does the scheduler say that it ended well."""
    patient = on_slurm_site.model_copy()
    patient._patience = Patience(explained=0.0, unexplained=4.0)
    parse = SlurmScheduler.parse_status

    def completing(self: SlurmScheduler, stdout: str) -> Mapping[str, JobStatus]:
        return parse(self, stdout.replace("|COMPLETED|", "|COMPLETING|"))

    monkeypatch.setattr(SlurmScheduler, "parse_status", completing)

    @flow(task_runner=ClusterTaskRunner(patient, requeues=0))
    def waits() -> UUID:
        future = leave.submit(str(far_dir), "body", 0)
        future.wait()
        return future.task_run_id

    ended = task_run(waits(), "Failed").end_time
    assert ended is not None
    assert ended.timestamp() - left_by(far_dir, "body")["time"] > 4.0


def test_a_worker_has_time_to_end(local: LocalCluster, far_dir: Path) -> None:
    patient = local.model_copy()
    patient._patience = Patience()

    @flow(task_runner=ClusterTaskRunner(patient))
    def gives_up() -> None:
        stay.with_options(timeout_seconds=1).submit(str(far_dir)).wait()

    gives_up(return_state=True)
    began, pid = left_by(far_dir, "asked")["time"], left_by(far_dir, "body")["pid"]
    while Path(f"/proc/{pid}").exists():
        time.sleep(0.05)
    assert time.time() - began > Patience().worker_grace - 0.5

"""How calls are put into jobs and arrays on a real SLURM, and what comes of sharing a job."""

from __future__ import annotations

import os
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from prefect import flow, task

from clustrix_prefect import ClusterTaskRunner, SlurmCluster, resources
from clustrix_prefect.errors import WorkerFailed
from clustrix_prefect.schedulers.slurm import SlurmScheduler
from tests.contract.api import history
from tests.dispatch.marks import mark, marks
from tests.dispatch.test_named_failures import end_of
from tests.live.slurm import Slurm

pytestmark = pytest.mark.usefixtures("quick_prefect")


@task
def where(_: int) -> tuple[str, int]:
    """The job, or the array, and the process that this runs in."""
    variables = os.environ
    return variables.get("SLURM_ARRAY_JOB_ID") or variables["SLURM_JOB_ID"], os.getpid()


@task
def second_of_three(directory: str, number: int, what: str) -> str:
    """The one that begins as the second does something; in what job the others ran."""
    if mark(directory, "call") == 2:
        mark(directory, f"{what} {number}")
        if what == "leaves":
            os._exit(3)
        time.sleep(120)
    return os.environ["SLURM_JOB_ID"]


def test_calls_that_share_a_job(on_slurm: SlurmCluster) -> None:
    @flow(task_runner=ClusterTaskRunner(on_slurm))
    def shared() -> list[tuple[str, int]]:
        with resources(calls_per_job=3):
            found: list[tuple[str, int]] = where.map(range(7)).result()
        return found

    found = shared()
    assert len({array for array, _ in found}) == 1
    assert sorted(Counter(pid for _, pid in found).values()) == [1, 3, 3]


@pytest.mark.parametrize(("what", "failure"), [("leaves", WorkerFailed), ("hangs", TimeoutError)])
def test_the_third_call_of_a_job_that_ends_under_its_second(
    on_slurm: SlurmCluster, far_dir: Path, what: str, failure: type[Exception]
) -> None:
    """The second fails, of itself or because it took too long; the third runs elsewhere."""
    ends: list[BaseException | str] = []

    @flow(task_runner=ClusterTaskRunner(on_slurm))
    def shared() -> None:
        with resources(calls_per_job=3):
            limited = second_of_three.with_options(timeout_seconds=5)
            futures = limited.map(str(far_dir), range(3), what)
        ends.extend(end_of(future).error for future in futures)

    shared(return_state=True)
    (failed,) = (end for end in ends if not isinstance(end, str))
    assert isinstance(failed, failure)
    assert f"{what} {ends.index(failed)}" in marks(far_dir)
    assert marks(far_dir)["call"] == 3, "each began once"
    first, third = (end for end in ends if end is not failed)
    assert first != third


def test_a_map_that_is_longer_than_an_array_may_be(on_slurm: SlurmCluster, slurm: Slurm) -> None:
    """SLURM itself says how long that is, and refuses what is longer."""
    with slurm.configured(MaxArraySize="5"):

        @flow(task_runner=ClusterTaskRunner(on_slurm))
        def long_map() -> list[tuple[str, int]]:
            found: list[tuple[str, int]] = where.map(range(12)).result()
            return found

        sizes = Counter(array for array, _ in long_map())
    assert sum(sizes.values()) == 12
    assert max(sizes.values()) == 5


def test_what_sbatch_refuses_for_now_goes_in_smaller_parts(
    on_slurm: SlurmCluster, far_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a QoS with a limit does it; a SLURM without accounting has none."""
    refused = far_dir / "refused"
    words = (
        "sbatch: error: QOSMaxSubmitJobPerUserLimit\n"
        "sbatch: error: Batch job submission failed: Job violates accounting/QOS policy"
        " (job submit limit, user's size and/or time limits)"
    )
    once = 'if mkdir "$1" 2>/dev/null; then echo "$2" >&2; exit 1; fi; sbatch --parsable "$0"'
    monkeypatch.setattr(
        SlurmScheduler,
        "submit_command",
        lambda self, script, spec: ["sh", "-c", once, script, str(refused), words],
    )
    kept: list[Any] = []

    @flow(task_runner=ClusterTaskRunner(on_slurm))
    def patient() -> list[tuple[str, int]]:
        futures = where.map(range(3))
        kept.extend(futures)
        found: list[tuple[str, int]] = futures.result()
        return found

    assert len({job for job, _ in patient()}) > 1
    assert refused.exists()
    for future in kept:
        assert history(future.task_run_id)[-1].name == "Completed"

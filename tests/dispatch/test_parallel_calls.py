"""How many calls run at once where the block does not say."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from prefect import flow, task

from clustrix_prefect import ClusterTaskRunner, LocalCluster
from tests.dispatch.marks import mark, marks

pytestmark = pytest.mark.usefixtures("quick_prefect")


@task
def linger(directory: str, name: str) -> int:
    """How many others had begun and not ended by then."""
    mark(directory, f"begun-{name}")
    time.sleep(0.5)
    names = [path.name for path in Path(directory).iterdir()]
    begun = sum(other.startswith("begun-") for other in names)
    ended = sum(other.startswith("ended-") for other in names)
    mark(directory, f"ended-{name}")
    return begun - ended - 1


@pytest.mark.parametrize("variable", ["SLURM_CPUS_ON_NODE", "NSLOTS"])
def test_in_a_job_as_many_as_it_has_cores(
    variable: str,
    quick_prefect: None,
    tmp_path: Path,
    far_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """SLURM and Grid Engine tell a job its cores, whether or not they bind it to them."""
    monkeypatch.setenv(variable, "1")
    cluster = LocalCluster(remote_work_dir=str(tmp_path / "work"))

    @flow(task_runner=ClusterTaskRunner(cluster))
    def narrow() -> list[int]:
        found: list[int] = linger.map(str(far_dir), ["a", "b", "c"]).result()
        return found

    assert narrow() == [0, 0, 0]
    assert len(marks(far_dir)) == 6

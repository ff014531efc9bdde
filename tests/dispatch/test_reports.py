"""What a flow run's page shows of its calls: a table of all, a page for each failure, progress."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect import flow, runtime, task
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import Artifact

from clustrix_prefect import ClusterTaskRunner, LocalCluster, SlurmCluster, SSHCluster, resources
from clustrix_prefect.dispatch.call import Call
from clustrix_prefect.dispatch.places.run_session import RunSession
from clustrix_prefect.far_side.wire.protocol import Diagnosis
from tests.contract.api import eventually, task_run
from tests.dispatch.marks import mark, wait_for_marks

pytestmark = pytest.mark.usefixtures("quick_prefect")


@task(task_run_name="measure-{megabytes}")
def measure(megabytes: int) -> int:
    kept = b"x" * (megabytes * 2**20)
    time.sleep(1)
    return len(kept)


@task
def stumble(what: str) -> None:
    print("<b>close</b> to the `edge`", file=sys.stderr)
    raise ValueError(f"no | such | {what}")


@task
def leave() -> None:
    print("leaving now", file=sys.stderr)
    os._exit(7)


@task
def swell(megabytes: int, die: bool) -> None:
    kept = b"x" * (megabytes * 2**20)
    if die:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(30)
    print(len(kept))


@task
def wait_for_gate(directory: str, name: str) -> None:
    mark(directory, name)
    while not os.path.exists(os.path.join(directory, "gates", name)):
        time.sleep(0.05)


def artifacts(flow_run_id: UUID, key: str, count: int = 1) -> list[Artifact]:
    """The artifacts of a flow run with this key, once there are so many."""
    of_flow_run = {"flow_run_id": {"any_": [str(flow_run_id)]}, "key": {"any_": [key]}}

    def read(client: SyncPrefectClient) -> list[Artifact]:
        answer = client.request("POST", "/artifacts/filter", json={"artifacts": of_flow_run})
        return Artifact.model_validate_list(answer.json())

    return eventually(read, lambda found: len(found) == count)


def rows_of(flow_run_id: UUID) -> dict[str, dict[str, Any]]:
    """The table of calls, by the task run's name."""
    (table,) = artifacts(flow_run_id, "cluster-calls")
    assert table.type == "table"
    rows: Any = json.loads(table.data) if isinstance(table.data, str) else table.data
    return {row["call"].replace("\\", ""): row for row in rows}


def test_the_table_of_calls(on_slurm: SlurmCluster) -> None:
    @flow(task_runner=ClusterTaskRunner(on_slurm))
    def measured() -> UUID:
        measure.map([1, 60]).wait()
        stumble.with_options(task_run_name="stumbled").submit("x").wait()
        leave.with_options(task_run_name="left").submit().wait()
        return UUID(str(runtime.flow_run.id))

    rows = rows_of(measured())
    assert list(rows)[:2] == ["stumbled", "left"], "failures come first"
    small, large = rows["measure-1"], rows["measure-60"]
    for row in (small, large):
        assert row["state"] == "done"
        assert row["node"] == os.uname().nodename
        job, _, index = row["job"].partition("_")
        assert job.isdigit()
        assert index in ("0", "1")
        assert 0 <= float(row["queued (s)"]) < 60
        assert 1 <= float(row["ran (s)"]) < 60
        assert row["exit code"] == "0"
        assert row["why"] == ""
    assert 5 < float(small["peak memory (MiB)"]) < 60
    assert 60 < float(large["peak memory (MiB)"]) < 120
    assert rows["stumbled"]["state"] == rows["left"]["state"] == "failed"
    assert "ValueError: no" in rows["stumbled"]["why"]
    assert rows["left"]["exit code"] == "7"
    assert "WorkerFailed" in rows["left"]["why"]
    assert rows["left"]["job"].isdigit()


@pytest.mark.parametrize("where", ["over_ssh", "local"])
def test_the_table_without_a_scheduler(where: str, request: pytest.FixtureRequest) -> None:
    cluster: SSHCluster | LocalCluster = request.getfixturevalue(where)

    @flow(task_runner=ClusterTaskRunner(cluster))
    def measured() -> UUID:
        measure.map([1, 60]).wait()
        leave.with_options(task_run_name="left").submit().wait()
        return UUID(str(runtime.flow_run.id))

    rows = rows_of(measured())
    large = rows["measure-60"]
    assert large["node"] == os.uname().nodename
    assert large["pid"].isdigit()
    assert large["job"] == ""
    assert 60 < float(large["peak memory (MiB)"]) < 200
    assert float(rows["measure-1"]["peak memory (MiB)"]) < 60, "the peak of another call"
    assert rows["left"]["exit code"] == "7"


@pytest.mark.parametrize("where", ["over_ssh", "on_slurm"])
def test_calls_without_a_result_have_a_row_and_a_page(
    where: str, far_dir: Path, request: pytest.FixtureRequest
) -> None:
    cluster = request.getfixturevalue(where).model_copy(update={"max_parallel_calls": 1})

    @flow(task_runner=ClusterTaskRunner(cluster))
    def failing() -> UUID:
        # All cores of the SLURM, and the only worker elsewhere.
        with resources(cores=64):
            blocking = wait_for_gate.submit(str(far_dir), "blocking")
            wait_for_marks(far_dir, 1)
            with resources(queue_timeout=2):
                wait_for_gate.with_options(task_run_name="queued").submit(str(far_dir), "x").wait()
            (far_dir / "gates").mkdir()
            (far_dir / "gates" / "blocking").touch()
            blocking.wait()
        slow = wait_for_gate.with_options(task_run_name="slow", timeout_seconds=1)
        slow.submit(str(far_dir), "slow").wait()
        with resources(memory="64MB"):
            swell.with_options(task_run_name="swollen").submit(400, where == "over_ssh").wait()
        return UUID(str(runtime.flow_run.id))

    flow_run_id = failing()
    rows = rows_of(flow_run_id)
    pages = {str(page.data) for page in artifacts(flow_run_id, "cluster-call-failed", count=3)}
    for name, failure in {
        "queued": "QueueTimeout",
        "slow": "TaskRunTimeoutError",
        "swollen": "WorkerFailed" if where == "over_ssh" else "OutOfMemory",
    }.items():
        assert rows[name]["why"].startswith(failure), rows[name]
        (page,) = (page for page in pages if f"**{failure}**" in page)
        if where == "on_slurm":
            assert "#SBATCH" in page
    assert 64 < float(rows["swollen"]["peak memory (MiB)"]) < 600
    assert rows["swollen"]["exit code"] not in ("", "0")


def test_the_memory_of_a_worker_that_ended_is_that_of_its_last_call(local: LocalCluster) -> None:
    @flow(task_runner=ClusterTaskRunner(local.model_copy(update={"max_parallel_calls": 1})))
    def measured() -> UUID:
        measure.submit(100).wait()
        leave.with_options(task_run_name="left").submit().wait()
        return UUID(str(runtime.flow_run.id))

    rows = rows_of(measured())
    assert float(rows["measure-100"]["peak memory (MiB)"]) > 100
    assert 5 < float(rows["left"]["peak memory (MiB)"]) < 100


def test_the_page_of_a_failure(on_slurm: SlurmCluster) -> None:
    task_runs: dict[str, UUID] = {}

    @flow(task_runner=ClusterTaskRunner(on_slurm))
    def failing() -> UUID:
        with resources(memory="300MB"):
            futures = {"stumbled": stumble.submit("x"), "left": leave.submit()}
        for name, future in futures.items():
            future.wait()
            task_runs[name] = future.task_run_id
        return UUID(str(runtime.flow_run.id))

    pages = {
        page.task_run_id: page for page in artifacts(failing(), "cluster-call-failed", count=2)
    }
    assert {page.type for page in pages.values()} == {"markdown"}
    left, stumbled = str(pages[task_runs["left"]].data), str(pages[task_runs["stumbled"]].data)
    assert "WorkerFailed" in left
    assert "What to do:" in left
    assert "leaving now" in left
    assert "| Exit code | 7 |" in left
    assert "ValueError" in stumbled
    assert "no \\| such \\| x" in stumbled
    assert "<b>close</b> to the `edge`" in stumbled
    assert "| Arguments | what='x' |" in stumbled
    assert "in stumble\n" in stumbled.partition("### Traceback")[2]
    code = stumbled.partition("### The code")[2].partition("###")[0]
    assert 'raise ValueError(f"no | such | {what}")' in code
    assert "def stumble(what: str)" in code
    assert "clustrix_prefect" not in stumbled.partition("### Traceback")[2].partition("###")[0]
    for page in (left, stumbled):
        assert "#SBATCH --mem=300M" in page.partition("<details><summary>Job script</summary>")[2]
        assert "worker.py" in page


def test_what_failed_before_it_ran_is_on_the_timeline(local: LocalCluster) -> None:
    @flow(task_runner=ClusterTaskRunner(local))
    def refused() -> UUID:
        future = stumble.submit(threading.Lock())
        future.wait()
        return future.task_run_id

    found = task_run(refused(), "Failed")
    assert found.start_time is not None
    assert found.end_time is not None
    assert found.run_count == 0

    # The page draws what this has.
    def drawn(client: SyncPrefectClient) -> dict[str, Any]:
        graph = client.request("GET", f"/flow_runs/{found.flow_run_id}/graph-v2").json()  # type: ignore[arg-type]
        return {node["id"]: node for _, node in graph["nodes"]}

    node = eventually(drawn, lambda nodes: str(found.id) in nodes)[str(found.id)]
    assert node["state_type"] == "FAILED"
    assert None not in (node["start_time"], node["end_time"])


def test_a_long_map_shows_its_progress(
    local: LocalCluster,
    far_dir: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("_REPORT_AFTER_SECONDS", "_REPORT_SECONDS", "_LOOK_AT_FLOW_RUN_SECONDS"):
        monkeypatch.setattr(f"clustrix_prefect.dispatch.runtime.{name}", 0.5)
    gates = far_dir / "gates"
    gates.mkdir()

    @flow(task_runner=ClusterTaskRunner(local))
    def long_map() -> UUID:
        futures = wait_for_gate.map([str(far_dir)] * 8, [f"call-{n}" for n in range(8)])
        wait_for_marks(far_dir, 4)
        for path in list(far_dir.glob("call-*"))[:2]:
            (gates / path.stem).touch()
        wait_for_marks(far_dir, 6)
        flow_run_id = UUID(str(runtime.flow_run.id))
        halfway = eventually(
            lambda client: artifacts(flow_run_id, "cluster-progress"),
            lambda found: "2 done" in str(found[0].description),
        )[0]
        assert halfway.type == "progress"
        assert halfway.data == 25
        assert "2 queued, 4 running, 2 done, 0 failed" in str(halfway.description)
        for n in range(8):
            (gates / f"call-{n}").touch()
        futures.wait()
        return flow_run_id

    (final,) = artifacts(long_map(), "cluster-progress")
    assert final.data == 100
    assert "0 queued, 0 running, 8 done, 0 failed" in str(final.description)
    assert "2 queued, 4 running, 2 done, 0 failed" in caplog.text


def test_a_failed_task_run_does_not_wait_for_its_page(
    local: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What there is to be seen of it is asked of a cluster that may not answer just now."""
    answers = threading.Event()
    diagnose = RunSession.diagnose

    def diagnose_later(self: RunSession, call: Call) -> Diagnosis:
        assert answers.wait(60)
        return diagnose(self, call)

    monkeypatch.setattr(RunSession, "diagnose", diagnose_later)

    @flow(task_runner=ClusterTaskRunner(local))
    def failing() -> UUID:
        future = stumble.submit("thing")
        future.wait(60)
        assert future.state.is_failed()
        answers.set()
        return UUID(str(runtime.flow_run.id))

    (page,) = artifacts(failing(), "cluster-call-failed")
    assert "to the `edge`" in str(page.data)

"""Calls whose pods do not come at once, or not at all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from prefect import flow, runtime, task

from clustrix_prefect import (
    ClusterTaskRunner,
    KubernetesCluster,
    ManagedEnvironment,
    resources,
)
from clustrix_prefect.errors import ConnectionLost, JobLost, QueueTimeout, WorkerNotStarted
from clustrix_prefect.kubernetes.api import KubernetesApi
from clustrix_prefect.sessions.session import Session
from tests.contract.api import history
from tests.dispatch.api import ended_task_runs
from tests.dispatch.test_named_failures import run_alone
from tests.live.daemon import wait_until

if TYPE_CHECKING:
    from tests.live.kubernetes.cluster import Kubernetes, OwnKubernetes

pytestmark = pytest.mark.usefixtures("quick_prefect")


@task
def double(number: int) -> int:
    return number * 2


@pytest.fixture
def jobs_made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the jobs that the API server has taken."""
    made: list[str] = []
    create = KubernetesApi.create_job

    def create_job(api: KubernetesApi, manifest: dict[str, Any]) -> dict[str, Any]:
        answer = create(api, manifest)
        made.append(manifest["metadata"]["name"])
        return answer

    monkeypatch.setattr(KubernetesApi, "create_job", create_job)
    return made


def doubled(cluster: KubernetesCluster, calls: int) -> list[int]:
    @flow(task_runner=ClusterTaskRunner(cluster))
    def doubling() -> list[int]:
        values: list[int] = double.map(range(calls)).result()
        return values

    return doubling()


def test_calls_are_gathered_into_pods(
    on_kubernetes: KubernetesCluster, jobs_made: list[str]
) -> None:
    cluster = on_kubernetes.model_copy(update={"calls_per_pod": 10, "max_pods": 2})
    assert doubled(cluster, 60) == [2 * number for number in range(60)]
    # All but the last ones, of which there is one for each pod at once, have taken ten.
    assert len(set(jobs_made)) == len(jobs_made)
    assert len(jobs_made) <= 60 / 10 + 2 - 1


def test_calls_wait_for_a_quota_of_jobs_while_other_pods_run(
    on_kubernetes: KubernetesCluster, kubernetes: Kubernetes
) -> None:
    limits = "--hard=count/jobs.batch=2"
    kubernetes.kubectl("-n", on_kubernetes.namespace, "create", "quota", "two", limits)
    cluster = on_kubernetes.model_copy(update={"calls_per_pod": 2, "max_pods": 8})
    assert doubled(cluster, 8) == [2 * number for number in range(8)]


def test_an_image_that_does_not_say_its_python(
    on_kubernetes: KubernetesCluster, own_kubernetes: OwnKubernetes
) -> None:
    image = own_kubernetes.tagged(on_kubernetes.image, "docker.io/clustrix/anything:1")
    cluster = on_kubernetes.model_copy(update={"image": image, "calls_per_pod": 1})
    assert doubled(cluster, 3) == [0, 2, 4]


@pytest.fixture
def nowhere(on_kubernetes: KubernetesCluster) -> KubernetesCluster:
    """A cluster no node of which takes a pod, one of which has to say what Python it has."""
    return on_kubernetes.model_copy(
        update={
            "node_selector": {"planet": "mars"},
            "start_timeout": 3000,
            "managed_environment": ManagedEnvironment(requirements=["packaging"]),
        }
    )


def test_a_call_that_cannot_be_packed_yet_waits_in_the_queue(nowhere: KubernetesCluster) -> None:
    with resources(queue_timeout=6):
        end = run_alone(nowhere, lambda: double.submit(1))
    assert type(end.error) is QueueTimeout
    assert "Unschedulable: 0/" in str(end.error)
    queued = [state for state in history(end.task_run_id, "Failed") if state.name == "Queued"]
    assert any("Unschedulable: 0/" in str(state.message) for state in queued)


def test_a_call_that_cannot_be_packed_yet_is_cancelled(
    nowhere: KubernetesCluster, kubernetes: Kubernetes
) -> None:
    seen = []

    @flow(task_runner=ClusterTaskRunner(nowhere))
    def failing() -> None:
        future = double.submit(1)
        wait_until(lambda: future.state.name == "Queued", 60)
        seen.append(UUID(runtime.flow_run.id))
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        failing()
    (run,) = ended_task_runs(seen[0], 1)
    assert run.state is not None
    assert run.state.is_cancelled()
    wait_until(lambda: not kubernetes.objects(nowhere.namespace), 30)


def test_a_pod_that_is_lost_as_soon_as_it_is_open_is_replaced_a_few_times_only(
    on_kubernetes: KubernetesCluster, jobs_made: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: set[Session] = set()
    really_open = Session.open

    def open_once(session: Session) -> None:
        if session in opened:
            raise ConnectionLost("The stream broke.")
        opened.add(session)
        really_open(session)
        assert session._way is not None
        session._way.connection.close()

    monkeypatch.setattr(Session, "open", open_once)
    cluster = on_kubernetes.model_copy(update={"reconnect_seconds": 1})
    error = run_alone(cluster, lambda: double.submit(1), requeues=2).error
    assert type(error) is JobLost
    assert len(jobs_made) == 3


def test_an_image_without_a_shell(on_kubernetes: KubernetesCluster) -> None:
    # A container does not count as running before this has ended.
    hook = {"exec": {"command": ["python3", "-c", "import os; os.remove('/bin/sh')"]}}
    container = {"name": "calls", "lifecycle": {"postStart": hook}}
    template = {"spec": {"containers": [container]}}
    patient = {"start_timeout": 3000, "reconnect_seconds": 3000, "pod_template": template}
    cluster = on_kubernetes.model_copy(update=patient)
    error: Any = run_alone(cluster, lambda: double.submit(1)).error
    assert type(error) is WorkerNotStarted
    assert "/bin/sh" in error.remedy
    assert error.job_id
    assert error.node


@pytest.mark.parametrize(("keep", "is_left"), [("always", True), ("never", False)])
def test_job_files_on_a_work_volume(
    on_kubernetes: KubernetesCluster, own_kubernetes: OwnKubernetes, keep: str, is_left: bool
) -> None:
    with own_kubernetes.claim(on_kubernetes.namespace) as claim:
        fields = {"work_volume_claim": claim, "keep_job_files": keep}
        assert doubled(on_kubernetes.model_copy(update=fields), 1) == [0]
        runs = own_kubernetes.directory_of(claim) / "work" / "runs"
        assert any(path.is_file() for path in runs.rglob("*")) == is_left

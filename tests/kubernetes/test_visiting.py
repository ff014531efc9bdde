"""A pod for questions: `check`, `jobs` and whoever else asks a cluster something."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
from prefect import flow, task

from clustrix_prefect import ClusterTaskRunner, KubernetesCluster, cluster_ls
from clustrix_prefect.cli.main import main
from clustrix_prefect.errors import PodDeleted, Unschedulable
from clustrix_prefect.sessions.opened import opened
from clustrix_prefect.validation.access import check_access
from clustrix_prefect.validation.filesystem import check_filesystem
from tests.live.clusters import kubernetes_cluster
from tests.live.kubernetes.cluster import Kubernetes
from tests.live.pythons import FarPythons

READ = {
    "apiGroups": ["batch", ""],
    "resources": ["jobs", "pods", "events"],
    "verbs": ["list", "watch"],
}


@pytest.fixture
def namespace(kubernetes: Kubernetes) -> Iterator[str]:
    with kubernetes.namespace() as name:
        yield name


@pytest.fixture
def cluster(kubernetes: Kubernetes, namespace: str, far_pythons: FarPythons) -> KubernetesCluster:
    return kubernetes_cluster(kubernetes, namespace, far_pythons)


@pytest.fixture
def name_of(prefect_server: object) -> Iterator[Callable[[KubernetesCluster], str]]:
    """Saves a block, and says what it is called on the command line."""

    def save(cluster: KubernetesCluster) -> str:
        cluster.save("visited", overwrite=True, _sync=True)  # type: ignore[call-arg]
        return "kubernetes-cluster/visited"

    yield save
    KubernetesCluster.delete("visited", _sync=True)  # type: ignore[call-arg]


def test_what_check_finds(
    cluster: KubernetesCluster,
    kubernetes: Kubernetes,
    name_of: Callable[[KubernetesCluster], str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["check", name_of(cluster), "--json"]) == 0
    found = {one["name"]: one for one in json.loads(capsys.readouterr().out)["findings"]}
    assert found["API server"]["value"].startswith("Kubernetes v1.")
    assert cluster.namespace in found["permissions"]["value"]
    assert found["image"]["value"] == cluster.image
    assert found["Python"]["value"]
    assert found["round trip"]["value"].endswith("ms")
    assert not kubernetes.objects(cluster.namespace, "jobs")


def test_what_check_says_of_an_account_that_may_only_look(
    cluster: KubernetesCluster,
    kubernetes: Kubernetes,
    name_of: Callable[[KubernetesCluster], str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    kubeconfig = kubernetes.user_kubeconfig(cluster.namespace, [READ])
    onlooker = cluster.model_copy(update={"kubeconfig_path": str(kubeconfig)})
    assert main(["check", name_of(onlooker), "--json"]) == 1
    found = {one["name"]: one for one in json.loads(capsys.readouterr().out)["findings"]}
    assert "create jobs" in found["permissions"]["problem"]
    assert 'apiGroups: ["batch"], resources: ["jobs"]' in found["permissions"]["remedy"]
    assert "may not create jobs" in found["connection"]["problem"]


def test_a_visit_leaves_nothing(cluster: KubernetesCluster, kubernetes: Kubernetes) -> None:
    with opened(cluster) as there:
        assert there.work_dir == "/clustrix-prefect/work"
        assert len(kubernetes.objects(cluster.namespace, "jobs")) == 1
    assert not kubernetes.objects(cluster.namespace, "jobs")


def test_a_visit_that_finds_no_node(cluster: KubernetesCluster, kubernetes: Kubernetes) -> None:
    far = cluster.model_copy(update={"node_selector": {"planet": "mars"}, "start_timeout": 3})
    with pytest.raises(Unschedulable, match="0/"), closing(far.connect()):
        pass
    assert not kubernetes.objects(cluster.namespace, "jobs")


def test_validation_and_questions_about_files(cluster: KubernetesCluster) -> None:
    checks = [*check_access("pods", cluster), *check_filesystem("pods", cluster, [])]
    assert [(check.name, check.problem) for check in checks if check.problem] == []
    assert {"round trip", "write, read, delete in ~"} <= {check.name for check in checks}
    assert "clustrix-prefect" in cluster_ls("/", cluster)


def test_jobs_are_listed_and_cancelled(
    cluster: KubernetesCluster,
    kubernetes: Kubernetes,
    name_of: Callable[[KubernetesCluster], str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    name = name_of(cluster)
    listed: list[Any] = []

    @task
    def wait() -> None:
        import time

        time.sleep(60)

    @flow(task_runner=ClusterTaskRunner(cluster))
    def waiting() -> Any:
        future = wait.submit()
        while not (listed and listed[-1] and listed[-1][0]["running"]):
            assert main(["jobs", "list", name, "--json"]) == 0
            listed.append(json.loads(capsys.readouterr().out))
        assert main(["jobs", "cancel", name, "--yes"]) == 0
        return future.result(raise_on_failure=False)

    # The call is over, and is not submitted again.
    assert type(waiting()) is PodDeleted
    (job,) = listed[-1]
    assert job["job"].startswith("clustrix-")
    assert job["name"], "the flow run's name"
    assert not kubernetes.objects(cluster.namespace, "jobs")

"""Who may log in to a namespace, and what happens to those who may not do enough."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
import yaml
from kubernetes.config import incluster_config
from prefect import flow, task

from clustrix_prefect import ClusterTaskRunner, KubernetesCluster
from clustrix_prefect.errors import KubernetesForbidden
from clustrix_prefect.kubernetes.permissions import NEEDED
from clustrix_prefect.sessions.job_listing import NamespaceJobs

if TYPE_CHECKING:
    from tests.live.kubernetes.cluster import Kubernetes

pytestmark = pytest.mark.usefixtures("quick_prefect")

GUIDE = Path(__file__).parents[2] / "docs/guides/kubernetes.md"


@task
def double(number: int) -> int:
    return number * 2


def rules_of_guide() -> list[dict[str, Any]]:
    """What the Role that people are told to make allows."""
    blocks = re.findall(r"```yaml\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    roles = [one for one in map(yaml.safe_load, blocks) if one.get("kind") == "Role"]
    (role,) = roles
    rules: list[dict[str, Any]] = role["rules"]
    return rules


def without(verb: str, resource: str) -> list[dict[str, Any]]:
    """The same, but for one thing."""
    return [
        {**rule, "verbs": [one for one in rule["verbs"] if one != verb]}
        if rule["resources"] == [resource]
        else rule
        for rule in rules_of_guide()
    ]


@pytest.fixture
def account(
    on_kubernetes: KubernetesCluster, kubernetes: Kubernetes
) -> Callable[[list[dict[str, Any]]], KubernetesCluster]:
    """The cluster, used by somebody who may do no more than these rules allow."""

    def use(rules: list[dict[str, Any]]) -> KubernetesCluster:
        path = kubernetes.user_kubeconfig(on_kubernetes.namespace, rules)
        return on_kubernetes.model_copy(update={"kubeconfig_path": str(path)})

    return use


def test_from_inside_a_cluster_with_no_more_than_the_role_of_the_guide(
    account: Callable[..., KubernetesCluster], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a pod: there is no kubeconfig, but the files and variables of its service account."""
    cluster = account(rules_of_guide())
    assert cluster.kubeconfig_path is not None
    kubeconfig = yaml.safe_load(Path(cluster.kubeconfig_path).read_text())
    server = kubeconfig["clusters"][0]["cluster"]
    address = urlsplit(server["server"])
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", str(address.hostname))
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(address.port))
    (token := tmp_path / "token").write_text(kubeconfig["users"][0]["user"]["token"])
    (authority := tmp_path / "ca.crt").write_bytes(
        base64.b64decode(server["certificate-authority-data"])
    )
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(token))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(authority))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    inside = cluster.model_copy(update={"kubeconfig_path": None})

    @flow(task_runner=ClusterTaskRunner(inside))
    def doubled() -> list[int]:
        values: list[int] = double.map(range(3)).result()
        return values

    assert doubled() == [0, 2, 4]
    with closing(inside.api()) as api:
        assert NamespaceJobs(api).find() == []
        assert api.missing_permissions() == []


def test_the_role_of_the_guide_allows_what_is_needed_and_no_more() -> None:
    allowed = [
        f"{verb} {rule['resources'][0]}" for rule in rules_of_guide() for verb in rule["verbs"]
    ]
    assert allowed == [str(permission) for permission in NEEDED]


@pytest.mark.parametrize(
    ("verb", "resource"),
    [("create", "jobs"), ("watch", "pods"), ("get", "pods/exec")],
)
def test_what_the_account_may_not_do_is_named_at_once(
    account: Callable[..., KubernetesCluster], verb: str, resource: str
) -> None:
    # Longer than any test may take.
    patient = {"start_timeout": 3000, "reconnect_seconds": 3000}
    cluster = account(without(verb, resource)).model_copy(update=patient)

    @flow(task_runner=ClusterTaskRunner(cluster))
    def refused() -> int:
        return double.submit(1).result()

    with pytest.raises(KubernetesForbidden) as caught:
        refused()
    assert f"may not {verb} {resource} in namespace {cluster.namespace}" in str(caught.value)
    assert f'resources: ["{resource}"], verbs: ["{verb}"]' in caught.value.remedy

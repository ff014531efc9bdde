"""Nothing secret is seen of a pod: not by who may read the namespace, nor on its node."""

from __future__ import annotations

import os
import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml
from prefect import flow, task

from clustrix_prefect import ClusterTaskRunner, KubernetesCluster
from clustrix_prefect.packaging.signing import client_secret
from tests.credentials.scanner import Scanner
from tests.dispatch.marks import mark, wait_for_marks
from tests.dispatch.test_kubernetes import pod_names
from tests.dispatch.test_kubernetes_access import rules_of_guide
from tests.live.daemon import wait_until

if TYPE_CHECKING:
    from tests.live.kubernetes.cluster import OwnKubernetes

pytestmark = pytest.mark.usefixtures("quick_prefect")

EVERYTHING = "jobs,pods,events,configmaps,secrets"


@task(log_prints=True)
def work(directory: str, control: str, secret: str) -> str:
    """Leak the control into the pod's own log, and wait to be looked at."""
    with open("/proc/1/fd/1", "w") as log_of_the_pod:
        log_of_the_pod.write(control + "\n")
    print(f"the argument has {len(secret)} letters")
    mark(directory, "looked-at")
    while not os.path.exists(os.path.join(directory, "gates", "open")):
        time.sleep(0.1)
    return secret[::-1]


def test_no_secret_is_seen_of_a_pod(
    on_kubernetes: KubernetesCluster, own_kubernetes: OwnKubernetes, far_dir: Path
) -> None:
    namespace = on_kubernetes.namespace
    access = own_kubernetes.user_kubeconfig(namespace, rules_of_guide()).read_text()
    control, argument = f"control-{secrets.token_hex(12)}", f"argument-{secrets.token_hex(12)}"
    scanner = Scanner(
        {
            "token": yaml.safe_load(access)["users"][0]["user"]["token"],
            "argument": argument,
            "result": argument[::-1],
            "signing secret": client_secret(),
            "control": control,
        }
    )
    cluster = on_kubernetes.model_copy(
        update={
            "kubeconfig_path": None,
            "kubeconfig": type(on_kubernetes)(kubeconfig=access).kubeconfig,
            "environment": {"CONTROL": control},
        }
    )
    (far_dir / "gates").mkdir()
    seen: dict[str, set[str]] = {}

    @flow(task_runner=ClusterTaskRunner(cluster))
    def looked_at() -> str:
        future = work.submit(str(far_dir), control, argument)
        wait_for_marks(far_dir, 1)
        (pod,) = pod_names(own_kubernetes, namespace)
        for place, text in {
            "objects": own_kubernetes.kubectl("-n", namespace, "get", EVERYTHING, "-o", "yaml"),
            "log": own_kubernetes.kubectl("-n", namespace, "logs", pod),
        }.items():
            seen[place] = scanner.in_bytes(text.encode())
        for place, found in scanner.in_processes(os.getpid()).items():
            seen.setdefault(place.partition(" ")[2], set()).update(found)
        (far_dir / "gates" / "open").touch()
        return future.result()

    assert looked_at() == argument[::-1]

    def events() -> str:
        return own_kubernetes.kubectl("-n", namespace, "get", "events", "-o", "yaml")

    # The node tells of what it did when it has the time.
    wait_until(lambda: "Started container calls" in events())
    assert not scanner.in_bytes(events().encode())
    # The control, which is no secret, is found wherever one would be.
    assert {place for place, found in seen.items() if found} == {"objects", "log", "environ"}
    assert {name.partition(" (")[0] for found in seen.values() for name in found} == {"control"}

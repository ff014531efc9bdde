"""Calls in pods, beside what Kubernetes itself takes for as many pods that start Python."""

from __future__ import annotations

import statistics
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from kubernetes import client, watch
from kubernetes.config import new_client_from_config
from prefect import flow, runtime

from clustrix_prefect import ClusterTaskRunner, KubernetesCluster, resources
from clustrix_prefect.kubernetes.api import KubernetesApi
from tests.bench.apart import apart
from tests.bench.flows import at_random_phase, noop, timed
from tests.bench.lab import Lab
from tests.bench.table import Bound, Part, Row, milliseconds, spread

SINGLE_CALLS = 10
# Fewer than a pod takes.
WARM_CALLS = 5
CALLS = 200
MANY_CALLS = 1000
ROUNDS = 3

_ONE_SHARE = 1.5


@dataclass
class Times:
    """What a flow found out.

    Attributes:
        one: Seconds of single calls, each in a new pod, and of the floor.
        warm: Seconds of single calls in a pod that has run one before.
        calls: Seconds of many calls, and of the floor.
        requests: How many the API server got for `MANY_CALLS` calls.
        many_seconds: How long those took.
        flow_run_id: The flow run.
    """

    one: dict[str, list[float]] = field(default_factory=dict)
    warm: list[float] = field(default_factory=list)
    calls: dict[str, list[float]] = field(default_factory=dict)
    requests: int = 0
    many_seconds: float = 0.0
    flow_run_id: UUID | None = None


class BareJobs:
    """Jobs that start Python and end, observed by one watch."""

    def __init__(self, cluster: KubernetesCluster) -> None:
        self._cluster = cluster
        self._api = client.BatchV1Api(new_client_from_config(cluster.kubeconfig_path))

    def one(self) -> None:
        self._run(1)

    def many(self) -> None:
        self._run(CALLS // self._cluster.calls_per_pod)

    def _run(self, jobs: int) -> None:
        group = uuid.uuid4().hex[:8]
        namespace = self._cluster.namespace
        since = self._api.list_namespaced_job(namespace, limit=1).metadata.resource_version
        waiting = [f"floor-{group}-{number}" for number in range(jobs)]
        running = {self._create(waiting, group) for _ in range(min(jobs, self._cluster.max_pods))}
        events = watch.Watch().stream(
            self._api.list_namespaced_job,
            namespace,
            label_selector=f"floor={group}",
            resource_version=since,
        )
        for event in events:
            job = event["object"]
            name = job.metadata.name
            kinds = {one.type for one in job.status.conditions or [] if one.status == "True"}
            assert "Failed" not in kinds, job
            if "Complete" not in kinds or name not in running:
                continue
            running.discard(name)
            self._api.delete_namespaced_job(name, namespace, propagation_policy="Background")
            if waiting:
                running.add(self._create(waiting, group))
            elif not running:
                return

    def _create(self, waiting: list[str], group: str) -> str:
        """Make the next of the jobs that wait; returns its name."""
        cluster, name, labels = self._cluster, waiting.pop(), {"floor": group}
        amounts = {"memory": str(cluster.resources.memory)}
        container: dict[str, Any] = {
            "name": "floor",
            "image": cluster.image,
            "imagePullPolicy": cluster.image_pull_policy,
            "command": ["python", "-c", "pass"],
            "resources": {"requests": amounts, "limits": amounts},
        }
        pod = {
            "metadata": {"labels": labels},
            "spec": {"restartPolicy": "Never", "containers": [container]},
        }
        manifest = {
            "metadata": {"name": name, "labels": labels},
            "spec": {"backoffLimit": 0, "template": pod},
        }
        self._api.create_namespaced_job(cluster.namespace, manifest)
        return name


def measure(lab: Lab) -> Part:
    """One call and many, in turn with bare jobs; then what many ask of the API server."""
    lab.prefect  # noqa: B018
    cluster = lab.kubernetes_cluster()
    times = apart(lab.log, take_times, cluster)
    assert times.flow_run_id is not None
    lab.settle(times.flow_run_id, 1 + SINGLE_CALLS + WARM_CALLS + ROUNDS * CALLS + MANY_CALLS)
    return _part(times, cluster)


def take_times(cluster: KubernetesCluster) -> Times:
    """Time everything within one flow."""
    bare = BareJobs(cluster)
    opened = _remember_apis()

    @flow(task_runner=ClusterTaskRunner(cluster))
    def measured() -> Times:
        noop.submit(0).result()
        times = Times(flow_run_id=UUID(runtime.flow_run.id))
        ones = {"floor": bare.one, "ours": _one_in_a_pod_of_its_own}
        times.one = at_random_phase(ones, SINGLE_CALLS)
        times.warm = [timed(lambda: noop.submit(1).result()) for _ in range(WARM_CALLS)]
        many = {"floor": bare.many, "ours": lambda: noop.map(range(CALLS)).result()}
        times.calls = at_random_phase(many, ROUNDS)
        before = sum(api.requests for api in opened)
        times.many_seconds = timed(lambda: noop.map(range(MANY_CALLS)).result())
        times.requests = sum(api.requests for api in opened) - before
        return times

    return measured()


def _one_in_a_pod_of_its_own() -> None:
    with resources(calls_per_job=1):
        noop.submit(1).result()


def _remember_apis() -> Sequence[KubernetesApi]:
    """All API clients that this process makes from now on."""
    opened: list[KubernetesApi] = []
    make = KubernetesCluster.api

    def api(cluster: KubernetesCluster) -> KubernetesApi:
        opened.append(make(cluster))
        return opened[-1]

    KubernetesCluster.api = api  # type: ignore[assignment, method-assign]
    return opened


def _part(times: Times, cluster: KubernetesCluster) -> Part:
    per_pod = cluster.calls_per_pod
    part = Part(f"Kubernetes: one call, {CALLS} calls, and what {MANY_CALLS:,} ask for")
    rows = (
        ("one call, in a new pod", times.one, Bound("<=", _ONE_SHARE)),
        (f"{CALLS} calls, {per_pod} a pod", times.calls, None),
    )
    for what, took, bound in rows:
        shares = [mine / bare for mine, bare in zip(took["ours"], took["floor"], strict=True)]
        share = statistics.median(took["ours"]) / statistics.median(took["floor"])
        part.rows.append(
            Row(
                f"KubernetesCluster: {what}",
                spread(took["ours"], " s", 2),
                spread(took["floor"], " s", 2),
                f"{share:.2f} ({min(shares):.2f} to {max(shares):.2f})",
                bound,
                share,
            )
        )
    part.rows.append(
        Row("KubernetesCluster: one call, in a pod that is there", milliseconds(times.warm))
    )
    part.rows.append(
        Row(
            f"KubernetesCluster: API requests for {MANY_CALLS:,} calls, {per_pod} a pod",
            f"{times.requests:,}",
            "",
            f"{times.requests / MANY_CALLS:.2f} a call, {times.many_seconds:,.0f} s",
        )
    )
    part.remarks += [
        "Floor: a Job of the same image and memory that runs `python -c pass`, from its creation "
        f"until a watch says Complete; for {CALLS} calls, {CALLS // per_pod} such Jobs.",
        f"At most {cluster.max_pods} pods at once, ours and the floor's, on one node of this "
        "machine.",
    ]
    return part

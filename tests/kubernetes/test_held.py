"""How long a pod may take to start is counted from when its job is no longer held."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

from clustrix_prefect.dispatch.places import pod as pod_module
from clustrix_prefect.dispatch.places.pod import Pod, PodQueue
from clustrix_prefect.errors import QuotaExceeded, WorkerNotStarted
from clustrix_prefect.kubernetes.status import PodPhase, PodStatus
from clustrix_prefect.task_resources import Resources


class Pods:
    """The pods of a flow run, as far as one asks them; whose time to start is over at once."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.cluster = SimpleNamespace(start_timeout=0)
        self.asked = threading.Semaphore(0)

    def is_wanted(self, pod: Pod) -> bool:
        self.asked.release()
        return True

    def some_run(self, but: Pod) -> bool:
        return False

    def say_waiting(self, group: PodQueue, reason: str) -> None:
        """Nobody is told."""


def test_a_pod_waits_for_as_long_as_its_job_is_held() -> None:
    pods: Any = Pods()
    pod = Pod(pods, "j", None)
    pod.status = PodStatus(job="j", reason="Suspended", held=True)
    with ThreadPoolExecutor(1) as threads:
        waits = threads.submit(pod._wait_until_it_runs)
        for _ in range(3):
            assert pods.asked.acquire(timeout=60)
        with pods.lock:
            pod.status = PodStatus(job="j", pod="j-1", phase=PodPhase.RUNNING)
            pod.changed.notify_all()
        assert waits.result(60)


def test_a_pod_whose_job_nobody_holds_is_late() -> None:
    pods: Any = Pods()
    pod = Pod(pods, "j", None)
    pod.status = PodStatus(job="j", reason="admitted, no pod yet")
    with pytest.raises(WorkerNotStarted, match="admitted, no pod yet"):
        pod._wait_until_it_runs()


class Started(Pods):
    """Another of these pods starts while this one finds no room."""

    def is_wanted(self, pod: Pod) -> bool:
        assert pod.group is not None
        pod.group.refused_since = None
        return False


@pytest.mark.parametrize(("pods", "is_given_up"), [(Pods(), True), (Started(), False)])
def test_a_quota_is_waited_for_while_others_start(
    pods: Any, is_given_up: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pod_module, "_QUOTA_SECONDS", 0.01)
    pod = Pod(pods, "j", PodQueue(Resources(), calls_per_pod=1, max_pods=2))
    pod.status = PodStatus(job="j").ended(QuotaExceeded("No room.", "Wait."))
    with pods.lock:
        if is_given_up:
            with pytest.raises(QuotaExceeded):
                pod._wait_until_it_runs()
        else:
            assert not pod._wait_until_it_runs()

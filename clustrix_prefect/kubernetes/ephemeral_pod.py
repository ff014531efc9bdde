"""A pod of its own for somebody who has questions: it goes when they do."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Any

from clustrix_prefect.connections.connection import Channel
from clustrix_prefect.errors import ClustrixError
from clustrix_prefect.kubernetes.api import KubernetesApi
from clustrix_prefect.kubernetes.exec import PodConnection
from clustrix_prefect.kubernetes.pods import CONTAINER
from clustrix_prefect.kubernetes.status import PodPhase, PodStatus
from clustrix_prefect.kubernetes.watching import PodWatch


class EphemeralPod:
    """A connection into a pod that is made for it, and deleted when it is closed.

    Args:
        api: Where to make the pod; closed with the connection.
        manifest: Its job.
        start_timeout: Seconds that it may take to start.

    Raises:
        InfrastructureError: The pod does not start.
        ConnectionFailed: The API server cannot be reached, or refuses us.
    """

    def __init__(self, api: KubernetesApi, manifest: dict[str, Any], start_timeout: int) -> None:
        self._api = api
        self._name = manifest["metadata"]["name"]
        self._status = PodStatus(job=self._name)
        self._changed = threading.Condition()
        self._watch = PodWatch(api, f"job-name={self._name}", self._on_change)
        self._pod: PodConnection | None = None
        try:
            self._watch.expect(self._name)
            self._watch.start()
            self._watch.made(self._name, api.create_job(manifest))
            self._pod = self._enter(start_timeout)
        except BaseException:
            self.close()
            raise
        self.description, self.facts = self._pod.description, self._pod.facts

    def _enter(self, start_timeout: int) -> PodConnection:
        deadline = time.monotonic() + start_timeout
        with self._changed:
            while self._status.phase is PodPhase.PENDING:
                if self._status.held:
                    deadline = time.monotonic() + start_timeout
                left = deadline - time.monotonic()
                if left <= 0:
                    raise self._status.late(start_timeout)
                self._changed.wait(min(left, 1.0))
            if self._status.failure is not None:
                raise self._status.failure
            assert self._status.pod is not None
            return self._api.connect(self._status.pod, CONTAINER)

    def _on_change(self, status: PodStatus) -> None:
        with self._changed:
            self._status = status
            self._changed.notify_all()

    def start(self, command: str) -> Channel:
        assert self._pod is not None
        return self._pod.start(command)

    def close(self) -> None:
        if self._pod is not None:
            self._pod.close()
        self._watch.forget(self._name)
        self._watch.close()
        with contextlib.suppress(ClustrixError):  # the pod ends by itself when nobody is there
            self._api.delete_job(self._name)
        self._api.close()

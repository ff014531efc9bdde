"""One namespace of an API server: jobs, pods, events, and the way into a pod."""

from __future__ import annotations

import contextlib
import itertools
import json
import time
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import quote, urlencode

from clustrix_prefect.errors import (
    AuthenticationFailed,
    ClustrixError,
    ConnectionFailed,
    ConnectionLost,
    KubernetesForbidden,
    QuotaExceeded,
    SubmissionRefused,
)
from clustrix_prefect.kubernetes.access import Access
from clustrix_prefect.kubernetes.exec import PodConnection, open_websocket
from clustrix_prefect.kubernetes.login import Credentials, KubernetesLogin
from clustrix_prefect.kubernetes.passing import is_not_allowed, request_passes
from clustrix_prefect.kubernetes.permissions import API_GROUPS, NEEDED, Permission

_ANSWER_SECONDS = 30.0
# A managed API server that is being replaced is away for about this long.
_PATIENCE_SECONDS = 60.0
# Who is told one of these need not ask again.
REFUSALS = (AuthenticationFailed, KubernetesForbidden)


class WatchExpired(Exception):
    """The server no longer has what happened since (410 Gone): list, and watch from there."""


class KubernetesApi:
    """Objects are plain dictionaries, as the API's JSON has them. Threads may share it.

    Args:
        access: What to log in with.
        namespace: Where the objects are. Default: as kubectl has it, the context's, in a pod
            that of its service account, or `default`.
        patience: Seconds to go on asking a server that is away or overloaded.

    Attributes:
        requests: How many requests were made.
    """

    def __init__(
        self, access: Access, namespace: str | None = None, *, patience: float | None = None
    ) -> None:
        self._patience = _PATIENCE_SECONDS if patience is None else patience
        self._login = KubernetesLogin(access)
        credentials = self._login.current
        self.namespace = namespace or credentials.namespace or "default"
        self._host = str(credentials.configuration.host).rstrip("/")
        self._count = itertools.count(1)
        self.requests = 0

    def close(self) -> None:
        """Close the connections that are not in use."""
        self._login.current.pool.clear()

    # --- objects ---------------------------------------------------------------------------

    def create_job(self, manifest: dict[str, Any]) -> dict[str, Any]:
        """Create a job. Its name is ours, so doing so twice makes one.

        Raises:
            QuotaExceeded: A quota leaves no room.
            SubmissionRefused: The server will not take it.
        """
        name = manifest["metadata"]["name"]
        # Servers before 1.25 ignore this, and drop fields that they do not know.
        path = f"{self._path('jobs')}?fieldValidation=Strict"
        return self._request("POST", path, manifest, "create", "jobs", name)

    def delete_job(self, name: str, grace_seconds: int = 1) -> None:
        """Delete a job and its pods; one that is not there is fine."""
        body = {"propagationPolicy": "Background", "gracePeriodSeconds": grace_seconds}
        self._request("DELETE", self._path("jobs", name), body, "delete", "jobs")

    def list_jobs(self, selector: str) -> list[dict[str, Any]]:
        """Return the jobs whose labels fit."""
        found: list[dict[str, Any]] = self._list("jobs", labelSelector=selector)["items"]
        return found

    def find_job(self, name: str) -> dict[str, Any] | None:
        """Return the job of this name; None if there is none, or it is being deleted."""
        found = self._list("jobs", fieldSelector=f"metadata.name={name}")["items"]
        return next((one for one in found if "deletionTimestamp" not in one["metadata"]), None)

    def list_pods(self, selector: str) -> tuple[list[dict[str, Any]], str]:
        """Return the pods whose labels fit, and the version from which a watch goes on."""
        answer = self._list("pods", labelSelector=selector)
        return answer["items"], answer["metadata"]["resourceVersion"]

    def list_events(self, field_selector: str) -> list[dict[str, Any]]:
        """Return what was reported about objects."""
        found: list[dict[str, Any]] = self._list("events", fieldSelector=field_selector)["items"]
        return found

    def watch_pods(
        self, selector: str, resource_version: str, timeout_seconds: int
    ) -> Iterator[dict[str, Any]]:
        """Events of pods since a version, bookmarks among them, until the server ends it.

        The server has agreed when this returns; who does not read it to its end closes it.

        Raises:
            WatchExpired: The version is too old; also while it is read.
            ConnectionFailed: The server went away, or refuses us.
        """
        query = {
            "labelSelector": selector,
            "resourceVersion": resource_version,
            "timeoutSeconds": timeout_seconds,
            "allowWatchBookmarks": "true",
            "watch": "true",
        }
        import urllib3

        path = f"{self._path('pods')}?{urlencode(query)}"
        try:
            response = self._send("GET", path, None, timeout_seconds + _ANSWER_SECONDS)
        except urllib3.exceptions.HTTPError as error:
            raise self._refusal("watch", "pods", 0, b"", error) from error
        if response.status < 400:
            return _events(response)
        with contextlib.closing(response):
            if response.status == 410:
                raise WatchExpired
            raise self._refusal("watch", "pods", response.status, response.read())

    def server_version(self) -> str:
        """Such as "v1.30.2"."""
        return str(self._request("GET", "/version", None, "get", "version")["gitVersion"])

    def missing_permissions(self, needed: Sequence[Permission] = NEEDED) -> list[Permission]:
        """What calls need and this account may not do."""
        return [permission for permission in needed if not self._may(permission)]

    def _may(self, permission: Permission) -> bool:
        resource, _, subresource = permission.resource.partition("/")
        attributes = {
            "namespace": self.namespace,
            "verb": permission.verb,
            "group": API_GROUPS.get(resource, ""),
            "resource": resource,
            "subresource": subresource,
        }
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }
        path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        answer = self._request("POST", path, body, "create", "selfsubjectaccessreviews")
        return bool(answer["status"]["allowed"])

    def connect(self, pod: str, container: str) -> PodConnection:
        """Return the way into a running container."""
        where = f"pod {pod} in {self.namespace}"

        def open_stream(command: list[str]) -> Any:
            import websocket

            streams = dict.fromkeys(("stdin", "stdout", "stderr"), "true")
            query = urlencode([("container", container), *streams.items()])
            query += "".join(f"&command={quote(word)}" for word in command)
            url = f"{self._host}{self._path('pods', pod)}/exec?{query}"
            credentials = self._login.current
            try:
                try:
                    return self._open_stream(url, credentials)
                except websocket.WebSocketBadStatusException as error:
                    if error.status_code != 401:
                        raise
                return self._open_stream(url, self._login.refused(credentials))
            except websocket.WebSocketBadStatusException as error:
                body = error.resp_body or b""
                raise self._refusal("get", "pods/exec", error.status_code, body) from error
            except (OSError, websocket.WebSocketException) as error:
                raise ConnectionLost(f"The way to {where} cannot be opened: {error}.") from error

        return PodConnection(open_stream, where)

    def _open_stream(self, url: str, credentials: Credentials) -> Any:
        self.requests = next(self._count)
        return open_websocket(credentials.configuration, url, credentials.headers)

    # --- requests --------------------------------------------------------------------------

    def _path(self, resource: str, name: str = "") -> str:
        group = API_GROUPS.get(resource)
        version = f"/apis/{group}/v1" if group else "/api/v1"
        path = f"{version}/namespaces/{self.namespace}/{resource}"
        return f"{path}/{quote(name)}" if name else path

    def _list(self, resource: str, **query: str) -> dict[str, Any]:
        path = f"{self._path(resource)}?{urlencode(query)}"
        return self._request("GET", path, None, "list", resource)

    def _request(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None,
        verb: str,
        resource: str,
        name: str = "",
    ) -> dict[str, Any]:
        import urllib3

        deadline, pause, tried = time.monotonic() + self._patience, 0.2, False
        while True:
            failure: Exception | None = None
            wait = pause
            try:
                response = self._send(method, path, body)
                with contextlib.closing(response):
                    status, data = response.status, response.read()
                    wait = max(pause, _seconds(response.headers.get("Retry-After")))
            except urllib3.exceptions.HTTPError as error:
                status, data, failure = 0, b"", error
            if status and status < 400:
                answer: dict[str, Any] = json.loads(data)
                return answer
            if status == 404 and verb == "delete":
                return {}
            passes = request_passes(status, _message(data))
            if status == 409 and verb == "create" and tried and not passes:
                there = self._list(resource, fieldSelector=f"metadata.name={name}")["items"]
                if there:  # the lost answer was a yes
                    return dict(there[0])
            untrusted = isinstance(getattr(failure, "reason", failure), urllib3.exceptions.SSLError)
            if not passes or untrusted or time.monotonic() + wait > deadline:
                raise self._refusal(verb, resource, status, data, failure) from failure
            tried = True
            time.sleep(wait)
            pause = min(pause * 2, 5.0)

    def _send(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None,
        timeout: float = _ANSWER_SECONDS,
    ) -> Any:
        """Send a request, and once more with new credentials if these are not accepted."""
        credentials = self._login.current
        response = self._send_as(credentials, method, path, body, timeout)
        if response.status != 401:
            return response
        response.close()
        return self._send_as(self._login.refused(credentials), method, path, body, timeout)

    def _send_as(
        self,
        credentials: Credentials,
        method: str,
        path: str,
        body: dict[str, Any] | None,
        timeout: float,
    ) -> Any:
        from urllib3 import HTTPHeaderDict

        self.requests = next(self._count)
        headers = HTTPHeaderDict([("Accept", "application/json"), *credentials.headers])
        if body is not None:
            headers["Content-Type"] = "application/json"
        return credentials.pool.request(
            method,
            self._host + path,
            headers=headers,
            body=None if body is None else json.dumps(body),
            preload_content=False,
            retries=False,
            timeout=timeout,
        )

    def _refusal(
        self, verb: str, resource: str, status: int, data: bytes, failure: object = None
    ) -> ClustrixError:
        said = _message(data) or str(failure or f"status {status}")
        if status == 401:
            return AuthenticationFailed(
                f"{self._host} does not accept the credentials: {said}.",
                "Log in to the cluster again, or name other credentials in the block.",
            )
        if status == 403 and "exceeded quota" in said:
            return QuotaExceeded(
                f"A quota of namespace {self.namespace} leaves no room: {said}.",
                "Ask for less, lower `max_pods`, or have the quota raised.",
            )
        if verb == "create" and status in (403, 404) and "terminat" in said:
            return SubmissionRefused(
                f"Namespace {self.namespace} is being deleted: {said}.",
                "Name another namespace in the block, or create it anew once it is gone.",
            )
        if status == 403 and verb == "create" and not is_not_allowed(said):
            return SubmissionRefused(
                f"The cluster does not admit the job: {said}.",
                "What refuses it is named here: ask who runs the cluster what it wants, and say"
                " it in the block, its labels or its `pod_template`.",
            )
        if status == 403:
            return KubernetesForbidden(
                f"The account may not {verb} {resource} in namespace {self.namespace}: {said}.",
                f"Add to its Role: {Permission(verb, resource).rule}.",
            )
        if status in (400, 409, 422) and verb == "create":
            return SubmissionRefused(f"{self._host} refuses the job: {said}.")
        return ConnectionFailed(
            f"{self._host} did not {verb} {resource} in namespace {self.namespace}: {said}.",
            "Is this the right cluster and namespace, and does `kubectl get pods` work?",
        )


def _message(data: bytes) -> str:
    """Return what a `Status` object says, or whatever else was answered."""
    try:
        return str(json.loads(data)["message"]).rstrip(".")
    except (ValueError, KeyError, TypeError):
        return data[:500].decode("utf-8", "replace").strip()


def _seconds(text: str | None) -> float:
    return float(text) if text and text.isdigit() else 0.0


def _events(response: Any) -> Iterator[dict[str, Any]]:
    """Yield the events of a watch.

    Raises:
        WatchExpired: Its version is too old.
        ConnectionFailed: It broke off.
    """
    with contextlib.closing(response):
        for line in _lines(response):
            event = json.loads(line)
            if event["type"] == "ERROR":
                if event["object"].get("code") == 410:
                    raise WatchExpired
                raise ConnectionFailed(
                    f"The watch of pods ended: {event['object'].get('message')}."
                )
            yield event


def _lines(response: Any) -> Iterator[bytes]:
    """Yield the lines of an endless answer.

    Raises:
        ConnectionFailed: It broke off.
    """
    import urllib3

    rest = b""
    try:
        for data in response.stream(65536):
            *lines, rest = (rest + data).split(b"\n")
            yield from (line for line in lines if line)
    except urllib3.exceptions.HTTPError as error:
        raise ConnectionFailed(f"The watch of pods broke off: {error}.") from error

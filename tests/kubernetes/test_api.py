"""Requests to an API server: what is asked again, and how refusals read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from clustrix_prefect.errors import (
    AuthenticationFailed,
    ConnectionFailed,
    KubernetesForbidden,
    QuotaExceeded,
    SubmissionRefused,
)
from clustrix_prefect.kubernetes.access import Access
from clustrix_prefect.kubernetes.api import KubernetesApi, WatchExpired
from tests.live.serving import serving

JOB = {"metadata": {"name": "j"}}


class Server(ThreadingHTTPServer):
    """Gives the answers that a test lays down, and notes what was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: list[tuple[int, Any]] = []
        self.asked: list[str] = []


class Handler(BaseHTTPRequestHandler):
    def answer(self) -> None:
        server: Any = self.server
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        server.asked.append(f"{self.command} {self.path} {self.headers['Authorization']}")
        status, body = server.answers.pop(0)
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_DELETE = answer

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    with serving(server):
        yield server


@pytest.fixture
def api(server: Server) -> KubernetesApi:
    kubeconfig = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "s", "user": "u"}}],
        "clusters": [
            {"name": "s", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}
        ],
        "users": [{"name": "u", "user": {"token": "secret-token"}}],
    }
    return KubernetesApi(Access(kubeconfig=kubeconfig), "lab", patience=1)


def test_a_job_whose_creation_was_answered_too_late_is_there_once(
    server: Server, api: KubernetesApi
) -> None:
    server.answers = [(503, b""), (409, {"message": "exists"}), (200, {"items": [JOB]})]
    assert api.create_job(JOB) == JOB
    assert api.requests == len(server.asked) == 3
    path = "/apis/batch/v1/namespaces/lab/jobs?fieldValidation=Strict"
    assert server.asked[0] == f"POST {path} Bearer secret-token"


CONFLICT = {"message": 'Operation cannot be fulfilled on resourcequotas "q": the object has been'}


def test_a_conflict_with_somebody_else_passes(server: Server, api: KubernetesApi) -> None:
    server.answers = [(500, b""), (409, CONFLICT), (201, JOB)]
    assert api.create_job(JOB) == JOB
    assert [line.split()[0] for line in server.asked] == ["POST"] * 3


def test_a_name_that_is_taken_though_nothing_is_there_is_refused(
    server: Server, api: KubernetesApi
) -> None:
    server.answers = [
        (500, b""),
        (409, {"message": "object is being deleted"}),
        (200, {"items": []}),
    ]
    with pytest.raises(SubmissionRefused, match="object is being deleted"):
        api.create_job(JOB)


@pytest.mark.parametrize(
    ("status", "message", "says"),
    [
        (403, 'admission webhook "v.gatekeeper.sh" denied the request: no owner', "gatekeeper"),
        (403, "jobs.batch is forbidden: violates policy x", "does not admit the job"),
        (
            403,
            'jobs.batch "j" is forbidden: unable to create new content in namespace lab because it'
            " is being terminated",
            "Namespace lab is being deleted",
        ),
    ],
)
def test_what_admission_says_is_not_about_rights(
    server: Server, api: KubernetesApi, status: int, message: str, says: str
) -> None:
    server.answers = [(status, {"message": message})]
    with pytest.raises(SubmissionRefused, match=says) as caught:
        api.create_job(JOB)
    assert "Role" not in caught.value.remedy


def test_a_field_that_the_server_does_not_know_is_refused(
    server: Server, api: KubernetesApi
) -> None:
    said = 'strict decoding error: unknown field "spec.template.spec.gates"'
    server.answers = [(400, {"message": f'Job in version "v1" cannot be handled: {said}'})]
    with pytest.raises(SubmissionRefused, match=said):
        api.create_job(JOB)


def test_deleting_what_is_not_there_is_fine(server: Server, api: KubernetesApi) -> None:
    server.answers = [(404, {"message": "not found"})]
    api.delete_job("j")


@pytest.mark.parametrize(
    ("status", "message", "kind", "says"),
    [
        (401, "Unauthorized", AuthenticationFailed, "does not accept the credentials"),
        (403, 'User "u" cannot', KubernetesForbidden, "may not create jobs in namespace lab"),
        (403, 'User "u" cannot', KubernetesForbidden, '["batch"], resources: ["jobs"], verbs'),
        (403, "exceeded quota: q", QuotaExceeded, "A quota of namespace lab"),
    ],
)
def test_refusals(
    server: Server, api: KubernetesApi, status: int, message: str, kind: type, says: str
) -> None:
    # Credentials that are not accepted are got anew, and tried once more.
    server.answers = [(status, {"message": message})] * (2 if status == 401 else 1)
    with pytest.raises(kind) as caught:
        api.create_job(JOB)
    assert says in str(caught.value)
    assert "secret-token" not in str(caught.value) + repr(caught.value.__cause__)


def test_a_server_that_stays_away_is_named(server: Server, api: KubernetesApi) -> None:
    server.answers = [(503, b"")] * 20
    with pytest.raises(ConnectionFailed, match="did not list pods in namespace lab"):
        api.list_pods("a=b")
    assert len(server.asked) > 1


def test_a_watch_gives_events_and_says_when_it_expired(server: Server, api: KubernetesApi) -> None:
    added = {"type": "ADDED", "object": {"kind": "Pod"}}
    expired = {"type": "ERROR", "object": {"code": 410, "message": "too old"}}
    lines = b"".join(json.dumps(event).encode() + b"\n" for event in (added, expired))
    server.answers = [(200, lines), (410, {"message": "too old"})]
    watch = api.watch_pods("a=b", "7", 10)
    assert next(watch) == added
    with pytest.raises(WatchExpired):
        next(watch)
    with pytest.raises(WatchExpired):
        list(api.watch_pods("a=b", "7", 10))


def test_missing_permissions_are_named(server: Server, api: KubernetesApi) -> None:
    server.answers = [(201, {"status": {"allowed": number != 1}}) for number in range(8)]
    assert [str(permission) for permission in api.missing_permissions()] == ["list jobs"]

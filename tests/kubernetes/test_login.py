"""Credentials of every kind: got anew when due or refused, and named when there are none."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import yaml

from clustrix_prefect.errors import AuthenticationFailed, ClustrixError, ConfigurationError
from clustrix_prefect.kubernetes.access import Access
from clustrix_prefect.kubernetes.api import KubernetesApi
from tests.kubernetes.test_api import Server, server

__all__ = ["server"]

GUIDE = Path(__file__).parents[2] / "docs/guides/kubernetes.md"
V1 = "client.authentication.k8s.io/v1"
LIST: tuple[int, dict[str, Any]] = (200, {"items": []})
UNAUTHORIZED = (401, {"message": "Unauthorized"})
Api = Callable[..., KubernetesApi]


def kubeconfig(server: Server, user: dict[str, Any], **cluster: Any) -> dict[str, Any]:
    address = f"http://127.0.0.1:{server.server_port}"
    return {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "s", "user": "u"}}],
        "clusters": [{"name": "s", "cluster": {"server": address, **cluster}}],
        "users": [{"name": "u", "user": user}],
    }


@pytest.fixture
def api(server: Server) -> Api:
    def make(user: dict[str, Any], **cluster: Any) -> KubernetesApi:
        return KubernetesApi(Access(kubeconfig=kubeconfig(server, user, **cluster)), patience=1)

    return make


class Plugin:
    """A credential plugin: counts its runs, and gives the n-th of some tokens."""

    def __init__(self, directory: Path, version: str = V1, **status: Any) -> None:
        self.path, self._count = directory / "plugin", directory / "count"
        self._count.write_text("")
        program = f"""#!{sys.executable}
import json
open({str(self._count)!r}, "a").write("x")
count = len(open({str(self._count)!r}).read())
status = {{"token": f"token-{{count}}", **json.loads({json.dumps(status)!r})}}
print(json.dumps({{"apiVersion": {version!r}, "kind": "ExecCredential", "status": status}}))
"""
        self.path.write_text(program)
        self.path.chmod(0o755)

    @property
    def runs(self) -> int:
        return len(self._count.read_text())

    @property
    def user(self) -> dict[str, Any]:
        return {"exec": {"apiVersion": V1, "command": str(self.path), "interactiveMode": "Never"}}


def tokens(server: Server) -> list[str]:
    return [line.rpartition(" ")[2] for line in server.asked]


def in_seconds(seconds: float) -> str:
    return (datetime.now(timezone.utc) + timedelta(seconds=seconds)).isoformat()


# --- as the documentation has it -----------------------------------------------------------


def of_guide() -> list[dict[str, Any]]:
    """The kubeconfigs that people are shown."""
    blocks = re.findall(r"```yaml\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    return [one for one in map(yaml.safe_load, blocks) if one.get("kind") == "Config"]


@pytest.mark.parametrize("shown", of_guide(), ids=lambda shown: shown["current-context"])
def test_a_kubeconfig_of_the_guide_logs_in(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shown: dict[str, Any]
) -> None:
    (cluster,), (login,) = shown["clusters"], shown["users"]
    cluster["cluster"] = {"server": f"http://127.0.0.1:{server.server_port}"}
    if plugin := login["user"].get("exec"):
        # What stands in for the provider's program speaks the version that is asked for.
        stand_in = Plugin(tmp_path, version=plugin["apiVersion"])
        stand_in.path.rename(tmp_path / plugin["command"])
        monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    else:
        (token := tmp_path / "token").write_text("token-1")
        login["user"]["tokenFile"] = str(token)
    server.answers = [LIST]
    api = KubernetesApi(Access(kubeconfig=shown), patience=1)
    assert api.namespace == "research"
    assert api.list_jobs("a=b") == []
    assert tokens(server) == ["token-1"]


def test_there_is_one_for_each_provider() -> None:
    names = [shown["current-context"] for shown in of_guide()]
    assert names == ["eks", "gke", "aks", "openshift"]


# --- got anew ------------------------------------------------------------------------------


def test_a_plugin_runs_again_when_its_token_is_refused(
    server: Server, api: Api, tmp_path: Path
) -> None:
    plugin = Plugin(tmp_path)
    client = api(plugin.user)
    server.answers = [LIST, UNAUTHORIZED, LIST, LIST]
    for _ in range(3):
        assert client.list_jobs("a=b") == []
    assert tokens(server) == ["token-1", "token-1", "token-2", "token-2"]
    assert plugin.runs == 2


def test_a_token_that_stays_refused_is_asked_with_once_more_only(
    server: Server, api: Api, tmp_path: Path
) -> None:
    plugin = Plugin(tmp_path)
    client = api(plugin.user)
    server.answers = [UNAUTHORIZED, UNAUTHORIZED]
    with pytest.raises(AuthenticationFailed, match="does not accept the credentials"):
        client.create_job({"metadata": {"name": "j"}})
    assert (len(server.asked), plugin.runs) == (2, 2)


def test_a_watch_is_opened_with_new_credentials_too(
    server: Server, api: Api, tmp_path: Path
) -> None:
    client = api(Plugin(tmp_path).user)
    server.answers = [UNAUTHORIZED, (200, b"")]
    assert list(client.watch_pods("a=b", "7", 10)) == []
    assert tokens(server) == ["token-1", "token-2"]


@pytest.mark.parametrize(("life", "runs"), [(240, 1), (3600, 1), (0.0, 4)])
def test_a_plugins_token_is_kept_until_shortly_before_it_expires(
    server: Server, api: Api, tmp_path: Path, life: float, runs: int
) -> None:
    """Also one that lives less than five minutes."""
    plugin = Plugin(tmp_path, expirationTimestamp=in_seconds(life))
    client = api(plugin.user)
    server.answers = [LIST] * 2
    for _ in range(2):
        client.list_jobs("a=b")
    assert plugin.runs == runs


def test_a_token_file_is_read_again(server: Server, api: Api, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("first\n")
    client = api({"tokenFile": str(token)})
    server.answers = [LIST, UNAUTHORIZED, LIST]
    client.list_jobs("a=b")
    token.write_text("second\n\n")
    client.list_jobs("a=b")
    assert tokens(server) == ["first", "first", "second"]


def test_a_service_account_of_a_pod(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kubernetes.config import incluster_config

    for name, text in {"token": "inside\n", "ca.crt": "-", "namespace": "team-a\n"}.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(server.server_port))
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(tmp_path / "token"))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(tmp_path / "ca.crt"))
    found = Access().read()
    assert found.namespace == "team-a"
    assert found.token_file == tmp_path / "token"
    assert found.configuration.host == f"https://127.0.0.1:{server.server_port}"
    assert "BearerToken" not in found.configuration.api_key


# --- what is sent --------------------------------------------------------------------------


def test_who_is_acted_as_is_sent(api: Api) -> None:
    client = api(
        {
            "token": "  admin\n",
            "as": "somebody",
            "as-uid": "42",
            "as-groups": ["a", "b"],
            "as-user-extra": {"acme.com/Reason": ["one", "two"]},
        }
    )
    assert client._login.current.headers == (
        ("authorization", "Bearer admin"),
        ("Impersonate-User", "somebody"),
        ("Impersonate-Uid", "42"),
        ("Impersonate-Group", "a"),
        ("Impersonate-Group", "b"),
        ("Impersonate-Extra-acme.com%2Freason", "one"),
        ("Impersonate-Extra-acme.com%2Freason", "two"),
    )


@pytest.mark.parametrize(
    ("context", "block", "namespace"),
    [({}, None, "default"), ({"namespace": "team"}, None, "team"), ({"namespace": "a"}, "b", "b")],
)
def test_the_contexts_namespace_is_used_where_none_is_named(
    server: Server, context: dict[str, str], block: str | None, namespace: str
) -> None:
    content = kubeconfig(server, {})
    content["contexts"][0]["context"].update(context)
    assert KubernetesApi(Access(kubeconfig=content), block).namespace == namespace


def test_a_proxys_password_is_sent_to_it(api: Api) -> None:
    client = api({}, **{"proxy-url": "http://me:p%40ss@proxy.example:3128"})
    configuration = client._login.current.configuration
    assert configuration.proxy == "http://proxy.example:3128"
    assert configuration.proxy_headers == {"proxy-authorization": "Basic bWU6cEBzcw=="}


def test_a_plugins_certificate_is_renewed_with_its_connections(api: Api, tmp_path: Path) -> None:
    status: dict[str, Any] = {
        "token": None,
        "clientCertificateData": "CERT",
        "clientKeyData": "KEY",
    }
    client = api(Plugin(tmp_path, expirationTimestamp=in_seconds(0.0), **status).user)
    first, second = client._login.current, client._login.current
    assert second.pool is not first.pool
    assert Path(second.configuration.cert_file).read_text() == "CERT"
    assert Path(second.configuration.key_file).read_text() == "KEY"
    assert second.headers == ()


# --- refused by name -----------------------------------------------------------------------


def script(tmp_path: Path, text: str) -> dict[str, Any]:
    path = tmp_path / "get-token"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return {"apiVersion": V1, "command": str(path), "installHint": "Run `cloud login`.\n"}


def answer(version: str, **status: Any) -> str:
    return f"echo '{json.dumps({'apiVersion': version, 'status': status})}'"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("echo SSO session expired >&2; exit 255", "ended with status 255: SSO session expired"),
        ("echo Welcome", "printed no ExecCredential"),
        (answer(V1), "gave neither token"),
        (answer(V1 + "alpha1", token="t"), "answers as client.authentication.k8s.io/v1alpha1"),
    ],
)
def test_a_plugin_that_fails_is_named_and_nothing_is_asked(
    server: Server, api: Api, tmp_path: Path, text: str, says: str
) -> None:
    with pytest.raises(AuthenticationFailed) as caught:
        api({"exec": script(tmp_path, text)})
    assert says in str(caught.value)
    assert str(tmp_path / "get-token") in str(caught.value)
    assert caught.value.remedy == "Run `cloud login`."
    assert server.asked == []


@pytest.mark.parametrize(
    ("plugin", "kind", "says"),
    [
        ({"apiVersion": V1, "command": "no-such-plugin"}, AuthenticationFailed, "cannot be run"),
        ({"apiVersion": "v9", "command": "true"}, ConfigurationError, "another apiVersion"),
        (
            {"apiVersion": V1, "command": "true", "interactiveMode": "Always"},
            ConfigurationError,
            "has to ask somebody",
        ),
    ],
)
def test_plugins_that_cannot_be_used(
    api: Api, plugin: dict[str, Any], kind: type[ClustrixError], says: str
) -> None:
    with pytest.raises(kind, match=says):
        api({"exec": plugin})


@pytest.mark.parametrize(
    ("proxy", "says"),
    [("socks5://proxy:1080", "is a socks5 proxy"), ("proxy:3128", "has no scheme")],
)
def test_proxies_that_cannot_be_used(api: Api, proxy: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        api({}, **{"proxy-url": proxy})


SECRET = "eyJhbGciOi-secret"
CONTEXT = "current-context: c\ncontexts: [{name: c, context: {cluster: s, user: u}}]\n"
USER = f"\nusers: [{{name: u, user: {{token: {SECRET}}}}}]\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "file is empty"),
        (f"- {SECRET}", "not built as a kubeconfig"),
        (SECRET, "not built as a kubeconfig"),
        (f"a: [{SECRET}", "line . is no YAML"),
        (f"users:\n- user: {{token: {SECRET}}}\n", "Kubernetes"),
        (USER, "current-context"),
        (
            CONTEXT + "clusters: [{name: s, cluster: {server: 'https://x',"
            " certificate-authority-data: A}}]" + USER,
            "base64",
        ),
        (
            CONTEXT + "clusters: [{name: s, cluster: {server: 'https://x',"
            " certificate-authority: /no/ca}}]" + USER,
            "/no/ca",
        ),
        (
            CONTEXT + "clusters: [{name: s, cluster: {server: 'https://x'}}]\n"
            f'users: [{{name: u, user: {{token: "{SECRET}\\nmore"}}}}]\n',
            "holds characters that none has",
        ),
    ],
)
def test_broken_kubeconfigs_end_in_two_sentences_with_the_cause(
    tmp_path: Path, text: str, says: str
) -> None:
    path = tmp_path / "config"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=says) as caught:
        KubernetesApi(Access(kubeconfig_path=str(path)))
    error: BaseException | None = caught.value
    while error is not None:
        assert SECRET not in str(error)
        error = error.__cause__


@pytest.mark.parametrize("path", ["missing", "directory", "binary"])
def test_files_that_are_no_kubeconfig(tmp_path: Path, path: str) -> None:
    (tmp_path / "directory").mkdir()
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00\x9c")
    with pytest.raises(ConfigurationError) as caught:
        KubernetesApi(Access(kubeconfig_path=str(tmp_path / path)))
    assert caught.value.remedy


def test_a_token_file_that_is_not_there_is_named(api: Api, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=os.fspath(tmp_path / "token")):
        api({"tokenFile": str(tmp_path / "token")})

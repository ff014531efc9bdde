"""Being logged in to an API server for longer than its credentials live."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import threading
import time
import warnings
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clustrix_prefect.errors import AuthenticationFailed, ConfigurationError
from clustrix_prefect.kubernetes.access import Access
from clustrix_prefect.kubernetes.kubeconfig import header_value

# kubectl looks into a token file as often (client-go, transport/token_source.go).
_TOKEN_FILE_SECONDS = 60.0
_PLUGIN_SECONDS = 60.0
_QUOTED = 500
# A plugin's result is got anew when this part of its life is left, or so many seconds.
_LEFT_PART, _LEFT_SECONDS = 0.1, 30.0
_API_VERSIONS = ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1")


@dataclass(frozen=True)
class Credentials:
    """What requests are made with, until it is got anew.

    Attributes:
        configuration: A `Configuration` of the official client: where, and with what certificates.
        headers: Who we are, and whom we act as; some names come more than once.
        pool: Connections (a urllib3 pool manager), which present the certificates.
        until: When to get it anew, in seconds of `time.time`.
        namespace: That of the kubeconfig's context, if it names one.
    """

    configuration: Any
    headers: tuple[tuple[str, str], ...]
    pool: Any
    until: float
    namespace: str | None


class KubernetesLogin:
    """Credentials that are got anew shortly before they expire, and when the server refuses them.

    Threads may share it.

    Args:
        access: Where they are from.
    """

    def __init__(self, access: Access) -> None:
        self._access = access
        self._lock = threading.Lock()
        self._current = self._get()

    @property
    def current(self) -> Credentials:
        """The credentials, got anew if it is time.

        Raises:
            ConfigurationError: There are none, or not in a form that can be used.
            AuthenticationFailed: What should give some failed.
        """
        with self._lock:
            if time.time() >= self._current.until:
                self._current = self._get()
            return self._current

    def refused(self, credentials: Credentials) -> Credentials:
        """Get new credentials after the server refused these; other threads may have done so.

        Raises:
            ConfigurationError: There are none, or not in a form that can be used.
            AuthenticationFailed: What should give some failed.
        """
        with self._lock:
            if self._current is credentials:
                self._current = self._get()
            return self._current

    def _get(self) -> Credentials:
        found = self._access.read()
        configuration, until = found.configuration, float("inf")
        headers: list[tuple[str, str]] = []
        if found.token_file is not None:
            headers.append(("Authorization", f"Bearer {_read_token(found.token_file)}"))
            until = time.time() + _TOKEN_FILE_SECONDS
        elif found.plugin is not None:
            status = _run_plugin(*found.plugin)
            until = _renewal(status)
            if status.get("token"):
                headers.append(("Authorization", f"Bearer {header_value(status['token'])}"))
            if status.get("clientCertificateData"):
                _present(configuration, status)
        else:
            settings = configuration.auth_settings().values()  # renews older providers' tokens
            headers += [
                (setting["key"], header_value(setting["value"]))
                for setting in settings
                if setting["in"] == "header" and setting["value"]
            ]
            if configuration.refresh_api_key_hook is not None:
                until = time.time() + _TOKEN_FILE_SECONDS
        if not configuration.verify_ssl:
            warnings.warn(
                f"The certificate of {configuration.host} is not verified: the kubeconfig says"
                " insecure-skip-tls-verify.",
                stacklevel=3,
            )
        return Credentials(
            configuration=configuration,
            headers=(*headers, *found.impersonation),
            pool=_pool(configuration),
            until=until,
            namespace=found.namespace,
        )


def _pool(configuration: Any) -> Any:
    from kubernetes.client.rest import RESTClientObject

    try:
        return RESTClientObject(configuration).pool_manager
    except OSError as error:  # a certificate or key that is none
        raise ConfigurationError(
            f"The certificates for {configuration.host} cannot be used: {error.strerror or error}.",
            "Get a new kubeconfig from whoever runs the cluster, or log in to it again.",
        ) from error


def _read_token(path: Path) -> str:
    try:
        return header_value(path.read_text())
    except (OSError, UnicodeError) as error:
        raise ConfigurationError(
            f"The token file {path} cannot be read:"
            f" {getattr(error, 'strerror', None) or 'it is no text'}.",
            "Whatever writes it has to run on this machine; see the kubeconfig's `tokenFile`.",
        ) from error


# --- plugins -------------------------------------------------------------------------------


def _run_plugin(
    plugin: dict[str, Any], cluster: dict[str, Any], directory: str | None
) -> dict[str, Any]:
    """Run a credential plugin; nobody is there whom it could ask.

    See https://kubernetes.io/docs/reference/access-authn-authz/authentication/#client-go-credential-plugins

    Returns:
        The `status` of its answer.

    Raises:
        AuthenticationFailed: It is missing, fails, or gives no credentials; with what it said.
        ConfigurationError: The kubeconfig asks for what cannot be done here.
    """
    command, version = plugin.get("command"), plugin.get("apiVersion")
    if not isinstance(command, str) or version not in _API_VERSIONS:
        raise ConfigurationError(
            "The kubeconfig's `exec` names no command, or another apiVersion than"
            f" {' or '.join(_API_VERSIONS)}.",
            "Get a new kubeconfig with the current version of the cloud's command line.",
        )
    if plugin.get("interactiveMode") == "Always":
        raise ConfigurationError(
            f"The kubeconfig's plugin `{command}` has to ask somebody (interactiveMode: Always).",
            "A flow runs unattended: name a kubeconfig whose plugin needs nobody.",
        )
    spec: dict[str, Any] = {"interactive": False}
    if plugin.get("provideClusterInfo"):
        spec["cluster"] = _cluster_info(cluster)
    info = {"apiVersion": version, "kind": "ExecCredential", "spec": spec}
    variables = {str(one["name"]): str(one["value"]) for one in plugin.get("env") or ()}
    if directory is not None and os.path.dirname(command):
        command = os.path.join(directory, command)
    try:
        done = subprocess.run(
            [command, *map(str, plugin.get("args") or ())],
            env={**os.environ, **variables, "KUBERNETES_EXEC_INFO": json.dumps(info)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PLUGIN_SECONDS,
        )
    except OSError as error:
        raise _plugin_failed(plugin, f"cannot be run: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        what = f"did not end within {_PLUGIN_SECONDS:.0f} s and was killed"
        raise _plugin_failed(plugin, _saying(what, error.stderr)) from None
    if done.returncode:
        raise _plugin_failed(plugin, _saying(f"ended with status {done.returncode}", done.stderr))
    try:
        answer = json.loads(done.stdout)
        given, status = answer["apiVersion"], answer["status"]
        has_any = status.get("token") or (
            status.get("clientCertificateData") and status.get("clientKeyData")
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        raise _plugin_failed(plugin, _saying("printed no ExecCredential", done.stderr)) from None
    if given != version:
        raise _plugin_failed(plugin, f"answers as {given}, and the kubeconfig says {version}")
    if not has_any:
        raise _plugin_failed(plugin, _saying("gave neither token nor certificate", done.stderr))
    return dict(status)


def _cluster_info(cluster: dict[str, Any]) -> dict[str, Any]:
    """Return what a plugin is told of the cluster."""
    info = {key: value for key, value in cluster.items() if key != "extensions"}
    for extension in cluster.get("extensions") or ():
        if extension.get("name") == "client.authentication.k8s.io/exec":
            info["config"] = extension.get("extension")
    return info


def _saying(what: str, stderr: bytes | str | None) -> str:
    text = stderr.decode("utf-8", "replace") if isinstance(stderr, bytes) else stderr or ""
    said = " ".join(text.split())[-_QUOTED:]
    return f"{what}: {said.rstrip('.')}" if said else what


def _plugin_failed(plugin: dict[str, Any], what: str) -> AuthenticationFailed:
    hint = " ".join(str(plugin.get("installHint") or "").split()).rstrip(".")
    return AuthenticationFailed(
        f"The plugin `{plugin['command']}`, which gets credentials for Kubernetes, {what}.",
        f"{hint}."
        if hint
        else "Log in again; `kubectl get pods` with the same kubeconfig says how.",
    )


def _renewal(status: dict[str, Any]) -> float:
    """Return when a plugin's result is to be got anew."""
    text = status.get("expirationTimestamp")
    if not text:
        return float("inf")  # until the server refuses it
    from kubernetes.config.dateutil import parse_rfc3339

    try:
        expires = float(parse_rfc3339(text).timestamp())
    except (ValueError, AttributeError):
        return float("inf")
    now = time.time()
    return expires - min(_LEFT_SECONDS, max(0.0, expires - now) * _LEFT_PART)


def _present(configuration: Any, status: dict[str, Any]) -> None:
    """Use a certificate that a plugin gave. OpenSSL takes paths only: on Linux, of memory."""
    paths = []
    for key in ("clientCertificateData", "clientKeyData"):
        if hasattr(os, "memfd_create"):
            descriptor = os.memfd_create("clustrix", os.MFD_CLOEXEC)
            path = f"/proc/self/fd/{descriptor}"
            weakref.finalize(configuration, os.close, descriptor)
            with os.fdopen(os.dup(descriptor), "w") as file:
                file.write(status[key])
        else:
            descriptor, path = tempfile.mkstemp(prefix="clustrix-")
            weakref.finalize(configuration, os.unlink, path)
            with os.fdopen(descriptor, "w") as file:
                file.write(status[key])
        paths.append(path)
    configuration.cert_file, configuration.key_file = paths

"""etcd, the API server, the controllers and the scheduler."""

from __future__ import annotations

import base64
import json
import ssl
import urllib.request
from collections.abc import Callable
from pathlib import Path

from tests.live.daemon import Daemon, listens, wait_until
from tests.live.kubernetes import build
from tests.live.kubernetes.machine import Machine
from tests.live.kubernetes.pki import PKI

# What pods find in KUBERNETES_SERVICE_HOST: the first address of the services.
SERVICE_ADDRESS = "10.96.0.1"
_SERVICES = "10.96.0.0/16"
_PORT = 443
_PORT_SECONDS = 120.0


class ControlPlane:
    """The servers of Kubernetes on a machine of their own.

    Attributes:
        url: The API server's address.
        kubeconfig: Reaches it as somebody who may do everything.
        pki: Issues the certificates that it trusts.

    Args:
        machine: That machine.
        directory: For data, certificates and logs.
    """

    def __init__(self, machine: Machine, directory: Path) -> None:
        self._machine = machine
        self._directory = directory
        self._daemons: list[Daemon] = []
        self.kubeconfig = directory / "admin.kubeconfig"

    @property
    def url(self) -> str:
        """The API server's address."""
        return f"https://{self._machine.address}:{_PORT}"

    def start(self) -> None:
        """Start all, and wait until the API server answers."""
        certificates = self._directory / "pki"
        certificates.mkdir()
        self.pki = PKI(certificates)
        admin = self.pki.issue("admin", group="system:masters")
        self.kubeconfig.write_text(self.describe_access(admin))
        self._daemons = [self._etcd(), self._api_server(admin)]
        self._daemons += [self._controllers(), self._scheduler()]
        for daemon in self._daemons:
            daemon.start()

    def stop(self) -> None:
        """End all."""
        for daemon in reversed(self._daemons):
            daemon.stop()

    def stop_api_server(self) -> None:
        """End the API server, and with it every connection."""
        self._daemons[1].stop()
        # On a busy machine what we stopped, `nsenter`, is gone before the server within.
        wait_until(lambda: not listens(_PORT, self._machine.address), _PORT_SECONDS)

    def start_api_server(self) -> None:
        """Start it, and wait until it answers."""
        self._daemons[1].start()

    def compact(self) -> None:
        """Let etcd forget everything but what is true now."""
        revision = int(self._ask_etcd("range", {"key": "AA=="})["header"]["revision"])
        self._ask_etcd("compaction", {"revision": revision, "physical": True})

    def describe_access(self, certificate: tuple[Path, Path], namespace: str = "default") -> str:
        """A kubeconfig for the user that a certificate names."""
        user = {"client-certificate": str(certificate[0]), "client-key": str(certificate[1])}
        return describe_access(self.url, self.pki.authority.read_bytes(), user, namespace)

    # --- its parts --------------------------------------------------------------------------

    def _etcd(self) -> Daemon:
        urls = f"http://127.0.0.1:2379,http://{self._machine.address}:2379"
        return self._daemon(
            "etcd",
            f"--data-dir={self._directory / 'etcd'}",
            f"--listen-client-urls={urls}",
            f"--advertise-client-urls={urls}",
            ready=lambda: _answers(f"http://{self._machine.address}:2379/health"),
        )

    def _api_server(self, admin: tuple[Path, Path]) -> Daemon:
        names = ("kubernetes.default.svc", "127.0.0.1", SERVICE_ADDRESS, self._machine.address)
        certificate, key = self.pki.issue("kube-apiserver", *names)
        _, self._signing_key = self.pki.issue("service-accounts")
        return self._daemon(
            "kube-apiserver",
            "--etcd-servers=http://127.0.0.1:2379",
            "--bind-address=0.0.0.0",
            f"--advertise-address={self._machine.address}",
            f"--secure-port={_PORT}",
            f"--tls-cert-file={certificate}",
            f"--tls-private-key-file={key}",
            f"--client-ca-file={self.pki.authority}",
            "--authorization-mode=RBAC",
            f"--service-cluster-ip-range={_SERVICES}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={self._signing_key}",
            f"--service-account-signing-key-file={self._signing_key}",
            f"--kubelet-client-certificate={admin[0]}",
            f"--kubelet-client-key={admin[1]}",
            "--kubelet-preferred-address-types=InternalIP",
            "--allow-privileged",
            # A pod of a lost node is given up after seconds, not minutes.
            "--default-not-ready-toleration-seconds=5",
            "--default-unreachable-toleration-seconds=5",
            "--feature-gates=TTLAfterFinished=true",
            ready=lambda: _answers(f"{self.url}/readyz", self.pki.authority),
        )

    def _controllers(self) -> Daemon:
        return self._daemon(
            "kube-controller-manager",
            f"--kubeconfig={self.kubeconfig}",
            f"--service-account-private-key-file={self._signing_key}",
            f"--root-ca-file={self.pki.authority}",
            "--use-service-account-credentials",
            "--leader-elect=false",
            "--node-monitor-period=1s",
            "--node-monitor-grace-period=40s",
            "--feature-gates=TTLAfterFinished=true",
        )

    def _scheduler(self) -> Daemon:
        kubeconfig = f"--kubeconfig={self.kubeconfig}"
        return self._daemon("kube-scheduler", kubeconfig, "--leader-elect=false")

    def _daemon(
        self, program: str, *options: str, ready: Callable[[], bool] = lambda: True
    ) -> Daemon:
        return Daemon(
            self._machine.command(str(build.PROGRAMS / program), *options),
            log=self._directory / f"{program}.log",
            environment={"PATH": "/usr/bin:/bin", "HOME": str(self._directory)},
            ready=ready,
            patience=90,
            name=program,
        )

    def _ask_etcd(self, path: str, question: dict[str, object]) -> dict[str, dict[str, str]]:
        where = f"http://{self._machine.address}:2379/v3/kv/{path}"
        body = json.dumps(question).encode()
        with urllib.request.urlopen(where, data=body, timeout=30) as answer:
            answered: dict[str, dict[str, str]] = json.load(answer)
            return answered


def describe_access(url: str, authority: bytes, user: dict[str, str], namespace: str) -> str:
    """A kubeconfig (JSON is YAML, too)."""
    server = {
        "server": url,
        "certificate-authority-data": base64.b64encode(authority).decode(),
    }
    context = {"cluster": "test", "user": "test", "namespace": namespace}
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": server}],
            "users": [{"name": "test", "user": user}],
            "contexts": [{"name": "test", "context": context}],
            "current-context": "test",
        },
        indent=2,
    )


def _answers(url: str, authority: Path | None = None) -> bool:
    context = ssl.create_default_context(cafile=str(authority)) if authority else None
    try:
        with urllib.request.urlopen(url, timeout=5, context=context):
            return True
    except OSError:
        return False

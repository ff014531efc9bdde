"""A real node: containerd, runc, a bridge for the pods, and the kubelet."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import IO

from tests.live.daemon import Daemon, ServiceUnavailable
from tests.live.kubernetes import build, images
from tests.live.kubernetes.machine import Machine

NAME = "node-1"
_PATH = f"{build.PROGRAMS}:/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"
_SOCKET = "/run/containerd.sock"


class Node:
    """containerd and the kubelet on a machine of their own.

    Args:
        machine: That machine.
        directory: For configuration, logs and the containers' files.
        is_ready: Whether the API server says that it takes pods.
    """

    def __init__(self, machine: Machine, directory: Path, is_ready: Callable[[], bool]) -> None:
        self._machine = machine
        self._directory = directory
        self._is_ready = is_ready
        self._containerd: Daemon | None = None
        self._kubelet: Daemon | None = None

    def start_containers(self) -> None:
        """Start containerd, which needs no API server, and give it what every pod needs."""
        (self._directory / "cni").mkdir()
        (self._directory / "cni" / "pods.conflist").write_text(self._network())
        settings = self._directory / "containerd.toml"
        settings.write_text(self._containerd_settings())
        self._containerd = self._daemon(
            "containerd", "--config", str(settings), ready=lambda: self._ctr("version") == 0
        )
        self._containerd.start()
        self.load_image(images.write_pause)

    def start_kubelet(self, kubeconfig: Path, certificate: tuple[Path, Path]) -> None:
        """Register with the API server, and wait until it takes pods."""
        settings = self._directory / "kubelet.json"
        settings.write_text(json.dumps(self._kubelet_settings(certificate)))
        self._kubelet = self._daemon(
            "kubelet",
            f"--kubeconfig={kubeconfig}",
            f"--config={settings}",
            f"--hostname-override={NAME}",
            f"--node-ip={self._machine.address}",
            f"--pod-infra-container-image={images.PAUSE}",
            "--container-runtime=remote",
            f"--container-runtime-endpoint=unix://{_SOCKET}",
            f"--volume-plugin-dir={self._directory / 'plugins'}",
            ready=self._is_ready,
        )
        self._kubelet.start()

    def stop(self) -> None:
        """End both; the containers go on."""
        for daemon in (self._kubelet, self._containerd):
            if daemon:
                daemon.stop()

    def stop_kubelet(self) -> None:
        """Let the API server hear no more from this node; its pods go on."""
        assert self._kubelet is not None
        self._kubelet.stop()

    def restart_kubelet(self) -> None:
        """Start it again, and wait until the node takes pods."""
        assert self._kubelet is not None
        self._kubelet.start()

    def load_image(self, write: Callable[[IO[bytes]], None]) -> None:
        """Give it an image, as `docker load` would."""
        importing = subprocess.Popen(
            self._ctr_command("images", "import", "-"),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        assert importing.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # its message says more
            write(importing.stdin)
        _, errors = importing.communicate()
        if importing.returncode:
            raise ServiceUnavailable(f"ctr images import: {errors.decode().strip()}")

    def tag_image(self, image: str, name: str) -> None:
        """Give an image another name."""
        subprocess.run(self._ctr_command("images", "tag", "--force", image, name), check=True)

    def _ctr(self, *arguments: str) -> int:
        command = self._ctr_command(*arguments)
        return subprocess.run(command, capture_output=True).returncode

    def _ctr_command(self, *arguments: str) -> list[str]:
        ctr = [str(build.PROGRAMS / "ctr"), "--address", _SOCKET, "--namespace", "k8s.io"]
        return self._machine.command(*ctr, *arguments)

    def _daemon(self, program: str, *options: str, ready: Callable[[], bool]) -> Daemon:
        return Daemon(
            self._machine.command(str(build.PROGRAMS / program), *options),
            log=self._directory / f"{program}.log",
            environment={"PATH": _PATH, "HOME": str(self._directory)},
            ready=ready,
            patience=90,
            name=program,
        )

    def _network(self) -> str:
        """One bridge for all pods, which this machine reaches through the node."""
        addresses = {
            "type": "host-local",
            "dataDir": str(self._directory / "addresses"),
            "ranges": [[{"subnet": self._machine.pod_network}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        }
        bridge = {"type": "bridge", "bridge": "cni0", "isGateway": True, "ipam": addresses}
        return json.dumps({"cniVersion": "0.4.0", "name": "pods", "plugins": [bridge]})

    def _containerd_settings(self) -> str:
        # Without a sandbox of our own name it would ask a registry for one. Inside a container
        # (as in most CI) nobody may lower an oom_score_adj.
        return f"""
version = 2
root = "{self._directory}/containerd"
state = "/run/containerd"
[grpc]
  address = "{_SOCKET}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{images.PAUSE}"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{build.CNI_PLUGINS}"
    conf_dir = "{self._directory}/cni"
"""

    def _kubelet_settings(self, certificate: tuple[Path, Path]) -> dict[str, object]:
        return {
            "kind": "KubeletConfiguration",
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            # Only the API server, and who is root here, reaches its port.
            "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
            "authorization": {"mode": "AlwaysAllow"},
            "tlsCertFile": str(certificate[0]),
            "tlsPrivateKeyFile": str(certificate[1]),
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": self._machine.cgroup,
            "cgroupsPerQOS": False,
            "enforceNodeAllocatable": [],
            "failSwapOn": False,
            "makeIPTablesUtilChains": False,
            "resolvConf": "",
            "maxPods": 200,
            "registryPullQPS": 0,
            "eventRecordQPS": 0,
            "kubeAPIQPS": 50,
            "kubeAPIBurst": 100,
            "nodeStatusUpdateFrequency": "2s",
            "nodeStatusReportFrequency": "10s",
            # How much a volume holds is seen as often as pods that hold too much are looked for.
            "volumeStatsAggPeriod": "10s",
            "imageGCHighThresholdPercent": 100,
            # A full disk here is no reason to evict the tests' pods.
            "evictionHard": {
                "memory.available": "1Mi",
                "nodefs.available": "0%",
                "nodefs.inodesFree": "0%",
                "imagefs.available": "0%",
            },
        }

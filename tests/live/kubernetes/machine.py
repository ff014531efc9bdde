"""A machine of its own inside this one: its network, mounts and processes are not ours."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from pathlib import Path

from tests.live.daemon import ServiceUnavailable
from tests.live.kubernetes import build

_CGROUPS = Path("/sys/fs/cgroup")


class Machine:
    """Namespaces that one process holds, joined to this machine by a pair of interfaces.

    When that process ends, or the test run, the kernel ends everything inside and removes the
    interfaces and mounts. There is no way from there to anywhere but to this machine.

    Attributes:
        address: Its address, as seen from this machine.
        host_address: This machine's address, as seen from there.
        pod_network: Addresses that this machine reaches through it.
        cgroup: The control group below which its containers belong.

    Args:
        directory: For the files that outlive its namespaces.
        service_address: An address that only it and its pods know.
    """

    def __init__(self, directory: Path, service_address: str) -> None:
        self._directory = directory
        self._service_address = service_address
        self._holder: subprocess.Popen[bytes] | None = None
        self.address = self.host_address = self.pod_network = ""
        # The run's directory has a name that no other run has.
        self.cgroup = f"/{directory.parent.name}"

    def start(self) -> None:
        """Make it.

        Raises:
            ServiceUnavailable: The kernel does not let us.
        """
        _remove_abandoned_cgroups()
        namespaces = ["--net", "--mount", "--pid", "--ipc", "--propagation=private"]
        lives = ["--mount-proc", "--fork", "--kill-child", str(build.PROGRAMS / "pause")]
        self._holder = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "unshare", *namespaces, *lives],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,  # killed, it complains of its own end
            start_new_session=True,
        )
        while child_of(self._holder.pid) is None or not self._has_proc():
            if self._holder.poll() is not None:
                raise ServiceUnavailable("no namespaces of its own for a Kubernetes node")
        self._join()
        for name in ("lib", "log"):
            (self._directory / name).mkdir(exist_ok=True)
        (self._directory / "lib" / "kubelet").mkdir(exist_ok=True)
        # Where there are two versions of control groups, runc shall see the one that has memory.
        script = f"""
            mount --bind {self._directory}/lib /var/lib
            mount --bind {self._directory}/log /var/log
            mount -t tmpfs tmpfs /run
            if [ -d {_CGROUPS}/memory ]; then umount {_CGROUPS}/unified || true; fi
            ip link set lo up
            ip address add {self._service_address}/32 dev lo
            ip address add {self.address}/24 dev eth0
            ip link set eth0 up
        """
        self._run(*self.command("sh", "-ec", script))

    def stop(self) -> None:
        """End everything inside."""
        holder, self._holder = self._holder, None
        if holder is None:
            return
        init = child_of(holder.pid)
        with contextlib.suppress(ProcessLookupError):
            os.kill(init or holder.pid, signal.SIGKILL)
        holder.wait(30)
        _remove_cgroup(self.cgroup)

    def command(self, *command: str) -> list[str]:
        """What runs a command there; it ends with the process that we start."""
        assert self._holder is not None
        enter = ["nsenter", f"--target={child_of(self._holder.pid)}", "--net", "--mount", "--ipc"]
        return [*enter, "--pid", "setpriv", "--pdeathsig", "KILL", *command]

    def _has_proc(self) -> bool:
        """Whether the holder has got as far as `pause`: its mounts are made by then."""
        assert self._holder is not None
        with contextlib.suppress(OSError):
            init = child_of(self._holder.pid)
            return Path(f"/proc/{init}/comm").read_text().strip() == "pause"
        return False

    def _join(self) -> None:
        """Make a pair of interfaces; that a name is taken says that its addresses are, too."""
        assert self._holder is not None
        init = child_of(self._holder.pid)
        for number in range(256):
            name = f"clustrix{number}"
            pair = ["type", "veth", "peer", "name", "eth0", "netns", str(init)]
            made = subprocess.run(
                ["ip", "link", "add", name, *pair], capture_output=True, text=True
            )
            if made.returncode == 0:
                break
            if "exists" not in made.stderr:
                raise ServiceUnavailable(f"ip link add: {made.stderr.strip()}")
        # 198.18.0.0/15 is for test networks, and never routed.
        self.host_address, self.address = f"198.18.{number}.1", f"198.18.{number}.2"
        self.pod_network = f"198.19.{number}.0/24"
        self._run("ip", "address", "add", f"{self.host_address}/24", "dev", name)
        self._run("ip", "link", "set", name, "up")
        self._run("ip", "route", "add", self.pod_network, "via", self.address)

    def _run(self, *command: str) -> None:
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise ServiceUnavailable(f"{' '.join(command)}: {done.stderr.strip()}")


def child_of(pid: int) -> int | None:
    """The process that a process started, if any."""
    with contextlib.suppress(OSError):
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return int(children[0]) if children else None
    return None


def _remove_cgroup(name: str) -> None:
    """Remove a control group with those below it, in every hierarchy."""
    tops = [_CGROUPS / name[1:], *_CGROUPS.glob(f"*/{name[1:]}")]
    for top in tops:
        for directory, _, _ in os.walk(top, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(directory)


def _remove_abandoned_cgroups() -> None:
    for top in _CGROUPS.glob("*/clustrix-live-*"):
        if not Path("/tmp", top.name).exists():
            _remove_cgroup(f"/{top.name}")

"""SSH servers with other settings than the shared one's, and a home without SSH files."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from clustrix_prefect.connections.authentication import Login
from clustrix_prefect.connections.connection import Channel
from clustrix_prefect.connections.route import Destination
from tests.live.daemon import Daemon, free_port, listens
from tests.live.ssh_host import SSHHost


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home without an agent: the developer's own keys are never tried."""
    home = tmp_path / "home"
    (home / ".ssh").mkdir(parents=True, mode=0o700)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    return home


@pytest.fixture
def destination(ssh_host: SSHHost) -> Destination:
    """How to log in to the shared server."""
    return Destination(
        host=ssh_host.host,
        port=ssh_host.port,
        login=Login(username=ssh_host.username, key_file=ssh_host.key_file),
        known_hosts=ssh_host.known_hosts,
    )


StartServer = Callable[..., int]


@pytest.fixture
def start_server(ssh_host: SSHHost, tmp_path: Path, home: Path) -> Iterator[StartServer]:
    """Start a server for the shared account with these lines of sshd_config.

    Returns its port; its key is added to ~/.ssh/known_hosts.
    """
    servers: list[Daemon] = []

    def start(*settings: str) -> int:
        port = free_port()
        directory = tmp_path / f"sshd-{port}"
        directory.mkdir()
        key = directory / "key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
        with (home / ".ssh" / "known_hosts").open("a") as known_hosts:
            known_hosts.write(f"[127.0.0.1]:{port} {key.with_suffix('.pub').read_text()}")
        lines = (f"Port {port}", "ListenAddress 127.0.0.1", f"HostKey {key}", "PidFile none")
        config = directory / "config"
        config.write_text("\n".join([*lines, *settings, ""]))
        sshd = shutil.which("sshd", path=os.environ["PATH"] + ":/usr/sbin") or "sshd"
        server = Daemon(
            [sshd, "-D", "-e", "-f", str(config)],
            log=directory / "log",
            environment={"PATH": os.environ["PATH"]},
            ready=lambda: listens(port),
        )
        server.start()
        servers.append(server)
        return port

    yield start
    for server in servers:
        server.stop()


def read_all(channel: Channel) -> bytes:
    """All that the program still writes."""
    return b"".join(iter(lambda: channel.read(65536), b""))

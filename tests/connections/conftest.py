"""SSH servers with other settings than the shared one's, and a home without SSH files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from clustrix_prefect.connections.authentication import Login
from clustrix_prefect.connections.connection import Channel
from clustrix_prefect.connections.control_master import ControlMaster
from clustrix_prefect.connections.route import Destination
from tests.live.more_sshd import serving
from tests.live.pam_host import PAMHost
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
    with ExitStack() as servers:
        known_hosts = home / ".ssh" / "known_hosts"
        yield lambda *settings: servers.enter_context(serving(tmp_path, known_hosts, *settings))


def read_all(channel: Channel) -> bytes:
    """All that the program still writes."""
    return b"".join(iter(lambda: channel.read(65536), b""))


@contextmanager
def master_of(host: SSHHost | PAMHost) -> Iterator[ControlMaster]:
    """The master for a host, which its key opens; it is closed at the end."""
    made = ControlMaster(
        host.host,
        host.port,
        host.username,
        key_file=host.key_file,
        known_hosts=host.known_hosts,
    )
    yield made
    made.close()

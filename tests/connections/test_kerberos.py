"""Logging in with a Kerberos ticket, which ends."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from clustrix_prefect.connections.control_master import ControlMaster
from clustrix_prefect.connections.openssh import open_openssh
from clustrix_prefect.errors import LoginNeeded
from tests.connections.conftest import read_all
from tests.live.kerberos import REALM, Kerberos
from tests.live.more_sshd import serving
from tests.live.ssh_host import SSHHost

PASSWORD = "correct horse"


@pytest.fixture
def master(
    kerberos: Kerberos,
    ssh_host: SSHHost,
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[ControlMaster]:
    """The master of a server that takes tickets alone."""
    kerberos.add("alice", PASSWORD)
    (ssh_host.home / ".k5login").write_text(f"alice@{REALM}\n")
    os.chown(ssh_host.home / ".k5login", ssh_host.uid, -1)
    (home / ".ssh" / "config").write_text("Host localhost\n  GSSAPIAuthentication yes\n")
    for name, value in kerberos.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("KRB5CCNAME", f"FILE:{tmp_path / 'tickets'}")
    settings = (
        "UsePAM no",
        "AuthenticationMethods gssapi-with-mic",
        "GSSAPIAuthentication yes",
        "GSSAPIStrictAcceptorCheck no",
    )
    known_hosts = home / ".ssh" / "known_hosts"
    with serving(tmp_path, known_hosts, *settings, environment=kerberos.environment) as port:
        made = ControlMaster("localhost", port, ssh_host.username, known_hosts=known_hosts)
        yield made
        made.close()
    (ssh_host.home / ".k5login").unlink()


def test_a_ticket_that_ends(
    master: ControlMaster, kerberos: Kerberos, ssh_host: SSHHost, tmp_path: Path
) -> None:
    tickets = tmp_path / "tickets"
    with pytest.raises(LoginNeeded, match="gssapi-with-mic"):
        master.ensure()

    kerberos.get_ticket("alice", PASSWORD, tickets, 6)
    channel = open_openssh(master).start("whoami; cat")
    assert channel.read(100).decode().strip() == ssh_host.username
    deadline = time.monotonic() + 60
    while kerberos.has_ticket(tickets):
        assert time.monotonic() < deadline, "the ticket has no end"
        time.sleep(0.1)
    time.sleep(1.5)  # and by the server's clock, whatever skew it allows for

    channel.write(b"still here\n")  # what was logged in stays so
    assert channel.read(100) == b"still here\n"
    assert read_all(open_openssh(master).start("whoami")).decode().strip() == ssh_host.username
    master.close()
    with pytest.raises(LoginNeeded, match="gssapi-with-mic"):
        master.ensure()

    kerberos.get_ticket("alice", PASSWORD, tickets, 600)
    assert read_all(open_openssh(master).start("whoami")).decode().strip() == ssh_host.username

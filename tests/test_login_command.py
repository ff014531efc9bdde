"""`clustrix-prefect login`, as a person uses it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from clustrix_prefect import LocalCluster, SSHCluster, SSHCredentials
from clustrix_prefect.cli.main import main
from clustrix_prefect.display.markdown import utc
from tests.live.more_sshd import serving
from tests.live.person import at_a_terminal
from tests.live.prefect_server import PrefectServer
from tests.live.ssh_host import SSHHost

PASSWORD = "correct horse"
NAME = "ssh-cluster/login"
_COMMAND = "import sys; from clustrix_prefect.cli.main import main; sys.exit(main(sys.argv[1:]))"


@pytest.fixture
def cluster(
    prefect_server: PrefectServer, ssh_host: SSHHost, tmp_path: Path
) -> Iterator[SSHCluster]:
    """A host that wants a key, and a password besides; its block is saved."""
    known_hosts = tmp_path / "known_hosts"
    settings = ("AuthenticationMethods publickey,password", "UsePAM no")
    with serving(tmp_path, known_hosts, *settings) as port, ssh_host.password(PASSWORD):
        made = SSHCluster(
            host=ssh_host.host,
            port=port,
            credentials=SSHCredentials(username=ssh_host.username, key_file=str(ssh_host.key_file)),
            known_hosts=str(known_hosts),
            connection="openssh",
        )
        made.save("login", overwrite=True, _sync=True)  # type: ignore[call-arg]
        yield made
        made.master.close()
        SSHCluster.delete("login", _sync=True)  # type: ignore[call-arg]


def test_in_and_out(cluster: SSHCluster, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["login", NAME, "--status"]) == 1
    assert f"Type: clustrix-prefect login {NAME}" in capsys.readouterr().out
    assert main(["check", NAME]) == 1
    assert f"Type `clustrix-prefect login {NAME}`" in capsys.readouterr().out

    argv = [sys.executable, "-c", _COMMAND, "login", NAME, "--hours", "2"]
    status, seen = at_a_terminal(argv, {"password:": PASSWORD})
    assert status == 0, seen
    assert f"Logged in at {cluster.master}: opened by a person at" in seen
    assert "and for 2 h after its last use." in seen
    opened = cluster.master.opened
    assert opened is not None
    assert opened.idle_seconds == 7200

    assert main(["login", NAME]) == 0  # asks nothing
    assert "already: opened by a person" in capsys.readouterr().out
    assert main(["login", NAME, "--status"]) == 0
    assert "lasts until" in capsys.readouterr().out
    assert main(["login", NAME, "--status", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told.pop("opened") == utc(opened.at)
    host = str(cluster.master)
    assert told == {"host": host, "logged_in": True, "by_hand": True, "idle_seconds": 7200}

    assert main(["login", NAME, "--logout"]) == 0
    assert main(["login", NAME, "--status"]) == 1
    assert main(["login", NAME, "--logout"]) == 0
    assert "Not logged in" in capsys.readouterr().out
    assert main(["login", NAME, "--status", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    nothing = dict.fromkeys(("by_hand", "opened", "idle_seconds"))
    assert told == {"host": host, "logged_in": False, **nothing}


def test_a_wrong_password(cluster: SSHCluster) -> None:
    argv = [sys.executable, "-c", _COMMAND, "login", NAME]
    status, seen = at_a_terminal(argv, {"password:": "wrong"})
    assert status == 1
    assert "Permission denied" in seen
    assert "clustrix-prefect: ssh did not log in at" in seen
    assert "Traceback" not in seen


def test_a_block_that_logs_in_by_itself(
    cluster: SSHCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.model_copy(update={"connection": "paramiko"}).save("login", overwrite=True, _sync=True)  # type: ignore[call-arg]
    assert main(["login", NAME]) == 1
    assert 'connection="openssh"' in capsys.readouterr().err


def test_a_cluster_without_a_login(
    prefect_server: PrefectServer, capsys: pytest.CaptureFixture[str]
) -> None:
    LocalCluster().save("here", overwrite=True, _sync=True)  # type: ignore[call-arg]
    try:
        assert main(["login", "local-cluster/here"]) == 1
        assert "nothing to log in to" in capsys.readouterr().err
    finally:
        LocalCluster.delete("here", _sync=True)  # type: ignore[call-arg]


@pytest.mark.parametrize("hours", ["0", "-1", "x", "nan"])
def test_no_number_of_hours(hours: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["login", NAME, "--hours", hours]) == 2
    assert "--hours" in capsys.readouterr().err

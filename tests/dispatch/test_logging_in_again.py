"""Flows that have to log in again: with the next one-time code, with a renewed certificate."""

from __future__ import annotations

import re
import subprocess
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from prefect import flow, task

from clustrix_prefect import ClusterTaskRunner, SSHCredentials
from clustrix_prefect.connections.certificates import read_certificate
from clustrix_prefect.errors import ConnectionLost
from tests.dispatch.marks import mark, marks, wait_for_marks
from tests.live import clusters
from tests.live.daemon import wait_until
from tests.live.pam_host import CODE, KEYBOARD, PAMHost
from tests.live.pythons import FarPythons
from tests.live.ssh_authority import SSHAuthority

pytestmark = pytest.mark.usefixtures("quick_prefect")


@task
def work(directory: str, name: str, seconds: float) -> str:
    """One of many calls."""
    mark(directory, name)
    time.sleep(seconds)
    return name.upper()


def test_with_the_next_code(
    pam_host: PAMHost, far_pythons: FarPythons, far_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = [f"call-{number}" for number in range(8)]
    chain = "AuthenticationMethods publickey,keyboard-interactive"
    with pam_host.codes(period=5), pam_host.asking(chain, KEYBOARD, auth=(CODE,)):
        cluster = clusters.ssh_cluster(
            pam_host,
            far_pythons,
            pam_host.home / "work" / "codes",
            credentials=SSHCredentials(
                username=pam_host.username, key_file=str(pam_host.key_file), totp=pam_host.seed_uri
            ),
        )

        @flow(task_runner=ClusterTaskRunner(cluster))
        def shaky() -> list[str]:
            futures = work.map([str(far_dir)] * 8, names, 1)
            for began in (1, 5):
                wait_for_marks(far_dir, began)
                pam_host.drop_connections()
            return futures.result()

        assert shaky() == [name.upper() for name in names]
        taken = (pam_host.home / ".google_authenticator").read_text()
    assert marks(far_dir) == dict.fromkeys(names, 1)
    used = next(line for line in taken.splitlines() if "DISALLOW_REUSE" in line).split()[2:]
    assert 2 <= len(set(used)) == len(used)
    assert pam_host.seed not in caplog.text


def test_a_password_that_has_changed_is_not_tried_until_the_account_is_locked(
    pam_host: PAMHost, far_pythons: FarPythons, far_dir: Path
) -> None:
    cluster = clusters.ssh_cluster(
        pam_host,
        far_pythons,
        pam_host.home / "work" / "password",
        credentials=SSHCredentials(username=pam_host.username, password="as it was"),
        reconnect_seconds=20,
    )

    @flow(task_runner=ClusterTaskRunner(cluster))
    def locked_out() -> str:
        future = work.submit(str(far_dir), "call", 600)
        wait_for_marks(far_dir, 1)
        with pam_host.password("as it is now"):
            pam_host.drop_connections()
            return future.result()

    chain = ("AuthenticationMethods password", "PasswordAuthentication yes")
    with pam_host.password("as it was"), pam_host.asking(*chain):
        log = len(pam_host.log)
        with pytest.raises(ConnectionLost, match="does not let"):
            locked_out()
    assert pam_host.log[log:].count("Failed password for") == 1


@pytest.mark.parametrize(
    ("calls", "expiries", "seconds"),
    [(200, 2, 5), pytest.param(500, 5, 60, marks=[pytest.mark.every, pytest.mark.timeout(1800)])],
)
def test_each_is_logged_in_with_once_and_every_call_runs_once(
    pam_host: PAMHost,
    far_pythons: FarPythons,
    far_dir: Path,
    tmp_path: Path,
    calls: int,
    expiries: int,
    seconds: int,
) -> None:
    authority = SSHAuthority(tmp_path / "authority")
    key_file = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key_file], check=True)
    cluster = clusters.ssh_cluster(
        pam_host,
        far_pythons,
        pam_host.home / "work" / "certificates",
        credentials=SSHCredentials(username=pam_host.username, key_file=str(key_file)),
        reconnect_seconds=300,
    )
    names = [f"call-{number}" for number in range(calls)]
    # As long as the certificates hold, with the four workers of the cluster.
    each = 4 * seconds * (expiries + 1) / calls
    began = len(pam_host.log)
    begun: list[int] = []

    def left() -> float:
        """How long the certificate still holds."""
        certificate = read_certificate(key_file.with_name("key-cert.pub"))
        assert certificate.ends is not None
        return certificate.ends.timestamp() - time.time()

    def renew() -> None:
        """Renew the certificate, also again, until somebody has logged in with it."""
        deadline = time.monotonic() + 120
        authority.sign(key_file, pam_host.username, f"-1m:+{seconds}s")
        while not pam_host.connections:
            assert time.monotonic() < deadline, "nobody logged in"
            if left() < 1:
                authority.sign(key_file, pam_host.username, f"-1m:+{seconds}s")
            time.sleep(0.1)

    def expire() -> None:
        """Let the certificate end and the connection break, and who reconnects be refused."""
        time.sleep(max(0.0, left()) + 1)
        log = len(pam_host.log)
        assert pam_host.drop_connections()
        wait_until(lambda: "by authenticating user" in pam_host.log[log:])
        begun.append(len(marks(far_dir)))

    @flow(task_runner=ClusterTaskRunner(cluster))
    def many() -> list[str]:
        futures = work.map([str(far_dir)] * calls, names, each)
        wait_for_marks(far_dir, 1)
        for _ in range(expiries):
            expire()
            renew()
        return futures.result()

    with pam_host.asking(*authority.settings):
        threading.Thread(target=renew, daemon=True).start()
        while not key_file.with_name("key-cert.pub").exists():
            time.sleep(0.05)
        assert many() == [name.upper() for name in names]
    assert marks(far_dir) == dict.fromkeys(names, 1)
    assert len(begun) == expiries
    assert begun[-1] < calls  # there was something left to do after each
    serials = Counter(
        re.findall(r"Accepted publickey for \S+ .* ID (serial-\d+) ", pam_host.log[began:])
    )
    # A first login, and one for each end: no certificate was shown twice, and none that had ended.
    assert len(serials) == expiries + 1
    assert set(serials.values()) == {1}

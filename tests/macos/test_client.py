"""The client side runs on macOS: nothing that only Linux has is imported, or called, there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.live.clusters import account
from tests.live.prefect_server import PrefectServer
from tests.live.pythons import FarPythons
from tests.live.ssh_host import SSHHost

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


def test_what_is_taken_away_is_missed() -> None:
    """The stand-in for macOS holds: each of these works here."""
    for line in ("import os; os.sched_getaffinity(0)", "open('/proc/self/stat')"):
        assert subprocess.run([sys.executable, "-c", line]).returncode == 0
        done = subprocess.run([sys.executable, "-c", line], env=as_on_macos(), capture_output=True)
        assert done.returncode == 1


def test_a_flow_on_macos(
    prefect_server: PrefectServer,
    ssh_host: SSHHost,
    far_pythons: FarPythons,
    remote_work_dir: Path,
    tmp_path: Path,
) -> None:
    fields = account(ssh_host, far_pythons, remote_work_dir)
    settings = {
        **{name: fields[name] for name in ("host", "port", "known_hosts", "python")},
        "username": ssh_host.username,
        "key_file": str(ssh_host.key_file),
        "work_dir": str(remote_work_dir),
    }
    done = subprocess.run(
        [sys.executable, "-m", "tests.macos.client", json.dumps(settings), str(tmp_path)],
        cwd=ROOT,
        env=as_on_macos(),
        capture_output=True,
        text=True,
        timeout=150,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["modules"] > 100
    assert found["values"] == [[3 + n, "linux"] for n in range(3)]
    assert found["listed"]
    assert found["here"]
    assert "needs Linux" in found["local"]
    assert "SSHCluster" in found["local"]


def as_on_macos() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(HERE)}

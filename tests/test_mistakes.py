"""A stranger's ten mistakes, each in a script of its own: what the terminal says of them."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from clustrix_prefect import SSHCluster, SSHCredentials
from tests.live import clusters
from tests.live.prefect_server import PrefectServer
from tests.live.pythons import FarPythons, Interpreters
from tests.live.slurm import Slurm
from tests.live.ssh_host import SSHHost

_MOST_LINES = 25
_REMEDY_WITHIN = 10

_SCRIPT = """\
import threading

from prefect import flow, task

from clustrix_prefect import ClusterTaskRunner, resources

lock = threading.Lock()


@task
def fit(seed: int) -> int:
    return seed * 2


@flow(task_runner=ClusterTaskRunner("local-cluster/mine"))
def sweep(n: int = 100) -> list[int]:
    with resources(cores=1):
        futures = fit.map(range(n))
    return [future.result() for future in futures]


if __name__ == "__main__":
    sweep()
"""


def run_script(
    directory: Path, block: str, mistake: tuple[str, str] = ("", ""), **variables: str
) -> list[str]:
    """Run a stranger's script in a process of its own; what the terminal shows, by lines.

    Args:
        directory: Where the script is.
        block: The cluster that it names.
        mistake: What it has right otherwise, and what it has instead.
        variables: Of its environment; one that is empty is not set.
    """
    script = directory / "script.py"
    script.write_text(_SCRIPT.replace("local-cluster/mine", block).replace(*mistake))
    environment = {**os.environ, **variables}
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=directory,
        env={name: value for name, value in environment.items() if value},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    assert done.returncode != 0
    return done.stdout.splitlines()


def assert_short(lines: list[str], *said: str) -> None:
    """The terminal has few lines, and what to do is among its last."""
    text = "\n".join(lines)
    assert len(lines) <= _MOST_LINES, text
    end = "\n".join(lines[-_REMEDY_WITHIN:])
    for pattern in said:
        assert re.search(pattern, end), f"{pattern!r} is not said at the end of:\n{text}"


@pytest.fixture
def saved_local(prefect_server: PrefectServer, pythons: Interpreters, tmp_path: Path) -> str:
    """The name of a saved block: this machine, with an interpreter that has no packages."""
    minor = ".".join(map(str, sys.version_info[:2]))
    cluster = clusters.local_cluster(tmp_path / "work", python=pythons[minor])
    cluster.save("mistaken", overwrite=True)
    return "local-cluster/mistaken"


def test_a_misspelt_block_name(saved_local: str, tmp_path: Path) -> None:
    lines = run_script(tmp_path, "local-cluster/mistakne")
    assert_short(lines, "no cluster block 'local-cluster/mistakne'", "local-cluster/mistaken")


def test_no_server(tmp_path: Path) -> None:
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
    url = f"http://127.0.0.1:{port}/api"
    lines = run_script(tmp_path, "local-cluster/mine", PREFECT_API_URL=url)
    assert_short(lines, url, "Start the server|prefect server start", "PREFECT_API_URL")


def test_a_server_that_says_nothing(tmp_path: Path) -> None:
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as deaf:
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}/api"
        lines = run_script(
            tmp_path,
            "local-cluster/mine",
            PREFECT_API_URL=url,
            PREFECT_API_REQUEST_TIMEOUT="1",
            PREFECT_CLIENT_MAX_RETRIES="0",
        )
    assert_short(lines, url, "Start the server|prefect server start", "PREFECT_API_URL")


def test_no_api_url(tmp_path: Path) -> None:
    lines = run_script(
        tmp_path,
        "local-cluster/mine",
        PREFECT_API_URL="",
        PREFECT_SERVER_ALLOW_EPHEMERAL_MODE="",
        PREFECT_HOME=str(tmp_path / "home"),
    )
    assert_short(lines, "PREFECT_API_URL is not set", "prefect config set PREFECT_API_URL=http")
    assert not (tmp_path / "home" / "prefect.db").exists(), "a temporary server was started"


def test_a_wrong_key_file(prefect_server: PrefectServer, ssh_host: SSHHost, tmp_path: Path) -> None:
    SSHCluster(
        host=ssh_host.host,
        port=ssh_host.port,
        known_hosts=str(ssh_host.known_hosts),
        credentials=SSHCredentials(username=ssh_host.username, key_file="~/.ssh/id_missing"),
    ).save("wrong-key", overwrite=True)
    lines = run_script(tmp_path, "ssh-cluster/wrong-key")
    assert_short(lines, "id_missing", "does not exist")


def test_an_unknown_host_key(
    prefect_server: PrefectServer, ssh_host: SSHHost, tmp_path: Path
) -> None:
    (tmp_path / "known_hosts").touch()
    SSHCluster(
        host=ssh_host.host,
        port=ssh_host.port,
        known_hosts=str(tmp_path / "known_hosts"),
        credentials=SSHCredentials(username=ssh_host.username, key_file=str(ssh_host.key_file)),
    ).save("unknown-host", overwrite=True)
    lines = run_script(tmp_path, "ssh-cluster/unknown-host")
    assert_short(lines, "ssh-keyscan")


@pytest.fixture
def saved_slurm(
    prefect_server: PrefectServer,
    slurm: Slurm,
    ssh_host: SSHHost,
    far_pythons: FarPythons,
    remote_work_dir: Path,
) -> str:
    """The name of a saved block: the SLURM cluster."""
    cluster = clusters.slurm_cluster(ssh_host, far_pythons, remote_work_dir)
    cluster.save("mistaken", overwrite=True)
    return "slurm-cluster/mistaken"


def test_a_wrong_partition(saved_slurm: str, tmp_path: Path) -> None:
    lines = run_script(tmp_path, saved_slurm, ("cores=1", 'partition="debgu"'))
    assert_short(lines, "debgu", "Name a partition that `sinfo` lists")


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        pytest.param("cores=1", 'memory="8 gigs"', ("8 gigs", "8GB"), id="no memory"),
        pytest.param(
            "return seed",
            "import numpy; return seed",
            ("numpy", "managed_environment|Install"),
            id="a package that is missing there",
        ),
        pytest.param(
            "return seed",
            "lock.locked(); return seed",
            ("'lock'", "locks inside the task"),
            id="a value that cannot be pickled",
        ),
    ],
)
def test_what_a_call_cannot_be(
    saved_local: str, tmp_path: Path, right: str, wrong: str, said: tuple[str, str]
) -> None:
    assert_short(run_script(tmp_path, saved_local, (right, wrong)), *said)

"""A stranger's ten mistakes, each in a script of its own: what the terminal says of them."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from clustrix_prefect import SSHCluster, SSHCredentials
from tests.live import clusters
from tests.live.daemon import wait_until
from tests.live.prefect_server import PrefectServer
from tests.live.pythons import FarPythons, Interpreters
from tests.live.rundir import RunDirectory
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
    script.write_text(_SCRIPT.replace(*mistake).replace("local-cluster/mine", block))
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


def assert_short(lines: list[str], *said: str, most: int = _MOST_LINES) -> None:
    """The terminal has few lines, and what to do is among its last."""
    text = "\n".join(lines)
    assert len(lines) <= most, text
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


_IN_IPYTHON = """\
from IPython.core.interactiveshell import InteractiveShell

shell = InteractiveShell.instance(colors="NoColor")
shell.run_cell({cell!r}, store_history=True)
print("%tb shows")
shell.run_line_magic("tb", "")
raise SystemExit(1)
"""


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        pytest.param("cores=1", 'memory="8 gigs"', ("8 gigs", "8GB"), id="no memory"),
        pytest.param("mistaken", "mistakne", ("mistakne'", "mistaken"), id="no block"),
        pytest.param("return seed", "lock.locked()", ("'lock'", "inside the task"), id="a lock"),
    ],
)
def test_ipython_and_notebooks_show_the_users_lines(
    saved_local: str, tmp_path: Path, right: str, wrong: str, said: tuple[str, str]
) -> None:
    cell = _SCRIPT.partition("\n\nif __name__")[0].replace("local-cluster/mine", saved_local)
    cell = f"{cell}\nsweep()".replace(right, wrong)
    lines = run_script(tmp_path, "", (_SCRIPT, _IN_IPYTHON.format(cell=cell)))
    before = lines[: lines.index("%tb shows")]
    # IPython shows up to five lines around each of the two places, the log only those.
    assert_short(before, *said, most=_MOST_LINES + 3)
    shown = lines[lines.index("%tb shows") + 1 :]
    assert_short(shown, *said)
    assert not [line for line in shown if line.startswith("File ")], shown
    assert len([line for line in shown if line.startswith("Cell In[1]")]) == 2, shown


_WAITING = """
    import time

    here = Path({here!r})
    (here / f"began-{{seed}}").touch()
    while not (here / "go").exists():
        time.sleep(0.1)
    (here / f"ended-{{seed}}").touch()
    return seed"""


@pytest.fixture(params=["local", pytest.param("ssh", marks=pytest.mark.every)])
def some_cluster(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The source of a cluster whose address the script has: its server cannot be asked for any."""
    if request.param == "local":
        here = clusters.local_cluster(tmp_path / "work", max_parallel_calls=2)
        return f"LocalCluster.model_validate_json({here.model_dump_json()!r})"
    host: SSHHost = request.getfixturevalue("ssh_host")
    found = clusters.ssh_cluster(
        host,
        request.getfixturevalue("far_pythons"),
        request.getfixturevalue("remote_work_dir"),
        max_parallel_calls=2,
    )
    return f"SSHCluster.model_validate_json({found.model_dump_json()!r})"


def test_a_server_that_dies_while_calls_run(
    some_cluster: str, run_directory: RunDirectory, tmp_path: Path
) -> None:
    """The calls go on, and the command ends; the terminal says once what happened."""
    marks = Path(tempfile.mkdtemp(dir=run_directory.child("mistakes")))
    marks.chmod(0o777)  # other accounts leave marks, too
    (tmp_path / "server").mkdir()
    server = PrefectServer(tmp_path / "server")
    server.start()
    script = tmp_path / "script.py"
    script.write_text(
        _SCRIPT.replace("import threading\n", "from pathlib import Path\n")
        .replace("lock = threading.Lock()\n", "")
        .replace("import ClusterTaskRunner, resources", "import *")
        .replace('"local-cluster/mine"', some_cluster)
        .replace("n: int = 100", "n: int = 4")
        .replace("    return seed * 2", _WAITING.format(here=str(marks)))
    )
    environment = {**os.environ, "PREFECT_API_URL": server.api_url}
    # Prefect's client asks a server that is away for half a minute, each time.
    environment["PREFECT_CLIENT_MAX_RETRIES"] = "0"
    output = tmp_path / "output"
    try:
        with output.open("w") as terminal:
            running = subprocess.Popen(
                [sys.executable, str(script)],
                cwd=tmp_path,
                env=environment,
                stdout=terminal,
                stderr=subprocess.STDOUT,
            )
        wait_until(lambda: running.poll() is not None or any(marks.glob("began-*")))
    finally:
        server.stop()
    (marks / "go").touch()
    assert running.wait(120) != 0, output.read_text()
    assert len(list(marks.glob("ended-*"))) == 4
    lines = output.read_text().splitlines()
    assert_short(lines, server.api_url, "Start the server", "PREFECT_API_URL")
    text = "\n".join(lines)
    assert text.count("The calls go on, and their states do not reach it.") == 1, text
    assert "Unable to connect" not in text
    assert "failed to process item" not in text

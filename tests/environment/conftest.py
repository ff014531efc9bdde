"""Clusters, and packages to install on them."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import pytest

from clustrix_prefect.clusters.cluster import ClusterBlock
from clustrix_prefect.environments import distributions
from clustrix_prefect.environments.preflight import Code
from clustrix_prefect.far_side.wire import protocol
from clustrix_prefect.packaging.imports import Imports
from clustrix_prefect.sessions.session import Session
from tests.environment.wheels import write_wheel
from tests.live.clusters import local_cluster, ssh_cluster
from tests.live.rundir import RunDirectory

Open = Callable[[ClusterBlock], AbstractContextManager[Session]]


@dataclass(frozen=True)
class Place:
    """A kind of cluster for tests.

    Attributes:
        name: "local" or "ssh".
        cluster: Makes a block with these fields, with one work directory for the test.
        work_dir: That directory.
        offline: Environment variables with which pip and uv know the tests' wheels only.
    """

    name: str
    cluster: Callable[..., ClusterBlock]
    work_dir: Path
    offline: dict[str, str]


@pytest.fixture(scope="session")
def wheels(run_directory: RunDirectory) -> Path:
    """A directory of wheels that any account can read: tinypkg 1.0 and 2.0, which need tinydep."""
    directory = run_directory.child("wheels")
    write_wheel(directory, "tinydep", "1.5")
    for version in ("1.0", "2.0"):
        write_wheel(directory, "tinypkg", version, requires=["tinydep>=1"])
    for file in directory.iterdir():
        file.chmod(0o644)
    return directory


@pytest.fixture(scope="session")
def offline(wheels: Path) -> dict[str, str]:
    """Variables with which pip and uv know these wheels only."""
    return {
        "PIP_CONFIG_FILE": "/dev/null",
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(wheels),
        "UV_NO_INDEX": "1",
        "UV_FIND_LINKS": str(wheels),
        "UV_NO_CONFIG": "1",
    }


@pytest.fixture(params=["local", "ssh"])
def place(request: pytest.FixtureRequest, tmp_path: Path, offline: dict[str, str]) -> Place:
    """This machine, and an account reached over SSH."""
    if request.param == "local":
        work_dir = tmp_path / "work"
        return Place("local", lambda **f: local_cluster(work_dir, **f), work_dir, offline)
    host, pythons = (request.getfixturevalue(name) for name in ("ssh_host", "far_pythons"))
    work_dir = request.getfixturevalue("remote_work_dir")
    return Place("ssh", lambda **f: ssh_cluster(host, pythons, work_dir, **f), work_dir, offline)


@pytest.fixture
def here(tmp_path: Path, offline: dict[str, str]) -> Place:
    """This machine."""
    work_dir = tmp_path / "work"
    return Place("local", lambda **f: local_cluster(work_dir, **f), work_dir, offline)


@contextlib.contextmanager
def opened(cluster: ClusterBlock) -> Iterator[Session]:
    """A session of this cluster."""
    session = Session(cluster)
    session.open()
    try:
        yield session
    finally:
        session.close()


def code(*modules: str, **sources: str) -> Code:
    """Code that imports these modules."""
    named = [(f"{name}.py", 1, source) for name, source in sources.items()]
    return Code("fit", "0" * 64, Imports(frozenset(modules)), named)


def forget_installed() -> None:
    """What is installed here has changed."""
    for function in (distributions._packages, distributions._distribution, distributions._files):
        function.cache_clear()


class Told:
    """Keeps what would go to the flow's log."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def __call__(self, level: int, line: str) -> None:
        self.lines.append(line)

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


def run_there(session: Session, python: str, program: str) -> str:
    """What a program prints under an interpreter of the cluster."""
    answer = session.request(protocol.command(argv=[python, "-c", program]))
    assert answer["returncode"] == 0, answer["stderr"]
    return str(answer["stdout"]).strip()


@pytest.fixture(scope="session")
def bare_environment(run_directory: RunDirectory) -> Path:
    """A virtual environment of this Python, without any package."""
    path = run_directory.child("bare") / "env"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(path)], check=True)
    return path


@pytest.fixture(scope="session")
def package_index(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The package index that this machine is set up for; without it the test is skipped."""
    directory = tmp_path_factory.mktemp("index")
    pip = [sys.executable, "-m", "pip"]
    command = [*pip, "download", "--no-deps", "--dest", str(directory), "six"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        why = f"no package index can be reached: {done.stderr.strip().splitlines()[-1]}"
        if os.environ.get("CI") == "true":
            pytest.fail(why, pytrace=False)
        pytest.skip(why)

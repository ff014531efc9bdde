"""The clusters that the contract is tested on, and runners for them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from clustrix_prefect import ClusterTaskRunner
from clustrix_prefect.clusters.cluster import ClusterBlock
from tests.conftest import _running
from tests.live.clusters import (
    kubernetes_cluster,
    local_cluster,
    pbs_cluster,
    sge_cluster,
    shared_with_pods,
    slurm_cluster,
    slurm_site_cluster,
    ssh_cluster,
)
from tests.live.openpbs import OpenPBS
from tests.live.rundir import RunDirectory
from tests.live.slurm import conf_of
from tests.live.slurm_pbs import SlurmPBS
from tests.live.ssh_host import SSHHost

if TYPE_CHECKING:
    from tests.live.kubernetes.cluster import Kubernetes


@dataclass(frozen=True)
class Cluster:
    """Where the calls of a test run.

    Attributes:
        name: The parameter of the suite.
        runner: A new runner; all of them share one connection.
        one_by_one: A new runner that runs one call at a time (of one map, on SLURM).
        elsewhere: A new runner of another cluster.
    """

    name: str
    runner: Callable[[], TaskRunner[Any]]
    one_by_one: Callable[[], TaskRunner[Any]]
    elsewhere: Callable[[], TaskRunner[Any]]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "cluster_only(why): has no meaning, or does not hold, in Prefect's threads"
    )
    config.addinivalue_line("markers", "only_on(name): about one kind of cluster")
    config.addinivalue_line(
        "markers", "engine: about Prefect's engine in the flow's process, not about the cluster"
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "cluster" not in metafunc.fixturenames:
        return
    names = list(_CLUSTERS)
    marker = metafunc.definition.get_closest_marker
    if marker("engine") and not metafunc.config.getoption("--every"):
        names = [name for name in names if name in _EACH_WAY]
    if marker("cluster_only"):
        names = [name for name in names if name != "threadpool"]
    if only := marker("only_on"):
        names = [name for name in names if name in only.args]
    # Calls run as over "ssh", in another's hands on the way.
    longer = () if metafunc.module.__name__.endswith(_OVER_OPENSSH) else (pytest.mark.every,)
    params = [
        pytest.param(name, marks=longer) if name == "openssh" else pytest.param(name)
        for name in names
    ]
    metafunc.parametrize("cluster", params, indirect=True, scope="session")


# Two ways to run a call, warm workers and jobs; Prefect's own threads are the reference.
_EACH_WAY = ("threadpool", "local", "slurm-site")
# What the short run tries over it: values, exceptions and log lines of all sizes.
_OVER_OPENSSH = ("test_failures", "test_logging")


@pytest.fixture(scope="session", autouse=True)
def quickly(quick_prefect: None) -> None:
    """Prefect without its waits, in all of these tests."""


def _threadpool(_: pytest.FixtureRequest) -> Cluster:
    return Cluster(
        name="threadpool",
        runner=ThreadPoolTaskRunner,
        one_by_one=lambda: ThreadPoolTaskRunner(max_workers=1),
        elsewhere=lambda: ThreadPoolTaskRunner(max_workers=3),
    )


def _local(request: pytest.FixtureRequest) -> Cluster:
    work_dir = request.getfixturevalue("tmp_path_factory").mktemp("work")
    return _cluster("local", local_cluster(work_dir), one_by_one={"max_parallel_calls": 1})


def _ssh(request: pytest.FixtureRequest) -> Cluster:
    host: SSHHost = request.getfixturevalue("ssh_host")
    cluster = ssh_cluster(host, request.getfixturevalue("far_pythons"), host.home / "contract")
    return _cluster("ssh", cluster, one_by_one={"max_parallel_calls": 1})


def _openssh(request: pytest.FixtureRequest) -> Cluster:
    host: SSHHost = request.getfixturevalue("ssh_host")
    cluster = ssh_cluster(
        host,
        request.getfixturevalue("far_pythons"),
        host.home / "contract",
        connection="openssh",
    )
    request.addfinalizer(cluster.master.close)
    return _cluster("openssh", cluster, one_by_one={"max_parallel_calls": 1})


def _slurm(request: pytest.FixtureRequest) -> Cluster:
    request.getfixturevalue("slurm")
    host: SSHHost = request.getfixturevalue("ssh_host")
    cluster = slurm_cluster(host, request.getfixturevalue("far_pythons"), host.home / "contract")
    return _cluster("slurm", cluster, one_by_one={"max_submitted_jobs": 1})


def _slurm_site(request: pytest.FixtureRequest) -> Cluster:
    cluster = slurm_site_cluster(request.getfixturevalue("slurm_site"), "contract")
    return _cluster("slurm-site", cluster, one_by_one={"max_submitted_jobs": 1})


def _sge(request: pytest.FixtureRequest) -> Cluster:
    request.getfixturevalue("gridengine")
    host: SSHHost = request.getfixturevalue("ssh_host")
    cluster = sge_cluster(host, request.getfixturevalue("far_pythons"), host.home / "contract-sge")
    return _cluster("sge", cluster, one_by_one={"max_submitted_jobs": 1})


def _openpbs(request: pytest.FixtureRequest) -> Cluster:
    return _pbs(request, request.getfixturevalue("openpbs"), "openpbs")


def _slurm_pbs(request: pytest.FixtureRequest) -> Cluster:
    request.getfixturevalue("slurm")
    return _pbs(request, request.getfixturevalue("slurm_pbs"), "slurm-pbs")


def _pbs(request: pytest.FixtureRequest, commands: OpenPBS | SlurmPBS, name: str) -> Cluster:
    host: SSHHost = request.getfixturevalue("pbs_hosts")(name, commands.login)
    cluster = pbs_cluster(host, request.getfixturevalue("far_pythons"), host.home / "contract")
    return _cluster(name, cluster, one_by_one={"max_submitted_jobs": 1})


def _kubernetes(request: pytest.FixtureRequest) -> Cluster:
    shared = request.getfixturevalue("run_directory").child("contract")
    kubernetes = request.getfixturevalue("kubernetes")
    cluster = kubernetes_cluster(
        kubernetes,
        request.getfixturevalue("contract_namespace"),
        request.getfixturevalue("far_pythons"),
        **shared_with_pods(kubernetes, shared),
    )
    return _cluster("kubernetes", cluster, one_by_one={"max_pods": 1})


def _cluster(name: str, cluster: ClusterBlock, one_by_one: dict[str, Any]) -> Cluster:
    narrow = cluster.model_copy(update=one_by_one)
    other = cluster.model_copy(update={"environment": {"ELSEWHERE": "1"}})
    return Cluster(
        name=name,
        runner=lambda: ClusterTaskRunner(cluster),
        one_by_one=lambda: ClusterTaskRunner(narrow),
        elsewhere=lambda: ClusterTaskRunner(other),
    )


_CLUSTERS = {
    "threadpool": _threadpool,
    "local": _local,
    "ssh": _ssh,
    "openssh": _openssh,
    "slurm": _slurm,
    "slurm-site": _slurm_site,
    "sge": _sge,
    "openpbs": _openpbs,
    "slurm-pbs": _slurm_pbs,
    "kubernetes": _kubernetes,
}


@pytest.fixture(scope="session")
def pbs_hosts(
    run_directory: RunDirectory, pytestconfig: pytest.Config
) -> Iterator[Callable[[str, str], SSHHost]]:
    """Accounts of their own: that of the other tests must not find PBS's commands."""
    hosts: dict[str, SSHHost] = {}
    with ExitStack() as running:

        def host_for(name: str, login: str) -> SSHHost:
            if name not in hosts:
                environment = {"SLURM_CONF": str(conf_of(run_directory))}
                host = SSHHost(run_directory, environment, account=name.replace("-", ""))
                running.enter_context(contextmanager(_running)(host, pytestconfig))
                (host.home / ".bashrc").write_text(login)
                hosts[name] = host
            return hosts[name]

        yield host_for


@pytest.fixture(scope="session")
def contract_namespace(kubernetes: Kubernetes) -> Iterator[str]:
    """Where the pods of the suite are."""
    with kubernetes.namespace() as namespace:
        yield namespace


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest, quick_prefect: None) -> Iterator[Cluster]:
    """One kind of cluster, with its connection held open for all tests."""
    found = _CLUSTERS[request.param](request)
    with found.runner():
        yield found


@pytest.fixture
def runner(cluster: Cluster) -> TaskRunner[Any]:
    """A new runner, not started."""
    return cluster.runner()


@pytest.fixture
def far_dir(run_directory: RunDirectory) -> str:
    """A directory in which the test and its far calls, of whatever account, can write."""
    path = Path(tempfile.mkdtemp(dir=run_directory.child("contract")))
    path.chmod(0o777)
    return str(path)

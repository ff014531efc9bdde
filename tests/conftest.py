"""The services that the tests run against: started once per run, on demand.

With CI=true a service that cannot start is a failure; elsewhere the tests that need it are
skipped, and say why.
"""

from __future__ import annotations

import gc
import importlib.util
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest
import trustme

from tests.live.rundir import RunDirectory

# Set before anything imports Prefect: a developer's own profile and server are never touched,
# and a flow that runs without the `prefect_server` fixture fails instead of starting a server.
_RUN = RunDirectory()
for _name in [name for name in os.environ if name.startswith("PREFECT_")]:
    del os.environ[_name]
# Every client of Prefect reads the authorities that it trusts, for http:// as well: all of the
# world's take it longer than most requests.
_AUTHORITY = _RUN.child("prefect-home") / "authority.pem"
trustme.CA().cert_pem.write_to_path(str(_AUTHORITY))
os.environ.update(
    PREFECT_HOME=str(_AUTHORITY.parent),
    PREFECT_API_SSL_CERT_FILE=str(_AUTHORITY),
    PREFECT_SERVER_ALLOW_EPHEMERAL_MODE="false",
    PREFECT_SERVER_ANALYTICS_ENABLED="false",
    DO_NOT_TRACK="1",
)

from tests.live import grouping  # noqa: E402
from tests.live.daemon import ServiceUnavailable  # noqa: E402
from tests.live.gridengine import GridEngine, environment_of  # noqa: E402
from tests.live.kerberos import Kerberos  # noqa: E402
from tests.live.openpbs import OpenPBS  # noqa: E402
from tests.live.pam_host import PAMHost  # noqa: E402
from tests.live.prefect_server import PrefectServer  # noqa: E402
from tests.live.pythons import (  # noqa: E402
    NUMPY,
    FarPythons,
    Interpreters,
    find_pythons,
    with_numpy,
    without_packages,
)
from tests.live.slurm import Slurm, conf_of  # noqa: E402
from tests.live.slurm_pbs import SlurmPBS  # noqa: E402
from tests.live.slurm_site import SlurmSite  # noqa: E402
from tests.live.ssh_host import SSHHost  # noqa: E402

if TYPE_CHECKING:
    from tests.live.kubernetes.cluster import Kubernetes, OwnKubernetes

# `make test-fast` does not install what only these need; in CI that it is missing is a failure.
collect_ignore = [
    path
    for package, path in {
        "playwright": "deployments/test_pages.py",
        "nbclient": "packaging/test_notebook.py",
    }.items()
    if os.environ.get("CI") != "true" and importlib.util.find_spec(package) is None
]

_SERVICES = pytest.StashKey[list[str]]()
_DURATIONS = pytest.StashKey[grouping.Durations]()


class _Service(Protocol):
    def start(self) -> None: ...

    def stop(self) -> None: ...


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the two longer runs."""
    parser.addoption(
        "--every",
        action="store_true",
        help="every case on every cluster and Python, where the short run takes a part",
    )
    parser.addoption(
        "--save-durations", action="store_true", help="write tests/durations.json anew"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Prepare the list of services, and leave in an orderly way when asked to end."""
    config.addinivalue_line("markers", "service: needs a service (set by the fixtures it uses)")
    config.addinivalue_line("markers", "every: only in the long run, with --every")
    config.stash[_SERVICES] = []
    config.stash[_DURATIONS] = grouping.Durations()
    config.pluginmanager.register(_Workers(config))
    config.pluginmanager.register(config.stash[_DURATIONS])

    def leave(*_: object) -> None:
        pytest.exit("terminated")  # with the summary of what failed so far

    signal.signal(signal.SIGTERM, leave)
    # A handler in Python may not be run before the signal's process waits for good: the workers of
    # a `multiprocessing.Pool` that a test makes are ended by this signal.
    os.register_at_fork(after_in_child=lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is for the long run, and group the others by the services they need."""
    if not config.getoption("--every"):
        longer = [item for item in items if item.get_closest_marker("every")]
        config.hook.pytest_deselected(items=longer)
        items[:] = [item for item in items if not item.get_closest_marker("every")]
    grouping.arrange(items)


def pytest_collection() -> None:
    """Spare the garbage collector what lives as long as the run.

    Modules and items are some million objects, in which it would look for cycles again and again.
    """
    gc.disable()


def pytest_collection_finish() -> None:
    """From here on it looks at what the tests make, and at nothing else."""
    gc.freeze()
    gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    """End Kubernetes, with all that builds on it, behind the last test of its group.

    Idle it takes an eighth of a core, and its process may have half of the run before it.
    """
    yield
    groups = [grouping.group_of(one) for one in (item, nextitem) if one is not None]
    if groups[0] == "kubernetes" != groups[-1]:
        found = item.session._fixturemanager.getfixturedefs("kubernetes", item)
        for definition in found or ():
            definition.finish(item._request)  # type: ignore[attr-defined]


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker of pytest-xdist tells the process that prints the summary what it started."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["services"] = session.config.stash[_SERVICES]
    elif session.config.getoption("--save-durations"):
        session.config.stash[_DURATIONS].save()


class _Workers:
    """What pytest-xdist calls in the process that prints the summary."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        lines = getattr(node, "workeroutput", {}).get("services", [])
        self._config.stash[_SERVICES].extend(f"[{node.gateway.id}] {line}" for line in lines)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Say which services the tests ran against."""
    terminalreporter.section("real services started")
    for line in config.stash[_SERVICES] or ["none"]:
        terminalreporter.line(line)
    terminalreporter.section("groups that took longest")
    for line in config.stash[_DURATIONS].lines():
        terminalreporter.line(line)


def pytest_unconfigure() -> None:
    """Remove the run's directory, with all that belongs to it."""
    _RUN.remove()


def _unavailable(reason: str, config: pytest.Config) -> None:
    """Fail in CI, skip elsewhere; the whole reason, with its log, is shown once at the end."""
    config.stash[_SERVICES].append(f"NOT STARTED: {reason}")
    first_line = reason.partition("\n")[0]
    if os.environ.get("CI") == "true":
        pytest.fail(first_line, pytrace=False)
    pytest.skip(first_line)


def _send_what_is_left() -> None:
    """Send the log lines and events that Prefect still holds, while the server is there."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    APILogWorker.drain_all(timeout=5)
    EventsWorker.drain_all(timeout=5)


def _running(service: _Service, config: pytest.Config) -> Iterator[Any]:
    try:
        try:
            service.start()
        except ServiceUnavailable as unavailable:
            _unavailable(str(unavailable), config)
        config.stash[_SERVICES].append(str(service))
        yield service
    finally:
        service.stop()


@pytest.fixture(scope="session")
def every(pytestconfig: pytest.Config) -> bool:
    """Whether this is the long run."""
    return bool(pytestconfig.getoption("--every"))


@pytest.fixture(scope="session")
def run_directory() -> RunDirectory:
    """A directory that other accounts can enter, removed with all that belongs to it."""
    return _RUN


@pytest.fixture(scope="session")
def prefect_server(
    run_directory: RunDirectory, pytestconfig: pytest.Config
) -> Iterator[PrefectServer]:
    """A Prefect server; flows run in this process and in those it starts report to it."""
    import prefect.context

    for server in _running(PrefectServer(run_directory.child("prefect")), pytestconfig):
        os.environ["PREFECT_API_URL"] = server.api_url
        prefect.context.refresh_global_settings_context()
        yield server
        _send_what_is_left()
        del os.environ["PREFECT_API_URL"]
        prefect.context.refresh_global_settings_context()


@pytest.fixture(scope="session")
def quick_prefect(prefect_server: PrefectServer) -> Iterator[None]:
    """Prefect without its waits: each flow run otherwise ends with a second's pause."""
    from prefect.settings import (
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
        PREFECT_LOGGING_TO_API_BATCH_INTERVAL,
        PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW,
        temporary_settings,
    )

    changes: dict[Any, Any] = {
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None,
        PREFECT_LOGGING_TO_API_BATCH_INTERVAL: 0.1,
        PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW: "ignore",
    }
    with temporary_settings(changes):
        yield


@pytest.fixture(scope="session")
def ssh_host(run_directory: RunDirectory, pytestconfig: pytest.Config) -> Iterator[SSHHost]:
    """An SSH server with an account of its own, whose logins see `slurm` and `gridengine`."""
    environment = {"SLURM_CONF": str(conf_of(run_directory)), **environment_of(run_directory)}
    yield from _running(SSHHost(run_directory, environment), pytestconfig)


@pytest.fixture(scope="session")
def pam_host(run_directory: RunDirectory, pytestconfig: pytest.Config) -> Iterator[PAMHost]:
    """An SSH server with an account of its own, which can be had ask for passwords and codes."""
    yield from _running(PAMHost(run_directory), pytestconfig)


@pytest.fixture(scope="session")
def slurm(
    run_directory: RunDirectory, ssh_host: SSHHost, pytestconfig: pytest.Config
) -> Iterator[Slurm]:
    """A SLURM cluster; its jobs run as the account of `ssh_host`, which submits them."""
    yield from _running(Slurm(run_directory), pytestconfig)


@pytest.fixture(scope="session")
def slurm_site(run_directory: RunDirectory, pytestconfig: pytest.Config) -> Iterator[SlurmSite]:
    """Another SLURM, of a newer release, with accounting and limits, and a login of its own."""
    yield from _running(SlurmSite(run_directory), pytestconfig)


@pytest.fixture(scope="session")
def gridengine(
    run_directory: RunDirectory, ssh_host: SSHHost, pytestconfig: pytest.Config
) -> Iterator[GridEngine]:
    """A Grid Engine; its jobs run as the account of `ssh_host`, which submits them."""
    yield from _running(GridEngine(run_directory), pytestconfig)


@pytest.fixture(scope="session")
def openpbs(
    run_directory: RunDirectory, far_pythons: FarPythons, pytestconfig: pytest.Config
) -> Iterator[OpenPBS]:
    """What stands in for OpenPBS."""
    newest = f"{sys.version_info[0]}.{sys.version_info[1]}"
    yield from _running(OpenPBS(run_directory, far_pythons[newest]), pytestconfig)


@pytest.fixture(scope="session")
def slurm_pbs(run_directory: RunDirectory, pytestconfig: pytest.Config) -> Iterator[SlurmPBS]:
    """SLURM's own PBS commands."""
    yield from _running(SlurmPBS(run_directory), pytestconfig)


@pytest.fixture(scope="session")
def kerberos(run_directory: RunDirectory, pytestconfig: pytest.Config) -> Iterator[Kerberos]:
    """A Kerberos realm."""
    yield from _running(Kerberos(run_directory), pytestconfig)


@pytest.fixture(scope="session")
def kubernetes(run_directory: RunDirectory, pytestconfig: pytest.Config) -> Iterator[Kubernetes]:
    """A Kubernetes: the one that CLUSTRIX_TEST_KUBECONFIG names, else one of our own."""
    # Here, since every worker reads this file, and few need that large a client library.
    from tests.live.kubernetes.cluster import Kubernetes, OwnKubernetes

    named = os.environ.get("CLUSTRIX_TEST_KUBECONFIG")
    theirs = Kubernetes(run_directory, Path(named)) if named else None
    yield from _running(theirs or OwnKubernetes(run_directory), pytestconfig)


@pytest.fixture(scope="session")
def own_kubernetes(kubernetes: Kubernetes) -> OwnKubernetes:
    """The same, for tests that take parts of it away."""
    from tests.live.kubernetes.cluster import OwnKubernetes

    if not isinstance(kubernetes, OwnKubernetes):
        pytest.skip("takes parts of a cluster away: not from the one of CLUSTRIX_TEST_KUBECONFIG")
    return kubernetes


@pytest.fixture(scope="session")
def pythons(run_directory: RunDirectory) -> Interpreters:
    """Interpreters that see no package of this machine: minor version to path. CI has a 3.6."""
    found = find_pythons()
    if "3.6" not in found and os.environ.get("CI") == "true":
        pytest.fail("no Python 3.6 on this machine (pyenv, uv or PATH)", pytrace=False)
    bare = run_directory.child("bare")
    return Interpreters(
        {minor: without_packages(path, bare / minor) for minor, path in found.items()}
    )


@pytest.fixture(scope="session")
def numpy_pythons(pythons: Interpreters, pytestconfig: pytest.Config) -> Interpreters:
    """Environments with numpy: minor version to the path of the interpreter."""
    base = find_pythons()  # an environment of this run's would not outlive it
    found = Interpreters()
    for minor in NUMPY.keys() & pythons.keys():
        try:
            found[minor] = with_numpy(base[minor], minor)
        except ServiceUnavailable as unavailable:
            _unavailable(str(unavailable), pytestconfig)
    return found


@pytest.fixture(scope="session")
def far_pythons(pythons: dict[str, str], run_directory: RunDirectory) -> FarPythons:
    """The same interpreters at paths that the account of `ssh_host` can run."""
    return FarPythons(pythons, run_directory)


@pytest.fixture
def remote_work_dir(ssh_host: SSHHost, request: pytest.FixtureRequest) -> Path:
    """A work directory in the far home for one test; it does not exist yet."""
    name = "".join(c if c.isalnum() else "-" for c in request.node.name)[:60]
    return ssh_host.home / "work" / name

"""Code that strangers write: the same value everywhere, the same exception, or a refusal.

Each case is a plain call here, and a call in an interpreter that has nothing but what travels.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect.task_runners import ThreadPoolTaskRunner

from clustrix_prefect import ClusterTaskRunner, LocalCluster
from clustrix_prefect.errors import CallNotPortable, NotPortable
from tests.live.clusters import ssh_cluster
from tests.live.prefect_server import PrefectServer
from tests.live.pythons import FarPythons
from tests.live.ssh_host import SSHHost
from tests.packaging.compared import KINDS, cases, in_flow, outcome
from tests.packaging.elsewhere import Elsewhere
from tests.packaging.strangers import refused

OWN = ".".join(map(str, sys.version_info[:2]))
OTHERS = tuple(minor for minor in ("3.6", "3.8", "3.13") if minor != OWN)
ALL = [(kind, number) for kind in KINDS for number in range(len(cases(kind)))]
NAMES = [f"{kind}-{number}" for kind, number in ALL]


@pytest.fixture(scope="module")
def far(
    request: pytest.FixtureRequest,
    pythons: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Elsewhere]:
    """An interpreter of the version that is asked for."""
    if request.param not in pythons:
        pytest.skip(f"no Python {request.param} on this machine")
    python = sys.executable if request.param == OWN else pythons[request.param]
    interpreter = Elsewhere(python, tmp_path_factory.mktemp("far"))
    yield interpreter
    interpreter.close()


@pytest.mark.parametrize(("kind", "number"), ALL, ids=NAMES)
@pytest.mark.parametrize("far", [OWN], indirect=True)
def test_the_same_version(far: Elsewhere, kind: str, number: int) -> None:
    function, *args = cases(kind)[number]
    there = outcome(far.call, function, *args)  # first: some count how often they are called
    assert there == outcome(function, *args)


@pytest.mark.parametrize("number", range(len(cases("modules", "FILES"))))
@pytest.mark.parametrize("far", [OWN], indirect=True)
def test_modules_are_files(far: Elsewhere, number: int) -> None:
    function, *args = cases("modules", "FILES")[number]
    assert outcome(far.call, function, *args) == outcome(function, *args)


def in_a_fresh_process(mode: str, directory: Path) -> dict[str, Any]:
    """What all cases come to in a process of their own."""
    command = [sys.executable, "-m", "tests.packaging.compared", mode, str(directory)]
    subprocess.run(command, check=True, timeout=300, cwd=Path(__file__).parents[2])
    found: dict[str, Any] = json.loads((directory / f"{mode}.json").read_text())
    return found


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """What plain calls come to, and where cloudpickle's pickles of the same calls are."""
    directory = tmp_path_factory.mktemp("plain")
    return directory, in_a_fresh_process("plain", directory)


def test_threads(prefect_server: PrefectServer, plain: tuple[Path, dict[str, Any]]) -> None:
    """The plain calls are what Prefect's own runner makes of them."""
    directory, here = plain
    there = in_a_fresh_process("threads", directory)
    assert {n: (here[n], there[n]) for n in here if here[n] != there[n]} == {}


def test_cloudpickle(plain: tuple[Path, dict[str, Any]]) -> None:
    """Where cloudpickle gives another value, or none, the cases say so: we give the plain one."""
    directory, here = plain
    there = in_a_fresh_process("cloudpickle", directory)
    wrong = {n: (here[n], there.get(n)) for n in here if here[n] != there.get(n)}
    assert {n: wrong[n] for n in wrong if n not in refused.BY_CLOUDPICKLE} == {}


def test_a_local_cluster(prefect_server: PrefectServer, tmp_path: Path) -> None:
    found = [case for kind in KINDS for case in cases(kind)]
    cluster = LocalCluster(remote_work_dir=str(tmp_path / "work"), max_parallel_calls=1)
    there = in_flow(ClusterTaskRunner(cluster), found)
    here = [outcome(function, *args) for function, *args in found]
    assert {n: t for n, t, h in zip(NAMES, there, here, strict=True) if t != h} == {}


@pytest.mark.every  # other versions lack packages, too, and this machine is a cluster
def test_an_ssh_host(
    prefect_server: PrefectServer,
    ssh_host: SSHHost,
    far_pythons: FarPythons,
    remote_work_dir: Path,
) -> None:
    """The flow's version of Python, without its packages."""
    found = [case for kind in KINDS for case in cases(kind)]
    cluster = ssh_cluster(ssh_host, far_pythons, remote_work_dir, max_parallel_calls=1)
    there = dict(zip(NAMES, in_flow(ClusterTaskRunner(cluster), found), strict=True))
    lacking = {name for name, (what, text, *_) in there.items() if what == "refused"}
    assert {n: there[n] for n in lacking if "is not installed there" not in there[n][1]} == {}
    assert lacking == refused.WITHOUT_PACKAGES
    here = {name: outcome(*case) for name, case in zip(NAMES, found, strict=True)}
    assert {n: (here[n], there[n]) for n in here if n not in lacking and here[n] != there[n]} == {}


def test_tasks_inside_tasks(prefect_server: PrefectServer, tmp_path: Path) -> None:
    found = cases("prefect_parts")
    cluster = LocalCluster(remote_work_dir=str(tmp_path / "work"), max_parallel_calls=1)
    there = in_flow(ClusterTaskRunner(cluster), found)  # first: some count their calls
    assert there == in_flow(ThreadPoolTaskRunner(), found)


def test_there_are_many() -> None:
    assert len(ALL) >= 150


@pytest.mark.parametrize(("kind", "number"), ALL, ids=NAMES)
@pytest.mark.parametrize("far", OTHERS, indirect=True)
def test_another_version(far: Elsewhere, kind: str, number: int) -> None:
    """The same, or refused for the reason that is known: never another value."""
    function, *args = cases(kind)[number]
    name, minor = f"{kind}-{number}", ".".join(map(str, far.version))
    why = refused.BY_OTHERS.get(name) or refused.BY_AGE.get(minor, {}).get(name)
    if why is not None:
        with pytest.raises((NotPortable, CallNotPortable), match=why):
            outcome(far.call, function, *args)
        return
    there, here = outcome(far.call, function, *args), outcome(function, *args)
    said = refused.BY_PYTHON.get(minor, {}).get(name)
    if said is None:
        assert there == here
    else:
        assert there[0] == "raised"
        assert said in there[2]

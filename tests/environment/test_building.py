"""Managed environments: built once, whoever asks, whatever happens meanwhile."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from clustrix_prefect import ManagedEnvironment
from clustrix_prefect.environments.building import environments_of
from clustrix_prefect.environments.preflight import Code
from clustrix_prefect.errors import EnvironmentNotBuilt, PythonVersionMismatch
from clustrix_prefect.sessions.session import Session
from tests.environment.conftest import Place, Told, code, forget_installed, opened, run_there
from tests.environment.stalling_index import stalling_index
from tests.environment.wheels import unpacked
from tests.live.clusters import ssh_cluster
from tests.live.pythons import FarPythons
from tests.live.ssh_host import SSHHost

# Debian keeps what makes virtual environments in a package of its own.
pytestmark = pytest.mark.service

VERSION = "import tinypkg, tinydep; print(tinypkg.VERSION, tinydep.VERSION)"
HERE = "{}.{}".format(*sys.version_info[:2])
ROOT = Path(__file__).parents[2]


def managed(**fields: Any) -> ManagedEnvironment:
    return ManagedEnvironment(**{"requirements": ["tinypkg==1.0"], "python": HERE, **fields})


def prepare(session: Session, what: Code) -> Told:
    told = Told()
    environments_of(session).prepare(what, told)
    return told


def builds(place: Place) -> list[Path]:
    """The environments that were built, finished or not."""
    found = place.work_dir.glob("environments/*/env.*")
    return [path for path in found if path.suffix != ".link"]


@pytest.mark.parametrize(
    ("place", "use_uv"),
    [
        ("local", False),
        ("ssh", True),
        pytest.param("local", True, marks=pytest.mark.every),
        pytest.param("ssh", False, marks=pytest.mark.every),
    ],
    indirect=["place"],
    ids=["local-pip", "ssh-uv", "local-uv", "ssh-pip"],
)
def test_it_is_built_once(place: Place, use_uv: bool) -> None:
    if use_uv:
        pytest.importorskip("uv")
    cluster = place.cluster(managed_environment=managed(use_uv=use_uv), environment=place.offline)
    with opened(cluster) as session:
        python = environments_of(session).interpreter_for(code("tinypkg"))
        told = prepare(session, code("tinypkg"))
        assert run_there(session, python.path, VERSION) == "1.0 1.5"
        prefix = run_there(session, python.path, "import sys; print(sys.prefix)")
        assert python.path.startswith(f"{prefix}/")
    assert "tinypkg==1.0" in told.text
    assert f"Building with {'uv' if use_uv else 'venv'}" in told.text
    assert told.lines[-1].endswith("is ready")
    (built,) = builds(place)
    with opened(cluster) as session:
        assert prepare(session, code("tinypkg")).lines == []
        assert prepare(session, code("tinypkg", "json")).lines == []
    assert builds(place) == [built]
    assert not list(place.work_dir.glob("environments/*/lock*"))


def test_two_flows_at_once_build_it_once(here: Place) -> None:
    fields = {
        "remote_work_dir": str(here.work_dir),
        "python": sys.executable,
        "environment": here.offline,
        "managed_environment": managed(use_uv=False).model_dump(),
    }
    command = [sys.executable, "-m", "tests.environment.prepare", json.dumps(fields)]
    processes = [
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    said = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert all(text.endswith("prepared\n") for text in said)
    assert len(builds(here)) == 1
    assert sum("Successfully installed" in text and "waiting" not in text for text in said) == 1
    assert any("is being built" in text or text == "prepared\n" for text in said)


def test_a_build_that_was_killed_is_done_again(here: Place) -> None:
    fields = {
        "remote_work_dir": str(here.work_dir),
        "python": sys.executable,
        "managed_environment": managed(use_uv=False).model_dump(),
    }
    with stalling_index() as (environment, asked):
        client = subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.environment.prepare"),
                json.dumps({**fields, "environment": environment}),
            ],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
        )
        assert asked.wait(60)
        client.kill()
        client.wait()
        (owner,) = here.work_dir.glob("environments/*/lock/owner.json")
        os.killpg(json.loads(owner.read_text())["pid"], signal.SIGKILL)
    with opened(here.cluster(**{**fields, "environment": here.offline})) as session:
        told = prepare(session, code("tinypkg"))
        python = environments_of(session).interpreter_for(code("tinypkg"))
        assert run_there(session, python.path, VERSION) == "1.0 1.5"
    assert "already" not in told.text
    assert len(builds(here)) == 1


def test_a_build_that_keeps_dying_is_given_up(here: Place) -> None:
    # Whoever builds is ended while it starts.
    dying = {"PYTHONHOME": "/nowhere"}
    cluster = here.cluster(managed_environment=managed())
    with opened(cluster) as session:
        environments_of(session).interpreter_for(code())
        session.cluster.environment.update(dying)
        with pytest.raises(EnvironmentNotBuilt, match="the build ended with exit status 1"):
            prepare(session, code())


def test_a_connection_that_breaks_does_not_end_the_build(
    ssh_host: SSHHost, far_pythons: FarPythons, remote_work_dir: Path, offline: dict[str, str]
) -> None:
    cluster = ssh_cluster(
        ssh_host,
        far_pythons,
        remote_work_dir,
        managed_environment=managed(use_uv=False),
        environment=offline,
    )
    said: list[str] = []

    def drop(level: int, line: str) -> None:
        said.append(line)
        if "Building with" in line:
            ssh_host.drop_connections()

    with opened(cluster) as session:
        environments_of(session).prepare(code("tinypkg"), drop)
        python = environments_of(session).interpreter_for(code("tinypkg"))
        assert run_there(session, python.path, VERSION) == "1.0 1.5"
    assert sum("Building with" in line for line in said) == 1
    assert len(list(remote_work_dir.glob("environments/*/env.*"))) == 1


def test_what_cannot_be_installed_is_said_and_can_be_mended(here: Place) -> None:
    wanted = managed(requirements=["tinypkg==7.0"], use_uv=False)
    cluster = here.cluster(managed_environment=wanted, environment=here.offline)
    with opened(cluster) as session, pytest.raises(EnvironmentNotBuilt) as caught:
        prepare(session, code("tinypkg"))
    assert "No matching distribution found for tinypkg==7.0" in caught.value.what
    assert "wheelhouse=True" in caught.value.remedy
    assert not builds(here)
    # The same requirements, with an index that has them.
    (recipe,) = here.work_dir.glob("environments/*/recipe.json")
    mended = managed(requirements=["tinypkg==2.0"])
    cluster = here.cluster(managed_environment=mended, environment=here.offline)
    with opened(cluster) as session:
        prepare(session, code("tinypkg"))
    assert recipe.exists()
    assert len(builds(here)) == 1


def test_an_environment_whose_interpreter_is_gone_is_built_again(
    here: Place,
) -> None:
    wanted = managed()
    cluster = here.cluster(managed_environment=wanted, environment=here.offline)
    with opened(cluster) as session:
        prepare(session, code())
        path = environments_of(session).interpreter_for(code()).path
    Path(path).unlink()
    with opened(cluster) as session:
        assert prepare(session, code()).lines[-1].endswith("is ready")
        assert run_there(session, path, VERSION) == "1.0 1.5"
    assert len(builds(here)) == 1


def test_another_python_another_environment(here: Place, pythons: dict[str, str]) -> None:
    old = here.cluster(managed_environment=managed(python="3.6"), environment=here.offline)
    with opened(old) as session:
        python = environments_of(session).interpreter_for(code())
        assert python.version == (3, 6)
        told = prepare(session, code("tinypkg"))
        assert "Building with" in told.text
        version = run_there(session, python.path, "import sys, tinypkg; print(sys.version_info[1])")
        assert version == "6"
    with opened(here.cluster(managed_environment=managed())) as session:
        assert environments_of(session).interpreter_for(code()) != python


def test_a_python_that_nobody_has(place: Place) -> None:
    cluster = place.cluster(managed_environment=managed(python=">=3.99"))
    with opened(cluster) as session, pytest.raises(PythonVersionMismatch, match=r">=3\.99"):
        environments_of(session).interpreter_for(code())


@pytest.mark.usefixtures("package_index")
def test_without_ensurepip_pip_comes_with_the_wheels(here: Place, tmp_path: Path) -> None:
    """As on Debian, where what brings pip into an environment is a package of its own."""
    broken = tmp_path / "ensurepip"
    broken.mkdir()
    (broken / "__init__.py").write_text("raise ImportError('not installed')\n")
    base = tmp_path / "base"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", base], check=True)
    library = next(base.glob("lib/*/site-packages"))
    (library / "sitecustomize.py").write_text(
        f"import sys\nsys.path.insert(0, {str(tmp_path)!r})\n"
    )
    wanted = managed(use_uv=False, requirements=["six"], wheelhouse=True)
    cluster = here.cluster(managed_environment=wanted, python=f"{base}/bin/python")
    with opened(cluster) as session:
        prepare(session, code("six"))


@pytest.mark.usefixtures("package_index")
def test_wheels_are_collected_here_for_a_cluster_without_an_index(
    place: Place, wheels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # From the index that this machine is set up for, and from the tests' own directory.
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    nothing = {"PIP_CONFIG_FILE": "/dev/null", "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": ""}
    wanted = managed(requirements=["tinypkg", "six"], wheelhouse=True, use_uv=False)
    with opened(place.cluster(managed_environment=wanted, environment=nothing)) as session:
        told = prepare(session, code("tinypkg", "six"))
        python = environments_of(session).interpreter_for(code("tinypkg", "six"))
        assert run_there(session, python.path, VERSION) == "2.0 1.5"
    assert "Collecting wheels for Python" in told.text
    assert "pip, six, tinydep, tinypkg" in told.text


def test_a_wheel_that_is_not_to_be_had_is_named(
    here: Place, offline: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in offline.items():
        monkeypatch.setenv(name, value)
    wanted = managed(requirements=["tinypkg==7.0"], wheelhouse=True)
    with (
        opened(here.cluster(managed_environment=wanted)) as session,
        pytest.raises(EnvironmentNotBuilt, match=r"tinypkg==7\.0"),
    ):
        prepare(session, code("tinypkg"))


@pytest.mark.usefixtures("package_index")
def test_what_the_code_imports_is_pinned_to_what_is_here(here: Place) -> None:
    six = pytest.importorskip("six")
    automatic = ManagedEnvironment(python=HERE)
    with opened(here.cluster(managed_environment=automatic)) as session:
        told = prepare(session, code("six.moves", "json"))
        python = environments_of(session).interpreter_for(code("six.moves", "json"))
        assert run_there(session, python.path, "import six; print(six.__version__)") == (
            six.__version__
        )
    assert f"six=={six.__version__}" in told.text


def test_what_that_needs_in_turn_is_as_here_too(
    here: Place, wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = tmp_path / "here"
    unpacked(installed, "1.0", requires=["tinydep>=1"])
    unpacked(installed, "1.0", name="tinydep")
    monkeypatch.syspath_prepend(str(installed))
    forget_installed()
    index = {
        "PIP_FIND_LINKS": f"{wheels} {installed}",
        "UV_FIND_LINKS": f"{wheels},{installed}",
    }
    automatic = ManagedEnvironment(python=HERE)
    try:
        with opened(
            here.cluster(managed_environment=automatic, environment={**here.offline, **index})
        ) as session:
            told = prepare(session, code("tinypkg"))
            python = environments_of(session).interpreter_for(code("tinypkg"))
            assert run_there(session, python.path, VERSION) == "1.0 1.0"
    finally:
        forget_installed()
    assert "tinypkg==1.0" in told.text

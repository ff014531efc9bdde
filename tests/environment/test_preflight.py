"""Before anything is queued: what an interpreter lacks, in one error with the remedy."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect import flow, task

from clustrix_prefect import ClusterTaskRunner
from clustrix_prefect.environments import distributions, preflight
from clustrix_prefect.environments.building import environments_of
from clustrix_prefect.environments.interpreters import FarPython
from clustrix_prefect.errors import AgentError, EnvironmentMismatch, NotPortable
from clustrix_prefect.far_side.wire.protocol import Request
from clustrix_prefect.sessions.session import Session
from tests.environment.conftest import Place, Told, code, forget_installed, opened
from tests.environment.wheels import unpacked

HERE = (sys.version_info.major, sys.version_info.minor)


def test_all_that_is_missing_is_in_one_error(here: Place, bare_environment: Path) -> None:
    cluster = here.cluster(virtual_environment=str(bare_environment))
    with opened(cluster) as session, pytest.raises(EnvironmentMismatch) as caught:
        environments_of(session).prepare(
            code("json", "numpy.linalg.norm", "yaml.safe_load", "nowhere_to_be_found"), Told()
        )
    error = caught.value
    assert isinstance(error, NotPortable)
    assert len(error.lacks) == 3
    for part in ("`numpy`", "`yaml` (of PyYAML)", "`nowhere_to_be_found`", "'fit'"):
        assert part in error.what
    assert str(bare_environment) in error.what
    numpy, yaml = (distributions.providers(name)[0] for name in ("numpy", "yaml"))
    assert set(error.requirements) == {f"numpy=={numpy.version}", f"PyYAML=={yaml.version}"}
    for part in (*error.requirements, "managed_environment=ManagedEnvironment()", "`python`"):
        assert part in error.remedy


def test_an_interpreter_over_ssh(place: Place) -> None:
    # The account's interpreters have no packages.
    with opened(place.cluster()) as session:
        environments_of(session).prepare(code("json", "sqlite3.dbapi2"), Told())
        if place.name == "ssh":
            with pytest.raises(EnvironmentMismatch, match="`prefect_of_nobody` is not installed"):
                environments_of(session).prepare(code("prefect_of_nobody"), Told())


def test_what_an_older_standard_library_lacks(here: Place, pythons: dict[str, str]) -> None:
    old = FarPython(pythons["3.6"], (3, 6))
    with opened(here.cluster()) as session, pytest.raises(EnvironmentMismatch) as caught:
        preflight.check(session, code("dataclasses.dataclass", "zoneinfo", "json"), old)
    assert caught.value.lacks == (
        "`dataclasses.dataclass` is not in the standard library of Python 3.6 there",
        "`zoneinfo` is not in the standard library of Python 3.6 there",
    )
    assert "Use a newer Python" in caught.value.remedy


def test_names_that_an_older_standard_library_lacks(here: Place, pythons: dict[str, str]) -> None:
    old = FarPython(pythons["3.8"], (3, 8))
    fine = code("functools.lru_cache", "os.path.join", "importlib.metadata.version", "json")
    newer = code("functools.cache", "enum.StrEnum", "asyncio.taskgroups.TaskGroup", "tomllib.load")
    with opened(here.cluster()) as session:
        assert preflight.check(session, fine, old).warnings == []
        with pytest.raises(EnvironmentMismatch, match="Use a newer Python") as caught:
            preflight.check(session, newer, old)
    assert caught.value.lacks == tuple(
        f"`{name}` is not in the standard library of Python 3.8 there"
        for name in (
            "asyncio.taskgroups.TaskGroup",
            "enum.StrEnum",
            "functools.cache",
            "tomllib.load",
        )
    )
    assert caught.value.requirements == ()


def test_modules_inside_of_packages(
    here: Place, bare_environment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some are installed there, others only here; a shared namespace is not enough."""
    both = {"there": ["tinyspace/cloud/one.py"], "here": ["tinyspace/cloud/two.py"]}
    for name, files in both.items():
        for file in (*files, "tinywhole/__init__.py", f"tinywhole/{name}.py", "tinyold.py"):
            path = tmp_path / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("def f(): ...\n")
    (tmp_path / "there" / "tinywhole" / "__init__.py").write_text(
        "import sys, types\nsys.modules['tinywhole.made'] = types.ModuleType('made')\n"
    )
    (tmp_path / "here" / "tinywhole" / "made.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path / "here"))
    cluster = here.cluster(
        virtual_environment=str(bare_environment),
        environment={"PYTHONPATH": str(tmp_path / "there")},
    )
    with opened(cluster) as session:
        fine = ("tinyspace.cloud.one.f", "tinywhole.f", "tinywhole.made.g", "tinyold.f")
        environments_of(session).prepare(code(*fine), Told())
        with pytest.raises(EnvironmentMismatch) as caught:
            environments_of(session).prepare(
                code(*fine, "tinyspace.cloud.two.f", "tinyspace.cloud.three", "tinywhole.here.f"),
                Told(),
            )
    assert caught.value.lacks == tuple(
        f"`{name}` is not installed there"
        for name in ("tinyspace.cloud.three", "tinyspace.cloud.two", "tinywhole.here")
    )


def test_syntax_that_an_older_python_does_not_read(here: Place, pythons: dict[str, str]) -> None:
    old = FarPython(pythons["3.6"], (3, 6))
    fine = "def f(x: int) -> str:\n    return f'{x}'\n"
    newer = "def g(x):\n    if (y := x):\n        return y\n"
    with opened(here.cluster()) as session:
        assert preflight.check(session, code("json", fine=fine), old).warnings == []
        with pytest.raises(EnvironmentMismatch, match=r"line 2 of newer\.py is no Python 3\.6"):
            preflight.check(session, code("json", fine=fine, newer=newer), old)


def test_nothing_is_asked_where_the_answer_is_known(here: Place) -> None:
    with opened(here.cluster()) as session:
        before = session.agent.round_trips
        assert environments_of(session).is_ready(code("json", "os.path"))
        assert session.agent.round_trips == before
        assert not environments_of(session).is_ready(code("numpy"))


@task
def norm(values: list[float]) -> float:
    import numpy

    return float(numpy.linalg.norm(values))


@pytest.mark.usefixtures("prefect_server")
def test_the_same_code_is_asked_about_once(here: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = here.cluster(python=sys.executable)
    asked: list[dict[str, Any]] = []
    request = Session.request

    def noting(session: Session, wanted: Request[Any], timeout: float | None = 60) -> Any:
        if wanted.op == "probe":
            asked.append(wanted.fields["question"])
        return request(session, wanted, timeout)

    monkeypatch.setattr(Session, "request", noting)

    @flow(task_runner=ClusterTaskRunner(cluster))
    def study() -> Any:
        return norm.map([[3.0, 4.0]] * 10).result()

    with ClusterTaskRunner(cluster):  # keeps the connection open
        assert study() == study() == [5.0] * 10
    assert [question["modules"] for question in asked] == [["numpy"]]


def test_an_interpreter_that_does_not_answer(here: Place) -> None:
    gone = FarPython("/nowhere/python", HERE)
    with opened(here.cluster()) as session, pytest.raises(AgentError, match="does not start"):
        preflight.check(session, code("numpy"), gone)


def test_a_prologue_that_is_noisy_does_not_disturb(here: Place) -> None:
    noise = ["seq 20000", "echo to the other >&2"]
    with opened(here.cluster(setup=noise, python=sys.executable)) as session:
        environments_of(session).prepare(code("numpy"), Told())


class TestVersions:
    """A package that is 1.0 there and 2.0 here."""

    @pytest.fixture
    def older(self, here: Place, bare_environment: Path, tmp_path: Path) -> Any:
        """Makes a cluster that has 1.0."""
        there = unpacked(tmp_path / "there", "1.0")
        fields = {
            "virtual_environment": str(bare_environment),
            "environment": {"PYTHONPATH": str(there)},
        }
        return lambda **more: here.cluster(**fields, **more)

    @pytest.fixture(autouse=True)
    def install_here(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
    ) -> Iterator[None]:
        python = getattr(request, "param", "")
        monkeypatch.syspath_prepend(str(unpacked(tmp_path / "here", "2.0", python=python)))
        forget_installed()
        yield
        forget_installed()

    def test_another_major_is_refused(self, older: Any) -> None:
        with opened(older()) as session, pytest.raises(EnvironmentMismatch) as caught:
            environments_of(session).prepare(code("tinypkg.VERSION"), Told())
        assert caught.value.lacks == ("tinypkg is 1.0 there and 2.0 here",)
        assert caught.value.requirements == ("tinypkg==2.0",)
        assert 'package_versions="any"' in caught.value.remedy

    def test_unless_any_version_will_do(self, older: Any) -> None:
        told = Told()
        with opened(older(package_versions="any")) as session:
            environments_of(session).prepare(code("tinypkg"), told)
        assert told.lines == ["fit: tinypkg is 1.0 there and 2.0 here"]

    @pytest.mark.parametrize("install_here", [">=3.99"], indirect=True)
    def test_or_there_is_none_for_that_python(self, older: Any) -> None:
        told = Told()
        with opened(older()) as session:
            environments_of(session).prepare(code("tinypkg"), told)
        assert told.lines == [
            "fit: tinypkg is 1.0 there and 2.0 here, which needs Python >=3.99",
        ]

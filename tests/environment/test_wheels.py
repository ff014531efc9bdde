"""Wheels for another machine and another Python: what belongs to them is decided for those."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from clustrix_prefect.clusters.requirements import Requirements
from clustrix_prefect.environments import wheels
from clustrix_prefect.environments.wheels import Target
from clustrix_prefect.errors import EnvironmentNotBuilt
from tests.environment.wheels import write_wheel

LINUX = ("linux-x86_64", ("glibc", "2.28"))


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The wheels that this machine's pip knows."""
    directory = tmp_path / "index"
    directory.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(directory))
    write_wheel(directory, "pip", "99.0")
    return directory


def collected(target: Target, into: Path, *lines: str) -> list[str]:
    into.mkdir()
    return wheels.names(wheels.collect(Requirements(lines), target, into))


def test_wheels_fit_a_platform() -> None:
    tags = Target((3, 9, 2), "linux-x86_64", ("glibc", "2.17")).tags
    assert tags[:2] == ["manylinux_2_17_x86_64", "manylinux2014_x86_64"]
    assert "manylinux2010_x86_64" in tags
    assert tags[-1] == "linux_x86_64"
    assert Target((3, 12), "linux-aarch64", ("", "")).tags[0] == "musllinux_1_2_aarch64"


def test_dependencies_are_those_of_the_target(index: Path, tmp_path: Path) -> None:
    older = (sys.version_info.major, sys.version_info.minor - 1)
    newer = (sys.version_info.major, sys.version_info.minor)
    markers = {
        "before": f'python_version < "{newer[0]}.{newer[1]}"',
        "after": f'python_full_version >= "{newer[0]}.{newer[1]}.0"',
        "elsewhere": 'platform_machine == "s390x"',
        "windows": 'sys_platform == "win32" or os_name == "nt" or platform_system == "Windows"',
        "cpython": 'implementation_name == "cpython"',
    }
    for name in markers:
        write_wheel(index, name, "1.0")
    needs = [f"{name}; {marker}" for name, marker in markers.items()]
    write_wheel(index, "middle", "1.0", requires=needs)
    write_wheel(index, "top", "1.0", requires=["middle"])
    old = collected(Target((*older, 7), *LINUX), tmp_path / "old", "top")
    assert old == ["before", "cpython", "middle", "pip", "top"]
    new = collected(Target(newer, *LINUX), tmp_path / "new", "top")
    assert new == ["after", "cpython", "middle", "pip", "top"]
    other = Target((*older, 7), "linux-s390x", LINUX[1])
    assert "elsewhere" in collected(other, tmp_path / "other", "top")


def test_versions_are_those_that_the_target_takes(index: Path, tmp_path: Path) -> None:
    write_wheel(index, "some", "1.0")
    write_wheel(index, "some", "2.0", python=">=3.9")
    collected(Target((3, 8, 1), *LINUX), tmp_path / "old", "some")
    assert (tmp_path / "old" / "some-1.0-py3-none-any.whl").exists()
    with pytest.raises(EnvironmentNotBuilt, match=r"for Python 3\.8 on linux-.*'some' requires"):
        collected(Target((3, 8, 1), *LINUX), tmp_path / "not", "some==2.0")


def test_a_pip_that_answers_markers_for_itself_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vendored = tmp_path / "pip" / "_vendor" / "packaging"
    vendored.mkdir(parents=True)
    for directory in (vendored, vendored.parent, vendored.parent.parent):
        (directory / "__init__.py").touch()
    (tmp_path / "pip" / "__main__.py").touch()
    # As if what is replaced were somewhere else by now.
    (vendored / "markers.py").write_text(
        "class Marker:\n"
        "    def __init__(self, text):\n        pass\n"
        "    def evaluate(self):\n        return False\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(EnvironmentNotBuilt, match="answers markers for its own interpreter"):
        collected(Target((3, 8, 1), *LINUX), tmp_path / "into", "some")

"""The Python interpreters of this machine, by minor version."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from uv import find_uv_bin

from tests.live.daemon import ServiceUnavailable
from tests.live.kubernetes.build import CACHE
from tests.live.rundir import RunDirectory

MINORS = ("3.6", "3.8", "3.10", "3.11", "3.12", "3.13")
# Those that far sides are tried under; between the oldest and the newest only in the long run.
FAR = (
    "3.6",
    pytest.param("3.8", marks=pytest.mark.every),
    pytest.param("3.11", marks=pytest.mark.every),
    "3.13",
)
# The newest numpy that there is for some versions of Python: two of them are older than numpy 2.
NUMPY = {
    **{"3.6": "1.19.5", "3.8": "1.24.4"},
    **dict.fromkeys(("3.10", "3.11", "3.12", "3.13"), "2.2.6"),
}


def find_pythons() -> dict[str, str]:
    """Interpreters by minor version: pyenv's, uv's, or the system's."""
    found = {minor: _find(minor) for minor in MINORS}
    return {minor: path for minor, path in found.items() if path}


def _find(minor: str) -> str | None:
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    candidates = [str(path) for path in sorted(versions.glob(f"{minor}.*/bin/python{minor}"))]
    candidates += [shutil.which(f"python{minor}") or "", f"/usr/bin/python{minor}"]
    if uv := shutil.which("uv"):
        asked = subprocess.run([uv, "python", "find", minor], capture_output=True, text=True)
        candidates.append(asked.stdout.strip())
    return next((path for path in candidates if _runs(path, minor)), None)


def _runs(path: str, minor: str) -> bool:
    """Whether this is what it seems: pyenv's shims are there for versions that are not."""
    if not os.access(path, os.X_OK):
        return False
    program = "import sys; print('%d.%d' % sys.version_info[:2])"
    done = subprocess.run([path, "-c", program], capture_output=True, text=True)
    return done.stdout.strip() == minor


class Interpreters(dict[str, str]):
    """Interpreters of this machine: minor version to path; a test that needs another is skipped."""

    def __missing__(self, minor: str) -> str:
        pytest.skip(f"no Python {minor} on this machine")


def without_packages(python: str, directory: Path) -> str:
    """Make an environment in which an interpreter sees its standard library only.

    A machine's own Python has what its administrator installed, which no test shall depend on.

    Args:
        python: The interpreter.
        directory: Where the environment goes; what is there already is taken.

    Returns:
        The environment's interpreter.
    """
    program = directory / "bin" / "python"
    if not program.exists():
        subprocess.run([python, "-m", "venv", "--without-pip", str(directory)], check=True)
    return str(program)


def with_numpy(python: str, minor: str, parent: Path = CACHE) -> str:
    """Return the interpreter of an environment that has numpy; make it when there is none.

    Args:
        python: The interpreter that it is made with.
        minor: Its version.
        parent: Where the environment is kept: the user's cache directory, if not elsewhere.

    Raises:
        ServiceUnavailable: numpy cannot be installed: there is no package index, say.
    """
    directory = parent / f"numpy-{NUMPY[minor]}-{minor}"
    program = directory / "bin" / "python"
    if not program.exists():
        parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=parent, prefix="numpy-") as scratch:
            made = Path(scratch) / "made"
            _install_numpy(python, minor, made)
            with contextlib.suppress(OSError):  # another process was quicker
                made.rename(directory)
    return str(program)


def _install_numpy(python: str, minor: str, directory: Path) -> None:
    uv, program = find_uv_bin(), directory / "bin" / "python"
    for command in (
        [uv, "venv", "--quiet", "--python", python, str(directory)],
        [uv, "pip", "install", "--quiet", "--python", str(program), f"numpy=={NUMPY[minor]}"],
    ):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise ServiceUnavailable(f"numpy for Python {minor}: {done.stderr.strip()}")


class FarPythons:
    """Interpreters that the test account can run.

    pyenv keeps them under a home that other accounts may not enter, so their files are linked
    into the run's directory. Those that anybody can run get an environment there.
    """

    def __init__(self, pythons: Mapping[str, str], run: RunDirectory) -> None:
        self._pythons = pythons
        self._directory = run.child("pythons")

    def __getitem__(self, minor: str) -> str:
        source = Path(self._pythons[minor]).resolve()
        prefix = self._directory / minor
        if all(_others_may_enter(parent) for parent in source.parents):
            return without_packages(str(source), prefix)
        program = prefix / "bin" / f"python{minor}"
        if not program.exists():
            self._link(source.parent.parent, prefix)
            program.unlink()
            shutil.copyfile(source, program)
            _find_library_beside(program, source.parent.parent)
            program.chmod(0o755)
        return str(program)

    @staticmethod
    def _link(source: Path, prefix: Path) -> None:
        prefix.mkdir()
        for name in ("bin", "lib"):
            shutil.copytree(
                source / name,
                prefix / name,
                symlinks=True,
                copy_function=_link_or_copy,
                ignore=shutil.ignore_patterns("site-packages", "test", "idlelib"),
            )


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:  # on another file system
        shutil.copy2(source, target, follow_symlinks=False)


def _find_library_beside(program: Path, prefix: Path) -> None:
    """Let a program find libpython by its own place, not by the absolute path it was built with."""
    built_with = f"{prefix}/lib\0".encode()
    beside = b"$ORIGIN/../lib\0"
    content = program.read_bytes()
    if built_with in content:
        padded = beside.ljust(len(built_with), b"\0")
        program.write_bytes(content.replace(built_with, padded))


def _others_may_enter(directory: Path) -> bool:
    return bool(directory.stat().st_mode & 0o001)

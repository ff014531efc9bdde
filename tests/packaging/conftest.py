"""Other interpreters, for calls that need no server."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.packaging.elsewhere import Elsewhere


@pytest.fixture
def elsewhere(pythons: dict[str, str], tmp_path: Path) -> Iterator[Callable[[str], Elsewhere]]:
    """Starts an interpreter of a minor version."""
    started: list[Elsewhere] = []

    def start(minor: str) -> Elsewhere:
        if minor not in pythons:
            pytest.skip(f"no Python {minor} on this machine")
        directory = tmp_path / minor
        directory.mkdir()
        started.append(Elsewhere(pythons[minor], directory))
        return started[-1]

    yield start
    for interpreter in started:
        interpreter.close()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory on the module path; what is imported from it is forgotten afterwards."""
    root = tmp_path / "project"
    root.mkdir()
    monkeypatch.syspath_prepend(str(root))
    before = set(sys.modules)
    yield root
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(root)):
            del sys.modules[name]

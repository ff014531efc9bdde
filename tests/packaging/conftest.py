"""Other interpreters, for calls that need no server."""

from __future__ import annotations

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

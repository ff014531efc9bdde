"""A far side on this machine, under each interpreter that must work there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.far_side.far import Far
from tests.live.pythons import FAR, MINORS


@pytest.fixture(params=FAR)
def python(request: pytest.FixtureRequest, pythons: dict[str, str]) -> str:
    """Each interpreter in turn."""
    if request.param not in pythons:
        pytest.skip(f"no Python {request.param} on this machine")
    return pythons[request.param]


@pytest.fixture
def oldest(pythons: dict[str, str]) -> str:
    """The oldest interpreter there is here."""
    return pythons[next(minor for minor in MINORS if minor in pythons)]


@pytest.fixture
def far(python: str, tmp_path: Path) -> Iterator[Far]:
    """A far side under each interpreter."""
    side = Far(python, tmp_path / "work")
    yield side
    side.close()


@pytest.fixture
def old_far(oldest: str, tmp_path: Path) -> Iterator[Far]:
    """A far side under the oldest interpreter, for what does not depend on the version."""
    side = Far(oldest, tmp_path / "work")
    yield side
    side.close()

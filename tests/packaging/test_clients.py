"""The same from flows on the other Pythons that a client may have."""

from __future__ import annotations

import os
import sys

import pytest

from tests.packaging import clients

OTHERS = [minor for minor in clients.CLIENTS if minor != f"3.{sys.version_info.minor}"]
# The one that differs most from this: the newest, or the oldest.
FARTHEST = OTHERS[-1] if sys.version_info < (3, 12) else OTHERS[0]


@pytest.mark.service  # Prefect servers of their own
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    "minor",
    [
        pytest.param(minor, marks=[] if minor == FARTHEST else [pytest.mark.every])
        for minor in OTHERS
    ],
)
def test_another_client(
    minor: str, pythons: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if minor not in pythons:
        pytest.skip(f"no Python {minor} on this machine")
    for name in [name for name in os.environ if name.startswith("PYTEST_")]:
        monkeypatch.delenv(name)  # that run is not a worker of this one
    assert clients.main([minor]) == 0

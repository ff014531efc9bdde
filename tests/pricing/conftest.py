"""The certificate authority of the price servers is trusted; the user's own settings are not."""

from __future__ import annotations

import os

import pytest

from tests.pricing.servers.tls import AUTHORITY


@pytest.fixture(autouse=True)
def trusted_authority(monkeypatch: pytest.MonkeyPatch) -> str:
    """Trust the servers' certificates; a developer's proxies and cloud accounts stay out."""
    for name in list(os.environ):
        if name.upper().endswith("_PROXY") or name.startswith(("AWS_", "GOOGLE_", "AZURE_")):
            monkeypatch.delenv(name)
    for name, value in AUTHORITY.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return AUTHORITY.file

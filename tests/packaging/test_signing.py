"""Keys, signatures, and the secret they come from."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest

from clustrix_prefect.errors import ConfigurationError
from clustrix_prefect.packaging import signing


def test_the_secret_is_made_once_and_readable_by_its_user_only(tmp_path):
    path = tmp_path / "home" / "secret"
    with ThreadPoolExecutor(8) as threads:
        secrets = set(threads.map(lambda _: signing.client_secret(path), range(32)))
    assert len(secrets) == 1
    assert len(secrets.pop()) == 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(path.parent) == ["secret"]


def test_a_secret_that_others_can_read_is_refused(tmp_path):
    path = tmp_path / "secret"
    signing.client_secret(path)
    path.chmod(0o644)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        signing.client_secret(path)


def test_a_truncated_secret_is_refused(tmp_path):
    path = tmp_path / "secret"
    path.write_bytes(b"short")
    path.chmod(0o600)
    with pytest.raises(ConfigurationError, match="too short"):
        signing.client_secret(path)


def test_a_signature_fits_its_key_and_its_parts_only():
    of_run = signing.run_key(b"s" * 32, "run")
    key = signing.call_key(of_run, "call")
    signature = signing.sign(key, "a", "b")
    assert signing.verify(key, signature, "a", "b")
    assert not signing.verify(key, signature, "a", "c")
    assert not signing.verify(signing.call_key(of_run, "other"), signature, "a", "b")
    other_run = signing.run_key(b"s" * 32, "another run")
    assert not signing.verify(signing.call_key(other_run, "call"), signature, "a", "b")

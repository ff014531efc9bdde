"""Private keys in every format that ssh-keygen writes."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from clustrix_prefect.connections.private_keys import (
    UnusableKey,
    key_from_file,
    key_from_text,
    public_blob,
)


def make(directory: Path, kind: str, passphrase: str = "", *options: str) -> Path:
    file = directory / "key"
    command = ["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-f", str(file), *options]
    subprocess.run(command, check=True)
    return file


@pytest.mark.parametrize("passphrase", ["", "secret words"])
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("ed25519", ()),
        ("ecdsa", ()),
        ("rsa", ()),
        ("rsa", ("-m", "PEM")),
        ("ecdsa", ("-m", "PEM")),
        ("rsa", ("-m", "PKCS8")),
    ],
)
def test_every_format(tmp_path: Path, kind: str, passphrase: str, options: tuple[str, ...]) -> None:
    file = make(tmp_path, kind, passphrase, *options)
    for key in (
        key_from_file(file, passphrase or None),
        key_from_text(file.read_text().replace("\n", "\r\n"), passphrase or None),
    ):
        assert key.asbytes() == public_blob(file)
        assert key.can_sign()


def test_a_passphrase_that_is_not_needed_does_no_harm(tmp_path: Path) -> None:
    assert key_from_file(make(tmp_path, "ed25519"), "superfluous").can_sign()


@pytest.mark.parametrize("line_end", [" ", ""])
def test_a_key_whose_line_ends_a_form_has_eaten(tmp_path: Path, line_end: str) -> None:
    file = make(tmp_path, "ed25519")
    pasted = file.read_text().replace("\n", line_end)
    assert key_from_text(pasted, None).asbytes() == public_blob(file)


class TestUnusable:
    def test_encrypted(self, tmp_path: Path) -> None:
        file = make(tmp_path, "ed25519", "secret words")
        with pytest.raises(UnusableKey, match="is encrypted and no passphrase was given"):
            key_from_file(file, None)
        with pytest.raises(UnusableKey, match="cannot be read with this passphrase"):
            key_from_file(file, "wrong")

    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(UnusableKey, match="does not exist"):
            key_from_file(tmp_path / "nothing", None)

    def test_a_public_key(self, tmp_path: Path) -> None:
        file = make(tmp_path, "ed25519").with_suffix(".pub")
        with pytest.raises(UnusableKey, match="is not a private key"):
            key_from_file(file, None)

    def test_bytes(self, tmp_path: Path) -> None:
        file = tmp_path / "key"
        file.write_bytes(b"\xff\x00")
        with pytest.raises(UnusableKey, match="is not a private key"):
            key_from_file(file, None)
        assert public_blob(file) is None

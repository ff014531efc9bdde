"""An authority of our own that certifies users' keys, as `ssh-keygen -s` does."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path


class SSHAuthority:
    """A key that signs others.

    Args:
        directory: Where it is put.

    Attributes:
        settings: The lines of sshd_config with which a server takes its certificates alone.
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._key = directory / "authority"
        _keygen("-q", "-t", "ed25519", "-N", "", "-f", str(self._key))
        self._count = 0
        self.settings = (f"TrustedUserCAKeys {self._key}.pub", "AuthorizedKeysFile none")

    def sign(self, key_file: Path, user: str, validity: str, *options: str) -> Path:
        """Certify a key for a while; the certificates' serial numbers count from 1.

        Args:
            key_file: The private key, beside which the certificate is put.
            user: The account that it is for.
            validity: When it holds, as `ssh-keygen -V`: "-1m:+10s".
            options: Further ones of ssh-keygen.

        Returns:
            The certificate, which has replaced an earlier one at once.
        """
        self._count += 1
        draft = key_file.with_name(f"{key_file.name}.draft")
        draft.with_name(f"{draft.name}.pub").write_bytes(
            key_file.with_name(f"{key_file.name}.pub").read_bytes()
        )
        signing = ["-q", "-s", str(self._key), "-I", f"serial-{self._count}", "-n", user]
        _keygen(*signing, "-z", str(self._count), "-V", validity, *options, f"{draft}.pub")
        certificate = key_file.with_name(f"{key_file.name}-cert.pub")
        os.replace(f"{draft}-cert.pub", certificate)
        return certificate


def _keygen(*arguments: str) -> None:
    subprocess.run(["ssh-keygen", *arguments], check=True, capture_output=True)

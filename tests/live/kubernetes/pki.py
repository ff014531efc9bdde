"""The certificates of a cluster."""

from __future__ import annotations

from pathlib import Path

import trustme


class PKI:
    """An authority, and certificates for the servers and their clients.

    Attributes:
        authority: The authority's certificate.
        authority_key: Its key.

    Args:
        directory: Where the files go.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._authority = trustme.CA(organization_name="clustrix-live")
        self.authority, self.authority_key = directory / "ca.crt", directory / "ca.key"
        self._authority.cert_pem.write_to_path(str(self.authority))
        self._authority.private_key_pem.write_to_path(str(self.authority_key))

    def issue(self, name: str, *hosts: str, group: str | None = None) -> tuple[Path, Path]:
        """A certificate and its key.

        Args:
            name: Whom it names; the API server takes it for the user.
            hosts: Addresses and names of a server.
            group: The user's group.
        """
        leaf = self._authority.issue_cert(
            *(hosts or ("client.invalid",)), common_name=name, organization_name=group or "none"
        )
        stem = name.replace(":", "-").replace("/", "-")
        certificate, key = self._directory / f"{stem}.crt", self._directory / f"{stem}.key"
        leaf.cert_chain_pems[0].write_to_path(str(certificate))
        leaf.private_key_pem.write_to_path(str(key))
        key.chmod(0o600)
        return certificate, key

"""What to log in with over SSH."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect.blocks.core import Block
from pydantic import Field, HttpUrl, SecretStr, field_validator

from clustrix_prefect.clusters.fields import one_line, unset_if_empty
from clustrix_prefect.connections.authentication import Login


class SSHCredentials(Block):
    """A user name, and a key or a password.

    Whatever is left out comes from `~/.ssh/config` and ssh-agent.
    """

    _block_type_name = "SSH Credentials"
    _block_type_slug = "ssh-credentials"
    _description = "What to log in with over SSH: a user name, and a key or a password."
    _documentation_url = HttpUrl("https://man.openbsd.org/ssh-keygen")
    _code_example = """
        ```python
        from clustrix_prefect import SSHCredentials, SSHCluster

        credentials = SSHCredentials.load("BLOCK_NAME")
        cluster = SSHCluster(host="login.example.org", credentials=credentials)
        ```
    """

    username: str | None = Field(
        default=None,
        title="User name",
        description="Account on the host. Default: what ~/.ssh/config says, or the local user.",
        examples=["alice"],
    )
    key_file: str | None = Field(
        default=None,
        title="Key file",
        description="Path of a private key on the machine that the flow runs on.",
        examples=["~/.ssh/id_ed25519"],
    )
    private_key: SecretStr | None = Field(
        default=None,
        title="Private key",
        description="A private key itself, from -----BEGIN to END-----.",
    )
    passphrase: SecretStr | None = Field(
        default=None,
        title="Passphrase",
        description="What the private key or key file is encrypted with.",
    )
    password: SecretStr | None = Field(
        default=None,
        title="Password",
        description="The account's password; a key is safer.",
    )

    @field_validator("*", mode="before")
    @classmethod
    def _unset_if_empty(cls, value: Any) -> Any:
        return unset_if_empty(value)

    @field_validator("username")
    @classmethod
    def _account(cls, value: str | None) -> str | None:
        if value is not None and (one_line(value).startswith("-") or " " in value):
            raise ValueError(f"{value!r} is not a user name")
        return value

    @field_validator("key_file")
    @classmethod
    def _private(cls, value: str | None) -> str | None:
        if value is not None and one_line(value).endswith(".pub"):
            raise ValueError(
                f"{value!r} is the public key; name the private one, {value.removesuffix('.pub')!r}"
            )
        return value

    @property
    def login(self) -> Login:
        """These credentials with their secrets in the open, for one connection."""
        return Login(
            username=self.username,
            key_file=Path(self.key_file) if self.key_file else None,
            private_key=_revealed(self.private_key),
            passphrase=_revealed(self.passphrase),
            password=_revealed(self.password),
        )


def _revealed(secret: SecretStr | None) -> str | None:
    # The form of the UI sends an empty text for a secret that was left out.
    return (secret.get_secret_value() or None) if secret else None

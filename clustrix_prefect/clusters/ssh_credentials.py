"""What to log in with over SSH."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ConfigDict, Field, SecretStr, field_validator

from clustrix_prefect.clusters.fields import one_line, unset_if_empty
from clustrix_prefect.connections.authentication import Login
from clustrix_prefect.credentials.cache import current_cache, remembering
from clustrix_prefect.credentials.known_fields import KnownFields
from clustrix_prefect.credentials.onepassword import store_name
from clustrix_prefect.credentials.references import check
from clustrix_prefect.credentials.resolving import resolve


class SSHCredentials(KnownFields):
    """A user name, and a key or a password: themselves, or references to them.

    A reference is `op://vault/item/field`, `env:NAME` or `prefect:block-name`, and is resolved when
    a connection is opened. Whatever is left out comes from `~/.ssh/config` and ssh-agent.
    """

    _block_type_name = "SSH Credentials"
    _block_type_slug = "ssh-credentials"
    _description = "What to log in with over SSH: a user name, and a key or a password."
    _code_example = """
        ```python
        from clustrix_prefect import SSHCredentials, SSHCluster

        credentials = SSHCredentials.load("BLOCK_NAME")
        cluster = SSHCluster(host="login.example.org", credentials=credentials)
        ```
    """

    # A wrong value is not repeated in the error: it may be a secret.
    model_config = ConfigDict(hide_input_in_errors=True)

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
        description="A private key itself, from -----BEGIN to END-----, or a reference to one.",
    )
    passphrase: SecretStr | None = Field(
        default=None,
        title="Passphrase",
        description="What the private key or key file is encrypted with, or a reference to it.",
    )
    password: SecretStr | None = Field(
        default=None,
        title="Password",
        description="The account's password, or a reference to it; a key is safer.",
    )

    secret_store: str | None = Field(
        default=None,
        title="1Password",
        description=(
            "Block that op:// references are read with. Default: what OP_CONNECT_HOST and "
            "OP_CONNECT_TOKEN or OP_SERVICE_ACCOUNT_TOKEN say, or the only such block there is."
        ),
        examples=["onepassword-connect/team"],
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

    @field_validator("private_key", "passphrase", "password")
    @classmethod
    def _secret_or_reference(cls, value: SecretStr | None) -> SecretStr | None:
        return check(value)

    @field_validator("secret_store")
    @classmethod
    def _store(cls, value: str | None) -> str | None:
        return store_name(value)

    @property
    def login(self) -> Login:
        """These credentials with their secrets in the open, for one connection.

        Raises:
            CredentialError: A reference cannot be resolved.
        """
        with remembering(current_cache()):  # what lies in one item is read once
            return Login(
                username=self.username,
                key_file=Path(self.key_file) if self.key_file else None,
                private_key=resolve(self.private_key, store=self.secret_store),
                passphrase=resolve(self.passphrase, store=self.secret_store),
                password=resolve(self.password, store=self.secret_store),
            )

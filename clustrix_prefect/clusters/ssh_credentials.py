"""What to log in with over SSH."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ConfigDict, Field, SecretStr, field_validator

from clustrix_prefect.clusters.fields import one_line, unset_if_empty
from clustrix_prefect.connections.authentication import Login
from clustrix_prefect.connections.one_time_codes import OneTimeCodes, codes_of_seed
from clustrix_prefect.credentials.cache import current_cache, remembering
from clustrix_prefect.credentials.known_fields import KnownFields
from clustrix_prefect.credentials.onepassword import store_name
from clustrix_prefect.credentials.plain import MASK
from clustrix_prefect.credentials.references import check, is_code, is_reference
from clustrix_prefect.credentials.resolving import resolve
from clustrix_prefect.errors import ConfigurationError


class SSHCredentials(KnownFields):
    """A user name, a key or a password, and one-time codes: themselves, or references to them.

    A reference is `op://vault/item/field`, `env:NAME` or `prefect:block-name`, and is resolved when
    a connection is opened. Whatever is left out comes from `~/.ssh/config` and ssh-agent.
    """

    _block_type_name = "SSH Credentials"
    _block_type_slug = "ssh-credentials"
    _description = "What to log in with over SSH: a user name, keys, passwords, one-time codes."
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
    certificate_file: str | None = Field(
        default=None,
        title="Certificate",
        description=(
            "Path of a certificate for the key. Default: the one beside the key file, such as "
            "id_ed25519-cert.pub, or what ~/.ssh/config says. It is read for each connection."
        ),
        examples=["~/.ssh/id_ed25519-cert.pub"],
    )
    password: SecretStr | None = Field(
        default=None,
        title="Password",
        description="The account's password, or a reference to it; a key is safer.",
    )
    totp: SecretStr | None = Field(
        default=None,
        title="One-time codes",
        description=(
            "What one-time codes are made from: an otpauth:// URI, a base32 seed, or a reference "
            "to one of them. With ?attribute=otp, 1Password is asked for each code."
        ),
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

    @field_validator("certificate_file")
    @classmethod
    def _certificate(cls, value: str | None) -> str | None:
        return None if value is None else one_line(value)

    @field_validator("key_file")
    @classmethod
    def _private(cls, value: str | None) -> str | None:
        if value is not None and one_line(value).endswith(".pub"):
            raise ValueError(
                f"{value!r} is the public key; name the private one, {value.removesuffix('.pub')!r}"
            )
        return value

    @field_validator("private_key", "passphrase", "password", "totp")
    @classmethod
    def _secret_or_reference(cls, value: SecretStr | None) -> SecretStr | None:
        return check(value)

    @field_validator("totp")
    @classmethod
    def _seed(cls, value: SecretStr | None) -> SecretStr | None:
        text = value.get_secret_value() if value is not None else ""
        if text not in ("", MASK) and not is_reference(text):
            try:
                codes_of_seed(text)
            except ConfigurationError as error:
                raise ValueError(error.message) from None
        return value

    @field_validator("secret_store")
    @classmethod
    def _store(cls, value: str | None) -> str | None:
        return store_name(value)

    @property
    def login(self) -> Login:
        """These credentials with their secrets in the open, for one connection.

        Raises:
            CredentialError: A reference cannot be resolved.
            ConfigurationError: No one-time codes can be made from `totp`.
        """
        with remembering(current_cache()):  # what lies in one item is read once
            return Login(
                username=self.username,
                key_file=Path(self.key_file) if self.key_file else None,
                private_key=resolve(self.private_key, store=self.secret_store),
                passphrase=resolve(self.passphrase, store=self.secret_store),
                password=resolve(self.password, store=self.secret_store),
                codes=self._codes(),
                certificate_file=Path(self.certificate_file) if self.certificate_file else None,
            )

    def _codes(self) -> OneTimeCodes | None:
        if self.totp is None:
            return None
        text = self.totp.get_secret_value()
        if is_code(text):  # 1Password makes them, each when it is wanted
            cache = current_cache()

            def ask(now: float) -> str:
                with remembering(cache):
                    return resolve(text, store=self.secret_store) or ""

            return OneTimeCodes(f"{text.strip()} {self.secret_store}", ask)
        seed = resolve(text, store=self.secret_store)
        return codes_of_seed(seed) if seed else None

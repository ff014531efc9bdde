"""The blocks that say how 1Password is asked."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from urllib.parse import urlsplit

import httpx
from pydantic import ConfigDict, Field, SecretStr, field_validator

from clustrix_prefect.credentials.cache import current_cache
from clustrix_prefect.credentials.connect_server import ConnectServer
from clustrix_prefect.credentials.known_fields import KnownFields
from clustrix_prefect.credentials.op_program import OpProgram
from clustrix_prefect.credentials.plain import resolve_plain
from clustrix_prefect.credentials.references import OnePasswordReference, check, parse
from clustrix_prefect.credentials.stores import OnePasswordStore
from clustrix_prefect.errors import CredentialError, CredentialStoreUnavailable


class OnePasswordBlock(KnownFields, ABC):
    """A way to 1Password; its kinds say which."""

    # A wrong value is not repeated in the error: it may be a secret.
    model_config = ConfigDict(hide_input_in_errors=True)

    timeout_seconds: float = Field(
        default=30.0,
        gt=0,
        title="Time-out",
        description="For how many seconds an answer is waited for.",
    )

    @abstractmethod
    def opened(self) -> OnePasswordStore:
        """Return the way, with its token in the open.

        Raises:
            CredentialError: Something is missing that it needs.
        """

    def read(self, reference: str) -> SecretStr:
        """Read the secret that an `op://` reference leads to.

        Args:
            reference: `op://vault/item/field` or `op://vault/item/section/field`.

        Raises:
            CredentialError: It cannot be read.
        """
        parsed = parse(reference)
        if not isinstance(parsed, OnePasswordReference):
            raise CredentialError(
                "This is not a reference to 1Password.", "Write op://vault/item/field."
            )
        return SecretStr(self.opened().find(parsed, current_cache()).value)


class OnePasswordConnect(OnePasswordBlock):
    """A 1Password Connect server, which `op://` references are read from."""

    _block_type_name = "1Password Connect"
    _block_type_slug = "onepassword-connect"
    _description = "A 1Password Connect server, which op:// references are read from."
    _code_example = """
        ```python
        from clustrix_prefect import OnePasswordConnect

        connect = OnePasswordConnect.load("BLOCK_NAME")
        secret = connect.read("op://vault/item/field")
        ```
    """

    host: str | None = Field(
        default=None,
        title="Host",
        description="Address of the server. Default: OP_CONNECT_HOST of the environment.",
        examples=["http://connect.example.org:8080"],
    )
    token: SecretStr | None = Field(
        default=None,
        title="Token",
        description=(
            "An access token of the server, or a reference to one (env:NAME, prefect:name). "
            "Default: OP_CONNECT_TOKEN of the environment."
        ),
    )

    @field_validator("host")
    @classmethod
    def _address(cls, value: str | None) -> str | None:
        return _address(value.strip()) if value and value.strip() else None

    @field_validator("token")
    @classmethod
    def _token(cls, value: SecretStr | None) -> SecretStr | None:
        return _token(value)

    def opened(self) -> OnePasswordStore:
        """Return the server, to be asked."""
        host = self.host or os.environ.get("OP_CONNECT_HOST", "").strip()
        if not host:
            raise _missing("the address of the 1Password Connect server", "OP_CONNECT_HOST", "host")
        try:
            host = _address(host)
        except ValueError as error:
            raise CredentialStoreUnavailable(
                f"OP_CONNECT_HOST: {error}.", "Correct it.", store="1Password Connect"
            ) from None
        token = _revealed(self.token, "OP_CONNECT_TOKEN", f"1Password Connect at {host}")
        return ConnectServer(host, token, self.timeout_seconds)


class OnePasswordCLI(OnePasswordBlock):
    """1Password's command line `op` with a service account, which `op://` references are read from.

    It never asks anybody anything: without a token it is not even started.
    """

    _block_type_name = "1Password CLI"
    _block_type_slug = "onepassword-cli"
    _description = "1Password's op with a service account, which op:// references are read from."
    _code_example = """
        ```python
        from clustrix_prefect import OnePasswordCLI

        op = OnePasswordCLI.load("BLOCK_NAME")
        secret = op.read("op://vault/item/field")
        ```
    """

    service_account_token: SecretStr | None = Field(
        default=None,
        title="Service account token",
        description=(
            "A service account's token, or a reference to one (env:NAME, prefect:name). "
            "Default: OP_SERVICE_ACCOUNT_TOKEN of the environment."
        ),
    )
    executable: str = Field(
        default="op",
        min_length=1,
        title="Program",
        description="Name or path of op, version 2, on the machine that the flow runs on.",
        examples=["/usr/local/bin/op"],
    )

    @field_validator("service_account_token")
    @classmethod
    def _token(cls, value: SecretStr | None) -> SecretStr | None:
        return _token(value)

    def opened(self) -> OnePasswordStore:
        """Return the program, to be run."""
        token = _revealed(
            self.service_account_token,
            "OP_SERVICE_ACCOUNT_TOKEN",
            f"1Password through {self.executable}",
        )
        return OpProgram(os.path.expanduser(self.executable), token, self.timeout_seconds)


STORES: dict[str, type[OnePasswordBlock]] = {
    kind.get_block_type_slug(): kind for kind in (OnePasswordConnect, OnePasswordCLI)
}


def store_name(value: str | None) -> str | None:
    """Return the name itself, for fields that name one of these blocks.

    Raises:
        ValueError: It does not name one.
    """
    if value is None or not value.strip():
        return None
    slug, _, name = value.strip().partition("/")
    if slug not in STORES or not name:
        raise ValueError(
            f"{value!r} does not name a 1Password block; write its type and name, such as "
            "'onepassword-connect/team' or 'onepassword-cli/team'"
        )
    return value.strip()


def _address(host: str) -> str:
    """Return the address itself.

    Raises:
        ValueError: It is not that of an HTTP server. It is not repeated: it may hold a password.
    """
    try:
        parts = urlsplit(host)
        sound = parts.port != 0 and httpx.URL(host).host != ""
    except (ValueError, httpx.InvalidURL):
        sound = False
    if not sound or parts.scheme not in ("http", "https"):
        raise ValueError("a server's address begins with http:// or https://, and has no spaces")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError("a server's address has no user name, password, ? or # in it")
    return host.rstrip("/")


def _token(value: SecretStr | None) -> SecretStr | None:
    """Return a token without what was copied with it; an empty one is none at all.

    Raises:
        ValueError: It is a reference that cannot lead to a token.
    """
    text = value.get_secret_value().strip() if value is not None else ""
    if not text:
        return None
    if text.lower().startswith("op:/"):
        raise ValueError("the token for 1Password cannot be read from 1Password itself")
    return check(SecretStr(text))


def _revealed(token: SecretStr | None, variable: str, store: str) -> str:
    text = (resolve_plain(token) or os.environ.get(variable, "")).strip()
    if not text:
        raise _missing(f"a token for {store}", variable, "token")
    if not text.isascii() or not text.isprintable() or " " in text:
        # The HTTP library would repeat it in its own error.
        raise CredentialStoreUnavailable(
            f"The token for {store} has spaces, line ends or letters in it that no token has.",
            "Copy it again.",
            store=store,
        )
    return text


def _missing(what: str, variable: str, field: str) -> CredentialStoreUnavailable:
    return CredentialStoreUnavailable(
        f"There is no {what.removeprefix('the ').removeprefix('a ')}.",
        f"Set {variable} in the flow's environment, or the block's {field}.",
        store="1Password",
    )

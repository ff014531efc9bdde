"""The fields that say how a host is reached over SSH."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, field_validator

from clustrix_prefect.clusters.fields import one_line, unset_if_empty
from clustrix_prefect.clusters.ssh_credentials import SSHCredentials
from clustrix_prefect.connections.authentication import Login
from clustrix_prefect.connections.route import Destination, open_ssh
from clustrix_prefect.connections.ssh import SSHConnection

_DEFAULT_PORT = 22
_DEFAULT_KNOWN_HOSTS = "~/.ssh/known_hosts"


class SSHHost(BaseModel):
    """A host reached over SSH, as `ssh` would reach it: `~/.ssh/config` is honoured."""

    host: str | None = Field(
        default=None,
        title="Host",
        description="Name or address of the login node, or its alias in ~/.ssh/config.",
        examples=["login.cluster.example.org"],
    )
    port: int = Field(
        default=_DEFAULT_PORT,
        ge=1,
        le=65535,
        title="Port",
        description="Port of its SSH server. For 22, another one in ~/.ssh/config is honoured.",
    )
    credentials: SSHCredentials | None = Field(
        default=None,
        title="Credentials",
        description="What to log in with. Default: ~/.ssh/config, ssh-agent and ~/.ssh keys.",
    )
    known_hosts: str = Field(
        default=_DEFAULT_KNOWN_HOSTS,
        title="Known hosts",
        description=(
            "File with the host's public key, on the machine that the flow runs on. A host "
            "whose key is not in it, or in /etc/ssh/ssh_known_hosts, is refused."
        ),
    )
    proxy_jump: str | None = Field(
        default=None,
        title="Jump host",
        description=(
            'Hosts to go through, as "user@host:port", separated by commas; "none" for none '
            "even if ~/.ssh/config names one."
        ),
        examples=["alice@gateway.example.org"],
    )

    @field_validator("host", "proxy_jump", mode="before")
    @classmethod
    def _host_unset_if_empty(cls, value: Any) -> Any:
        return unset_if_empty(value)

    @field_validator("host")
    @classmethod
    def _host_name(cls, value: str | None) -> str | None:
        if value is None:
            return None
        if "@" in value:
            user, _, host = value.rpartition("@")
            raise ValueError(
                f"{value!r} has a user name in it; write host={host!r} and "
                f"credentials=SSHCredentials(username={user!r})"
            )
        if one_line(value).startswith("-") or any(letter in value for letter in " /"):
            raise ValueError(f"{value!r} is not the name or address of a host")
        return value

    @field_validator("known_hosts", "proxy_jump")
    @classmethod
    def _host_one_line(cls, value: str | None) -> str | None:
        return None if value is None else one_line(value)

    @property
    def destination(self) -> Destination:
        """Where to connect to. A field with its default value leaves it to ~/.ssh/config."""
        assert self.host is not None
        default_file = self.known_hosts == _DEFAULT_KNOWN_HOSTS
        return Destination(
            host=self.host,
            port=None if self.port == _DEFAULT_PORT else self.port,
            login=self.credentials.login if self.credentials else Login(),
            known_hosts=None if default_file else Path(self.known_hosts),
            proxy_jump=self.proxy_jump,
        )

    def open_ssh(self) -> SSHConnection:
        """Connect and log in."""
        return open_ssh(self.destination)

    @property
    def address(self) -> str:
        """The host for people: "alice@ndoli:2222"."""
        user = self.credentials.username if self.credentials else None
        port = "" if self.port == _DEFAULT_PORT else f":{self.port}"
        return f"{user}@{self.host}{port}" if user else f"{self.host}{port}"

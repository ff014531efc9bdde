"""The fields that say how a host is reached over SSH."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, field_validator, model_validator
from typing_extensions import Self

from clustrix_prefect.clusters.fields import one_line, unset_if_empty
from clustrix_prefect.clusters.ssh_credentials import SSHCredentials
from clustrix_prefect.connections.authentication import Login
from clustrix_prefect.connections.control_master import ControlMaster
from clustrix_prefect.connections.openssh import OpenSSHConnection, open_openssh
from clustrix_prefect.connections.route import Destination, open_ssh
from clustrix_prefect.connections.ssh import SSHConnection
from clustrix_prefect.errors import AuthenticationFailed, ConfigurationError, LoginNeeded

_DEFAULT_PORT = 22
_DEFAULT_KNOWN_HOSTS = "~/.ssh/known_hosts"
# Of the credentials, what `ssh` logs in with: the names of files. Secrets would have to be told to
# it on a command line or in a file.
_FOR_OPENSSH = {"username", "key_file", "certificate_file", "secret_store"}


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
    connection: Literal["paramiko", "openssh", "auto"] = Field(
        default="paramiko",
        title="Connection",
        description=(
            "`openssh` goes over the system's ssh and all that ~/.ssh/config says, over one login "
            "that `clustrix-prefect login` opens where a person is needed; `paramiko` logs in by "
            "itself; `auto` takes the login that is open, and paramiko where none is."
        ),
    )
    login_timeout: float = Field(
        default=86400.0,
        ge=0,
        title="Wait for a login",
        description=(
            "For how many seconds calls wait until a person has logged in (`clustrix-prefect "
            "login`), before they fail. What runs on the cluster runs on meanwhile."
        ),
    )

    login_in_ui: bool = Field(
        default=False,
        title="Ask in the UI",
        description=(
            "Have a flow run that waits for a login ask for the one-time code on its page, where "
            "that is all that a person is needed for. A password is never asked there."
        ),
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

    @model_validator(mode="after")
    def _openssh_takes_no_secrets(self) -> Self:
        if self.connection == "openssh" and self.credentials is not None:
            given = [
                name
                for name in type(self.credentials).model_fields
                if name not in _FOR_OPENSSH and getattr(self.credentials, name) is not None
            ]
            if given:
                raise ValueError(
                    f'connection="openssh" has no use for {" and ".join(given)} of the '
                    "credentials: ssh asks for it at `clustrix-prefect login`, or finds it by "
                    'itself (`ssh-add`). Leave it out, or write connection="paramiko"'
                )
        return self

    @property
    def destination(self) -> Destination:
        """Where to connect to. A field with its default value leaves it to ~/.ssh/config."""
        login = self.credentials.login if self.credentials else Login()
        return replace(self._way, login=login)

    @property
    def _way(self) -> Destination:
        """The same without what to log in with."""
        assert self.host is not None
        default_file = self.known_hosts == _DEFAULT_KNOWN_HOSTS
        return Destination(
            host=self.host,
            port=None if self.port == _DEFAULT_PORT else self.port,
            known_hosts=None if default_file else Path(self.known_hosts),
            proxy_jump=self.proxy_jump,
        )

    @property
    def master(self) -> ControlMaster:
        """The login that all connections with `openssh` share."""
        destination, credentials = self._way, self.credentials
        key_file = credentials.key_file if credentials else None
        certificate = credentials.certificate_file if credentials else None
        return ControlMaster(
            host=destination.host,
            port=destination.port,
            username=credentials.username if credentials else None,
            key_file=Path(key_file) if key_file else None,
            certificate_file=Path(certificate) if certificate else None,
            known_hosts=destination.known_hosts,
            proxy_jump=destination.proxy_jump,
        )

    @property
    def saved_as(self) -> str | None:
        """The block's type and name, if it was saved or loaded."""
        return None

    @property
    def login_command(self) -> str:
        """What a person types to log in; TYPE and NAME are those of the block, once it is saved."""
        return f"clustrix-prefect login {self.saved_as or 'TYPE/NAME'}"

    def open_ssh(self) -> SSHConnection | OpenSSHConnection:
        """Connect and log in.

        Raises:
            LoginNeeded: That needs a person; the message says what to type.
            ConnectionFailed: The host cannot be reached, or refuses us.
        """
        if self.connection == "paramiko":
            return open_ssh(self.destination)
        master = self.master
        try:
            if self.connection == "auto" and not master.is_live:
                return open_ssh(self.destination)
            return open_openssh(master)
        except AuthenticationFailed as error:
            # With `auto`, a person is waited for where one has logged in before.
            if not isinstance(error, LoginNeeded) and master.opened is None:
                raise
            raise LoginNeeded(error.what, self._how_to_log_in(error.what)) from error

    def _how_to_log_in(self, refusal: str) -> str:
        typed = f"ype `{self.login_command}`."
        if "gssapi" in refusal:
            return f"Get a ticket with `kinit`, or t{typed}"
        return f"T{typed}" if self.saved_as else f"Save the block, then t{typed}"

    @property
    def address(self) -> str:
        """The host for people: "alice@ndoli:2222"."""
        user = self.credentials.username if self.credentials else None
        port = "" if self.port == _DEFAULT_PORT else f":{self.port}"
        return f"{user}@{self.host}{port}" if user else f"{self.host}{port}"


def host_of(cluster: object, name: str) -> SSHHost:
    """Return the host that a cluster is reached on.

    Args:
        cluster: The cluster's block.
        name: The block's type and name, for the message.

    Raises:
        ConfigurationError: The cluster is not reached over SSH.
    """
    if isinstance(cluster, SSHHost) and cluster.host is not None:
        return cluster
    raise ConfigurationError(
        f"{name} is not reached over SSH, so there is nothing to log in to.",
        f"`clustrix-prefect check {name}` shows how it is reached.",
    )

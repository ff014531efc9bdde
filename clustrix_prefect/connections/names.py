"""Names of hosts and users that are safe wherever they end up.

`~/.ssh/config` puts them into command lines of a shell (`ProxyCommand`, `Match exec`), unquoted.
OpenSSH refuses what a shell could read anything into; here only what names are made of is taken.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from clustrix_prefect.errors import ConfigurationError

# Letters, digits and underscores of any script; an IPv6 address may name its interface.
_HOST = re.compile(r"(?:\w[\w.-]*|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(?:%[\w.-]+)?)\Z")
# As Active Directory has them, too: "user@domain", "DOMAIN\user", machine accounts with "$" at
# the end, after which no shell expands anything.
_USER = re.compile(r"\w[\w.+@-]*(?:\\\w[\w.+@-]*)?\$?\Z")

_HOP = re.compile(
    r"^(?:ssh://)?(?:(?P<user>[^@]+)@)?(?P<host>\[[^\]]+\]|[^:@\[\]]+)(?::(?P<port>\d+))?/?\Z"
)


class JumpHost(NamedTuple):
    """One of the hosts of a `ProxyJump`, as it is written there."""

    host: str
    user: str | None
    port: int | None


def jump_host(text: str) -> JumpHost:
    """Read "user@host:port".

    Raises:
        ConfigurationError: It is something else.
    """
    match = _HOP.match(text.strip())
    if not match:
        raise ConfigurationError(
            f"The jump host {text.strip()!r} is not of the form user@host:port.",
            'Write for example proxy_jump="alice@gate.example.org:22".',
        )
    user = checked_user(match["user"]) if match["user"] else None
    host = checked_host(match["host"].strip("[]"))
    return JumpHost(host, user, int(match["port"]) if match["port"] else None)


def checked_host(name: str) -> str:
    """Return the name or address itself.

    Raises:
        ConfigurationError: There are characters in it that no name of a host has.
    """
    if not _HOST.match(name):
        raise ConfigurationError(
            f"{name!r} is not the name or address of a host.",
            "Only letters, digits, `.`, `-`, `_` and, in addresses, `:` are taken, also from "
            "~/.ssh/config.",
        )
    return name


def checked_user(name: str) -> str:
    """Return the user's name itself.

    Raises:
        ConfigurationError: There are characters in it that no name of a user has.
    """
    if not _USER.match(name):
        raise ConfigurationError(
            f"{name!r} is not the name of a user.",
            "Only letters, digits, `.`, `-`, `_`, `+`, `@` and one `\\` are taken, also from "
            "~/.ssh/config.",
        )
    return name

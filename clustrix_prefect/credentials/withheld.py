"""Variables of the environment that hold secrets: no program that runs tasks inherits them."""

from __future__ import annotations

import threading
from collections.abc import Mapping

_lock = threading.Lock()
_names = {"OP_CONNECT_TOKEN", "OP_SERVICE_ACCOUNT_TOKEN"}
# `op signin` keeps a session's key in a variable with the account's id in its name.
_PREFIXES = ("OP_SESSION_",)


def withhold(name: str) -> None:
    """Note that a variable holds a secret, because a reference names it."""
    with _lock:
        _names.add(name)


def without_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment for programs that run tasks on this machine."""
    with _lock:
        names = frozenset(_names)
    return {
        name: value
        for name, value in environment.items()
        if name not in names and not name.startswith(_PREFIXES)
    }

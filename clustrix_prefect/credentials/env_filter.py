"""Variables of the environment that hold secrets: no program that runs tasks inherits them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping

logger = logging.getLogger(__name__)

# `op signin` keeps a session's key in a variable with the account's id in its name.
_PREFIXES = ("OP_SESSION_",)

_lock = threading.Lock()
_names = {"OP_CONNECT_TOKEN", "OP_SERVICE_ACCOUNT_TOKEN"}
_handed_on: set[str] = set()


def withhold(name: str) -> None:
    """Note that a variable holds a secret, because a reference names it."""
    with _lock:
        late = name in _handed_on and name not in _names
        _names.add(name)
    if late:
        logger.warning(
            "env:%s was named after workers on this machine had started, which inherited the "
            "variable. Name it before the flow runs, in a block that is made or loaded.",
            name,
        )


def without_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for programs that run tasks on this machine."""
    with _lock:
        kept = {
            name: value
            for name, value in environment.items()
            if name not in _names and not name.startswith(_PREFIXES)
        }
        _handed_on.update(kept)
    return kept

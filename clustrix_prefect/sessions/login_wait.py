"""Waiting for a person to log in: calls wait meanwhile, and what runs on the cluster runs on."""

from __future__ import annotations

import getpass
import socket
import threading
import time
from collections.abc import Callable
from typing import cast

from clustrix_prefect.clusters.cluster import ClusterBlock
from clustrix_prefect.clusters.host import SSHHost
from clustrix_prefect.connections.control_master import DEFAULT_IDLE_SECONDS, for_so_long
from clustrix_prefect.errors import LoginNeeded

_LOOK_SECONDS = 1.0
# Logging in without a person is tried again, too: there may be a new ticket, key or certificate.
# Rarely, since hosts count what fails.
_FIRST_TRY_SECONDS = 120.0
_LONGEST_SECONDS = 900.0


class LoginWait:
    """A wait until a person has logged in at a cluster.

    Args:
        cluster: Where to.
        needed: What the host said to those who tried without one.
    """

    def __init__(self, cluster: ClusterBlock, needed: LoginNeeded) -> None:
        self._cluster = host = cast(SSHHost, cluster)  # nothing else needs a login
        self.needed = needed
        self.command = host.login_command
        self.reason = f"waits for a login at {host.host}: {self.command}"
        self._deadline = time.monotonic() + host.login_timeout
        self._try_after = _FIRST_TRY_SECONDS
        self._over = threading.Event()

    def pause(self, is_over: Callable[[], bool]) -> None:
        """Return when somebody has logged in, or when it is worth trying without.

        Args:
            is_over: Whether nobody waits any more; then, too, it returns.

        Raises:
            LoginNeeded: The cluster's `login_timeout` has passed.
        """
        again = time.monotonic() + self._try_after
        self._try_after = min(2 * self._try_after, _LONGEST_SECONDS)
        while not is_over() and time.monotonic() < again:
            if time.monotonic() >= self._deadline:
                limit = for_so_long(self._cluster.login_timeout)
                raise LoginNeeded(
                    f"Nobody logged in at {self._cluster.host} within {limit} (the block's "
                    f"`login_timeout`). {self.needed.what}",
                    f"Type `{self.command}`, then run the flow again; its jobs went on.",
                )
            if self.has_ended:
                return
            time.sleep(_LOOK_SECONDS)

    @property
    def has_ended(self) -> bool:
        """Whether somebody has logged in."""
        return self._cluster.master.is_live

    @property
    def is_over(self) -> bool:
        """Whether nobody waits any more."""
        return self._over.is_set() or self.has_ended

    def end(self) -> None:
        """Nobody waits any more."""
        self._over.set()

    @property
    def seconds_left(self) -> float:
        """For how long it still waits."""
        return max(0.0, self._deadline - time.monotonic())

    @property
    def asks_in_ui(self) -> bool:
        """Whether a flow run is to have a form for the code."""
        return self._cluster.login_in_ui

    def log_in(self, code: str) -> None:
        """Log in with a one-time code that a person has typed.

        Raises:
            LoginNeeded: It does not do, or something else is asked.
            ConnectionFailed: The host cannot be reached.
        """
        self._cluster.master.open_with_code(code, DEFAULT_IDLE_SECONDS)

    @property
    def notice(self) -> str:
        """What to type where, for the flow run's log."""
        limit = for_so_long(self._cluster.login_timeout)
        return (
            f"{self.needed.what} Calls wait for up to {limit}, and jobs run on. Type as "
            f"{getpass.getuser()} on {socket.gethostname()}: {self.command}"
        )

    @property
    def facts(self) -> dict[str, str]:
        """What the event says."""
        return {
            "host": str(self._cluster.host),
            "command": self.command,
            "machine": socket.gethostname(),
            "account": getpass.getuser(),
            "message": self.needed.what,
        }

"""What a flow run's calls and the places they go to know of each other.

A *place* has the calls of one flow run run: the host behind a login, or pods. On a host an
*executor* does so: warm workers, or the jobs of a scheduler.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from clustrix_prefect.clusters.cluster import ClusterBlock
from clustrix_prefect.dispatch.call import Call
from clustrix_prefect.dispatch.registry import CallRegistry
from clustrix_prefect.dispatch.timers import Timers
from clustrix_prefect.engine import Event
from clustrix_prefect.environments.interpreters import FarPython
from clustrix_prefect.environments.preflight import Code
from clustrix_prefect.errors import ClustrixError, InfrastructureError
from clustrix_prefect.task_resources import Resources


class RunLog:
    """The log of a flow run.

    Args:
        logger: Writes to it.
    """

    def __init__(self, logger: logging.Logger | logging.LoggerAdapter[Any]) -> None:
        self.logger = logger
        self._said: set[str] = set()
        self._lock = threading.Lock()

    def say(self, level: int, line: str) -> None:
        """Write a line."""
        self.logger.log(level, "%s", line)

    def say_once(self, level: int, line: str, about: str | None = None) -> None:
        """Write a line, unless this, or one about the same, was written."""
        with self._lock:
            is_new = (about or line) not in self._said
            self._said.add(about or line)
        if is_new:
            self.say(level, line)


@dataclass(frozen=True)
class RunContext:
    """What all know who have to do with a flow run's calls.

    Attributes:
        cluster: The block with the task runner's settings.
        run_id: The flow run's id (or one made up, outside a flow).
        run_key: Its directory on the cluster; not the bare id, so that it says whose it is.
        run_name: Its name, for people; empty outside a flow.
        registry: Its calls.
        requeues: How often a call that the cluster lost is submitted again.
        timers: For time-outs.
        in_background: Runs what may have to wait for the cluster, soon, in some thread.
        log: The flow run's log.
    """

    cluster: ClusterBlock
    run_id: str
    run_key: str
    run_name: str
    registry: CallRegistry
    requeues: int
    timers: Timers
    in_background: Callable[[Callable[[], None]], None]
    log: RunLog


class CallListener(Protocol):
    """Is told what becomes of calls."""

    def on_event(self, event: dict[str, Any], body: bytes) -> bool:
        """Take what an agent says; False if only the executor understands it."""
        ...

    def cannot_take_in(self, event: dict[str, Any], error: Exception) -> bool:
        """End the call that an event makes no sense for; False if there is none."""
        ...

    def fail(self, call: Call, error: InfrastructureError) -> None:
        """Submit a call that the cluster failed again, or fail it."""
        ...

    def fail_for_good(self, call: Call, error: BaseException, stop: bool = False) -> None:
        """Fail a call; `stop` says that it may still be under way."""
        ...

    def send_again(self, call: Call, why: str) -> None:
        """Submit a call anew, through no fault of its own."""
        ...

    def limit_queueing(self, call: Call) -> None:
        """Count from now on how long a call waits for the cluster."""
        ...

    def on_gone(self, calls: Iterable[Call], error: ClustrixError) -> None:
        """Fail these calls: where they are cannot be reached any more."""
        ...


class Waiter(Protocol):
    """A task run whose call waits until what it is packed for is known."""

    @property
    def resources(self) -> Resources:
        """What the call gets."""
        ...

    @property
    def is_over(self) -> bool:
        """Whether nothing will be begun for it any more."""
        ...

    def post(self, event: Event) -> None:
        """Tell it what happened; returns at once."""
        ...


class Place(Protocol):
    """Where the calls of one flow run go: the host behind a login, or pods."""

    @property
    def known(self) -> dict[str, Any]:
        """Calls that an earlier process of this flow run left there, by id."""
        ...

    def is_ready_for(self, waiter: Waiter) -> bool:
        """Return whether what a call is packed for is known, so that the rest here can be asked.

        If not, the waiter hears what that waits for, then when it is worth asking again, or why
        it is not.
        """
        ...

    @property
    def acknowledged(self) -> Collection[str]:
        """The ids of calls whose outcome it has had: their traces may be there still."""
        ...

    @property
    def python_note(self) -> str:
        """Which interpreter runs the calls, and why; empty where that is not known yet."""
        ...

    @property
    def python_version(self) -> tuple[int, int]:
        """The Python there, if nothing else is asked for."""
        ...

    @property
    def store(self) -> str:
        """The id of the store that calls share; empty if there is none."""
        ...

    def interpreter_for(self, code: Code) -> FarPython:
        """Return the interpreter that runs this code, which may still have to be built."""
        ...

    def send(self, call: Call) -> None:
        """Have a call run; what prevents it, later on, is told to the listener."""
        ...

    def attach(self, call: Call, known: dict[str, Any]) -> None:
        """Take up a call that an earlier process sent there."""
        ...

    def end_left(self, left: Mapping[str, Any]) -> None:
        """Stop calls of those in `known` that nobody takes up."""
        ...

    def close(self, keep: bool, is_over: bool = True) -> None:
        """Clean up there; the outcomes of calls stay if the flow run is not over."""
        ...


class OpenedCluster(Protocol):
    """A cluster that a task runner has opened."""

    def place_for(self, run: RunContext, listener: CallListener) -> Place:
        """Return where the calls of a flow run go."""
        ...

    def leave(self) -> None:
        """Wait for nothing long that is broken: the task runner ends."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


class Executor(Protocol):
    """A way to run calls on a host."""

    def send(self, call: Call) -> None:
        """Have the call run; returns at once."""
        ...

    def attach(self, call: Call, known: dict[str, Any]) -> None:
        """Watch a call that an earlier process sent."""
        ...

    def cancel(self, calls: Iterable[Call]) -> None:
        """Stop these calls where they are."""
        ...

    def on_event(self, event: dict[str, Any]) -> None:
        """Take what the agent sent and only this executor understands."""
        ...

    def on_reconnected(self, calls: Iterable[Call], known: dict[str, Any]) -> None:
        """Take these calls up where they were: there is a new agent."""
        ...

    def end_left(self, left: dict[str, Any]) -> None:
        """Stop what a new agent found of calls that are over, by their ids."""
        ...

    def close(self) -> None:
        """Stop looking."""
        ...

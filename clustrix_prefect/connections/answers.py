"""Answers of the agent that are awaited."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from clustrix_prefect.errors import AgentError

if TYPE_CHECKING:
    from clustrix_prefect.connections.agent import AgentClient


class Reply:
    """A place for one answer, and for the parts that come before it.

    Args:
        largest: How many bytes may come with it.
    """

    def __init__(self, largest: float = 0) -> None:
        self._largest = largest
        self.arrived = threading.Event()
        self.parts: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self.message: Mapping[str, Any] = {}
        self.body: bytes = b""
        self.failure: BaseException | None = None

    def take(self, message: Mapping[str, Any], body: bytes) -> None:
        """The answer is there."""
        self.message = message
        self.body = body
        self._end()

    def take_largest(self) -> float:
        """How many bytes may come with it, for the first who asks, and then none."""
        largest, self._largest = self._largest, 0
        return largest

    def fail(self, reason: BaseException) -> None:
        """There will be none, unless it is there already."""
        if not self.arrived.is_set():
            self.failure = reason
            self._end()

    def _end(self) -> None:
        self.parts.put(None)
        self.arrived.set()


class PendingAnswer:
    """A request that was sent, and whose answer is awaited later.

    Attributes:
        number: The request's number.
    """

    def __init__(self, client: AgentClient, number: int, reply: Reply, op: str) -> None:
        self.number = number
        self._client = client
        self._reply = reply
        self._op = op

    def parts(self) -> Iterator[bytes]:
        """What comes before the answer, as it comes; then `wait` has the answer."""
        while (part := self._reply.parts.get()) is not None:
            yield part

    def wait(self, timeout: float | None = None) -> tuple[dict[str, Any], bytes]:
        """The answer and what came with it.

        Raises:
            AgentError: It could not be done, or took longer; `type` says why.
            ConnectionLost: The agent is gone.
        """
        reply = self._reply
        try:
            if not reply.arrived.wait(timeout):
                raise self._client.silent(self._op, timeout)
        finally:
            self._client.forget(self.number)
        if reply.failure is not None:
            raise reply.failure
        if "error" in reply.message:
            error = reply.message["error"]
            raise AgentError(error["message"], type=error["type"])
        return dict(reply.message["ok"]), reply.body

"""The client's end of the conversation with the agent on the cluster."""

from __future__ import annotations

import contextlib
import itertools
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

from clustrix_prefect.connections import bootstrap
from clustrix_prefect.connections.connection import Channel, Connection
from clustrix_prefect.errors import AgentError, ConnectionLost, LoginInterrupted
from clustrix_prefect.far_side.agent.file_operations import READ_LIMIT
from clustrix_prefect.far_side.wire import protocol
from clustrix_prefect.far_side.wire.frames import FrameError
from clustrix_prefect.far_side.wire.link import Link
from clustrix_prefect.far_side.wire.protocol import Request

A = TypeVar("A")
_ANSWER_SECONDS = 10.0
# What was said last, such as what to cancel, should still arrive.
_FINISH_SECONDS = 2.0
# Of what comes with an answer, such as a listing; a hostile cluster would never end.
_LARGEST = 2**29
# Parts of a listing that wait here; the far side sends far fewer without being asked for more.
_MOST_PARTS = 256

logger = logging.getLogger("prefect.clustrix")


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
        """Return how many bytes may come with it, for the first who asks, and then none."""
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


class PendingAnswer(Generic[A]):
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
        """Yield what comes before the answer, as it comes; then `wait` has the answer."""
        while (part := self._reply.parts.get()) is not None:
            yield part

    def wait(self, timeout: float | None = None) -> tuple[A, bytes]:
        """Return the answer and what came with it.

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
        answer: A = reply.message["ok"]
        return answer, reply.body


class AgentClient:
    """One agent, started over a connection and spoken to until it is closed.

    Args:
        connection: The way to the cluster.
        python: The interpreter the agent should try first.
        prologue: Shell lines after which there is a Python, should there be none before.
        work_dir: Where `configure` is to work; the program need not be sent a second time to
            one that has it.
        on_event: Takes each event and its body, on the reading thread: it must be quick.
        on_lost: Called once, with the reason, when the agent is gone without `close`.
        start_timeout: Seconds that the login may take.
        silence: Seconds without a word after which either side counts the other as gone.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        python: str | None = None,
        prologue: Sequence[str] = (),
        work_dir: str | None = None,
        on_event: Callable[[dict[str, Any], Any], None],
        on_lost: Callable[[BaseException], None],
        start_timeout: float = 30.0,
        silence: float = 30.0,
    ) -> None:
        self.round_trips = 0
        self.clock_offset = 0.0
        self.round_trip_seconds = 0.0
        self._connection = connection
        self._python = python
        self._prologue = list(prologue)
        self._work_dir = work_dir
        self._on_event = on_event
        self._on_lost = on_lost
        self._start_timeout = start_timeout
        self._silence = silence
        self._channel: Channel | None = None
        self._link: Link | None = None
        self._program_bytes = 0
        self._ids = itertools.count(1)
        self._replies: dict[int, Reply] = {}
        self._lock = threading.Lock()
        self._hello = Reply()
        self._lost: ConnectionLost | None = None
        self._closed = False
        # Larger results wait on the cluster until they are asked for.
        self._largest_result: float = _LARGEST
        self._results_under_way: set[str] = set()

    @property
    def bytes_sent(self) -> int:
        """Bytes sent so far, the far side's program included."""
        return self._program_bytes + (self._link.bytes_sent if self._link else 0)

    @property
    def bytes_received(self) -> int:
        """Bytes received so far."""
        return self._link.bytes_received if self._link else 0

    @property
    def is_lost(self) -> bool:
        """Whether it is gone, or was closed."""
        return self._lost is not None

    def start(self) -> dict[str, Any]:
        """Start the agent; what it says of its host.

        Raises:
            LoginInterrupted: The login did not let our program start.
            ConnectionLost: The connection broke.
        """
        where = self._connection.description
        program = bootstrap.packed_program()
        marker = bootstrap.new_marker()
        channel = self._connection.start(
            bootstrap.command_line(
                marker,
                program,
                silence=self._silence,
                python=self._python,
                prologue=self._prologue,
                work_dir=self._work_dir,
            )
        )
        self._channel = channel
        try:
            known, early = bootstrap.await_loader(channel, marker, where, self._start_timeout)
            if not known:
                self._program_bytes = len(program)
                channel.write(program)
            self._link = Link(
                read=_after(early, channel.read),
                write=channel.write,
                on_message=self._on_message,
                on_end=self._on_end,
                ping={"op": "ping"},
                silence=self._silence,
                open_sink=self._open_sink,
                largest=self._largest_body,
            )
            self._link.start()
            return self._await_hello(channel, where)
        except OSError as error:
            self.close()
            if isinstance(error, LoginInterrupted | ConnectionLost):
                raise
            raise ConnectionLost(f"The connection to {where} broke: {error}.") from error
        except BaseException:
            self.close()
            raise

    def _await_hello(self, channel: Channel, where: str) -> dict[str, Any]:
        arrived = self._hello.arrived.wait(self._start_timeout)
        if not arrived or self._hello.failure is not None:
            raise LoginInterrupted(
                f"Our program on {where} ended while it started."
                if arrived
                else f"Our program on {where} did not answer within {self._start_timeout:g} s.",
                channel.stderr_tail().strip()[-2000:],
            )
        hello = dict(self._hello.message)
        if hello["protocol"] != protocol.VERSION:
            raise LoginInterrupted(f"Our program on {where} speaks another protocol: {hello}.")
        self.measure()
        return hello

    def measure(self) -> float:
        """Measure the round trip and the far clock's offset; the round trip in seconds."""
        sent, here = time.perf_counter(), time.time()
        there = float(self.request(protocol.ping())["time"])
        self.round_trip_seconds = time.perf_counter() - sent
        self.clock_offset = there - (here + self.round_trip_seconds / 2)
        return self.round_trip_seconds

    def request(self, request: Request[A], timeout: float | None = 60, attachment: Any = b"") -> A:
        """Ask the agent for something, and wait for the answer.

        Args:
            request: What to do: an operation of `far_side/wire/protocol.py`.
            timeout: Seconds to wait, or None; for a `command`, seconds that it may take.
            attachment: Bytes that go with it.

        Raises:
            AgentError: It could not be done; `type` says why.
            ConnectionLost: The agent is gone.
        """
        if request.op == "configure":
            request.fields.setdefault("work_dir", self._work_dir)
            # The agent looks for commands in the environment that these lines make.
            request.fields.setdefault("prologue", self._prologue)
            self._largest_result = request.fields.get("hold_above", _LARGEST)
        elif request.op == "command":
            # The agent ends the command in time, and says so.
            request.fields["timeout"] = timeout
            timeout = timeout + _ANSWER_SECONDS if timeout else None
        answer, _ = self.begin(request, attachment).wait(timeout)
        return answer

    def begin(self, request: Request[A], attachment: Any = b"") -> PendingAnswer[A]:
        """Send a request without waiting for its answer.

        Raises:
            ConnectionLost: The agent is gone.
        """
        reply, number = Reply(_largest_answer(request)), next(self._ids)
        with self._lock:
            if self._lost is not None:
                raise self._lost
            self._replies[number] = reply
        try:
            self._send(request, attachment, id=number)
        except BaseException:
            self.forget(number)
            raise
        self.round_trips += 1
        return PendingAnswer(self, number, reply, request.op)

    def forget(self, number: int) -> None:
        """Nobody waits for this answer any more."""
        with self._lock:
            self._replies.pop(number, None)

    def silent(self, op: str, timeout: float | None) -> AgentError:
        """Return what is said of an answer that does not come."""
        what = f"{self._connection.description} did not answer `{op}` within {timeout:g} s."
        return AgentError(what, type="Timeout")

    def send(self, request: Request[Any], attachment: Any = b"") -> None:
        """Tell the agent something without waiting for anything.

        Raises:
            ConnectionLost: The agent is gone.
        """
        self._send(request, attachment)

    def _send(self, request: Request[Any], attachment: Any, **number: int) -> None:
        if self._lost is not None:
            raise self._lost
        if self._link is None:
            raise ConnectionLost("The agent has not been started.")
        self._link.send({"op": request.op, **number, **request.fields}, attachment)

    def put_blob(self, sha: str, data: bytes | memoryview) -> None:
        """Store a blob on the cluster, and wait until it is there and verified."""
        self.request(protocol.put(sha=sha, size=len(data)), timeout=None, attachment=data)

    def close(self) -> None:
        """End the conversation; the agent ends too, running calls do not."""
        self._closed = True
        if self._link is not None and self._lost is None:
            self._link.finish(_FINISH_SECONDS)
        if self._channel is not None:
            self._channel.close()
        self._fail(ConnectionLost("The connection was closed."))

    def _on_message(self, message: dict[str, Any], body: Any) -> None:
        if "re" in message:
            reply = self._replies.get(message["re"])
            if reply is not None:
                reply.take(message, body)
        elif "part_of" in message:
            reply = self._replies.get(message["part_of"])
            if reply is not None:
                if reply.parts.qsize() > _MOST_PARTS:
                    raise FrameError("a listing goes on although nobody takes it")
                reply.parts.put(body)
        elif message.get("event") == "hello":
            self._hello.take(message, body)
        elif message.get("event") != "ping":
            if "stream" in message:
                self._results_under_way.discard(str(message.get("call")))
            try:
                self._on_event(message, body)
            except Exception:  # one event that goes wrong must not stop all others
                logger.exception("An event of the far side was not handled: %s", message)

    def _largest_body(self, message: dict[str, Any]) -> float:
        """Return how many bytes may come with a message: as many as were asked for, and once."""
        if "re" in message:
            reply = self._replies.get(message["re"])
            return reply.take_largest() if reply is not None else _LARGEST
        call = str(message.get("call"))
        if message.get("event") != "result" or call in self._results_under_way:
            return 0
        self._results_under_way.add(call)
        return self._largest_result

    def _open_sink(self, message: dict[str, Any]) -> Any:
        """Return where an answer goes that nobody waits for any more: it is not kept."""
        return None if "re" not in message or message["re"] in self._replies else _Discarded()

    def _on_end(self, reason: BaseException) -> None:
        stderr = self._channel.stderr_tail().strip()[-2000:] if self._channel else ""
        said = f' Its standard error ended with "{stderr}".' if stderr else ""
        lost = ConnectionLost(
            f"The agent on {self._connection.description} is gone: {reason}.{said}"
        )
        lost.__cause__ = reason
        self._fail(lost)
        if self._channel is not None:
            with contextlib.suppress(Exception):  # it is broken already
                self._channel.close()
        if not self._closed:
            self._on_lost(lost)

    def _fail(self, reason: ConnectionLost) -> None:
        """Let everybody who waits for an answer know that there will be none."""
        with self._lock:
            if self._lost is None:
                self._lost = reason
            waiting = [*self._replies.values(), self._hello]
        for reply in waiting:
            reply.fail(self._lost)


class _Discarded:
    """Takes the bytes of an answer that nobody waits for."""

    def write(self, data: Any) -> None:
        """Forget them."""

    def finish(self) -> bytes:
        return b""


def _largest_answer(request: Request[Any]) -> float:
    """Return how many bytes may come with the answer to a request."""
    if request.op == "read":
        return max(0, int(request.fields["size"]))
    return READ_LIMIT if request.op == "fs_read" else _LARGEST


def _after(early: bytes, read: Callable[[int], bytes]) -> Callable[[int], bytes]:
    """Return a `read` that first gives what was read already."""
    rest = [early] if early else []

    def read_next(size: int) -> bytes:
        return rest.pop() if rest else read(size)

    return read_next

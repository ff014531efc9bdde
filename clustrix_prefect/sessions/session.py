"""The open connection to one cluster, shared by every runner of this process that uses it."""

from __future__ import annotations

import logging
import os
import secrets
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from clustrix_prefect.clusters.cluster import ClusterBlock
from clustrix_prefect.connections.agent import AgentClient
from clustrix_prefect.connections.connection import Connection
from clustrix_prefect.credentials.cache import current_cache, remembering
from clustrix_prefect.errors import (
    AuthenticationFailed,
    ClustrixError,
    ConfigurationError,
    ConnectionFailed,
    ConnectionLost,
    LoginNeeded,
    PythonVersionMismatch,
    message_of,
)
from clustrix_prefect.far_side.wire import protocol
from clustrix_prefect.far_side.wire.protocol import Request
from clustrix_prefect.packaging.identity import sha256
from clustrix_prefect.schedulers.scheduler import Limits, Scheduler
from clustrix_prefect.sessions.blob_uploads import BlobUploads
from clustrix_prefect.sessions.discovery import ask_site
from clustrix_prefect.sessions.login_wait import LoginWait
from clustrix_prefect.sessions.opened import OpenAgent, open_agent

logger = logging.getLogger("prefect.clustrix")

T = TypeVar("T")
A = TypeVar("A")

_LOOK_SECONDS = 0.5
# Who leaves while the connection is broken waits this long for it to be opened again.
_LEAVE_SECONDS = 10.0
_LONGEST_PAUSE = 15.0
# Between logins whose password or code was refused; hosts lock accounts after some of these.
_FIRST_PAUSE_OF_REFUSED = 60.0
_LONGEST_PAUSE_OF_REFUSED = 600.0
_CLIENT_PYTHON = (sys.version_info.major, sys.version_info.minor)


class RunListener(Protocol):
    """What a session tells the dispatcher of a flow run."""

    run_key: str

    def on_event(self, event: dict[str, Any], body: bytes) -> None:
        """The agent sent something that concerns one of this run's calls, or all."""
        ...

    def on_reconnected(self, known: dict[str, Any]) -> None:
        """There is a new agent; these calls it found."""
        ...

    def on_login_needed(self, wait: LoginWait) -> None:
        """The connection is opened again when a person has logged in."""
        ...

    def on_gone(self, error: ClustrixError) -> None:
        """The cluster cannot be reached any more."""
        ...


class Session:
    """A connection, the agent at its other end, and what is known of the cluster.

    Args:
        cluster: The block that says how to get there.
        connect: Another way to get there than the cluster's own.
        start_timeout: Seconds that the login may take.

    Attributes:
        key: By which the sessions of this process are told apart.
        store: The id of the store there, once it is open.
    """

    def __init__(
        self,
        cluster: ClusterBlock,
        connect: Callable[[], Connection] | None = None,
        start_timeout: float = 30.0,
    ) -> None:
        self.cluster = cluster
        self._start_timeout = start_timeout
        self._connect = connect
        self._secrets = current_cache()
        self.scheduler: Scheduler | None = cluster.scheduler()
        self.agent_python = ""
        self.python = ""
        self.python_version: tuple[int, int] = _CLIENT_PYTHON
        self.why_python = ""
        self.work_dir = ""
        self.far_side = ""
        self.host = ""
        self.user_id = -1
        self.limits = Limits()
        self.prologue = cluster.prologue
        self.worker_prologue = cluster.worker_prologue
        self.uploads = BlobUploads(self.with_agent)
        self.store = ""
        self._token = secrets.token_hex(8)
        # Who wants to go there the usual way shares it.
        self.key = cluster.identity if connect is None else self._token
        self._way: OpenAgent | None = None
        self._up = threading.Event()
        # What is waited for where a person has to log in before there is an agent again.
        self.login_wait: LoginWait | None = None
        self._gone: ClustrixError | None = None
        self._leave_by: float | None = None
        self._closed = False
        self._lock = threading.RLock()
        self._listeners: dict[str, RunListener] = {}
        self._calls: dict[str, RunListener] = {}
        self._blobs: set[str] = set()

    # --- opening and closing ---------------------------------------------------------------

    def open(self) -> None:
        """Connect, and find out what is there.

        Raises:
            ConnectionFailed: The cluster cannot be reached.
            PythonVersionMismatch: It has no Python that can run the calls.
            AgentError: Its work directory cannot be used.
        """
        with remembering(self._secrets):  # also by threads that open it again
            way = open_agent(
                self.cluster,
                self._connect,
                on_event=self._on_event,
                on_lost=self._on_lost,
                start_timeout=self._start_timeout,
            )
        agent = way.agent
        try:
            self.host = way.hello["host"]
            self.user_id = way.hello["uid"]
            self.agent_python = way.hello["executable"]
            configured = agent.request(
                protocol.configure(
                    work_dir=self.cluster.remote_work_dir,
                    alone=self.cluster.is_alone,
                    hold_above=self.cluster.fetch_results_above * 2**20,
                    worker_grace=self.cluster.patience.worker_grace,
                )
            )
            self.work_dir = configured["work_dir"]
            self.far_side = configured["far_side"]
            self.store = configured["store"]
            self._choose_python(agent, self._activate(agent) or self.cluster.interpreter)
            if self.scheduler is not None:
                self.scheduler, self.limits = ask_site(agent, self.scheduler)
            self._begin(way)
        except BaseException:
            agent.close()
            way.abandon()
            raise

    def _begin(self, way: OpenAgent) -> None:
        """From now on this agent is ours, and is replaced when it is lost."""
        with self._lock:
            if way.agent.is_lost:
                raise ConnectionLost(f"The connection to {self.cluster.description} broke at once.")
            self._way = way
            self._blobs.clear()
            self.uploads.forget()
            self._up.set()

    def close(self) -> None:
        """Close the connection; the agent ends, and with it the warm workers."""
        if self._closed:
            return
        self._closed = True
        self.uploads.close()
        self._up.set()
        if self._way is not None:
            self._way.close()

    def leave_within(self, seconds: float) -> None:
        """From now on, wait no longer than this for a connection that is broken."""
        self._leave_by = time.monotonic() + seconds

    def stay(self) -> None:
        """Somebody new uses it: it is worth waiting for again."""
        self._leave_by = None

    def _activate(self, agent: AgentClient) -> str | None:
        """Have the conda environment that the block names, if any, activated before workers."""
        self.prologue, name = self.cluster.prologue, self.cluster.conda_environment
        self.worker_prologue = self.cluster.worker_prologue
        if name is None:
            return None
        found = agent.request(protocol.find_conda(name=name, prologue=self.prologue))
        if found["prefix"] is None:
            raise ConfigurationError(
                f"There is no conda environment {name!r} on {self.cluster.description}.",
                f"There are: {', '.join(found['known']) or 'none that was found'}."
                " Give its path if it lies elsewhere.",
            )
        self.prologue = [*self.prologue, *found["prologue"]]
        self.worker_prologue = [*self.worker_prologue, *found["prologue"]]
        return f"{found['prefix']}/bin/python"

    def _choose_python(self, agent: AgentClient, named: str | None) -> None:
        answer = agent.request(
            protocol.find_python(python=named, prefer=list(_CLIENT_PYTHON), prologue=self.prologue)
        )
        # The same minor version is preferred; to any other the code travels just as well.
        chosen = answer.get("chosen")
        if chosen is None:  # older ones are not even told
            raise PythonVersionMismatch(
                f"No Python was found on {self.cluster.description}, and calls need 3.6 or newer.",
                "Set the block's `python` to one there, or name a module that brings one in"
                " `modules`.",
            )
        self.python_version = (chosen["version"][0], chosen["version"][1])
        self.python = chosen["path"]
        self.why_python = self.cluster.why_interpreter(self.python_version)

    # --- what the dispatchers use ----------------------------------------------------------

    @property
    def _agent(self) -> AgentClient | None:
        return None if self._way is None else self._way.agent

    @property
    def is_gone(self) -> bool:
        """Whether it broke, and could not be opened again in time."""
        return self._gone is not None

    @property
    def agent(self) -> AgentClient:
        """The agent, once it is there.

        Raises:
            ConnectionLost: It is gone for good.
        """
        while True:
            while not self._up.wait(_LOOK_SECONDS):
                if self._leave_by is not None and time.monotonic() > self._leave_by:
                    raise ConnectionLost(
                        f"The connection to {self.cluster.description} is broken.",
                        "What runs there runs on; `clustrix-prefect jobs` shows it.",
                    )
            self._check_open()
            assert self._agent is not None
            return self._agent

    @property
    def agent_now(self) -> AgentClient | None:
        """The agent, or None while the connection is broken; nobody has to wait.

        Raises:
            ConnectionLost: It is gone for good.
        """
        if not self._up.is_set():
            return None
        self._check_open()
        agent = self._agent
        return None if agent is None or agent.is_lost else agent

    def _check_open(self) -> None:
        if self._gone is not None:
            raise self._gone
        if self._agent is None or self._closed:
            raise ConnectionLost(
                f"The connection to {self.cluster.description} is closed.",
                "Submit tasks while the task runner is open.",
            )

    def request(self, request: Request[A], timeout: float | None = 60) -> A:
        """Ask for something, again on a new connection if the old one broke under it.

        Raises:
            ConnectionLost: The connection cannot be opened again.
        """
        return self.with_agent(lambda agent: agent.request(request, timeout))

    def with_agent(self, step: Callable[[AgentClient], T]) -> T:
        """Return what a step that talks to the agent gives, begun anew if the connection breaks.

        Raises:
            ConnectionLost: It cannot be opened again.
        """
        while True:
            agent = self.agent
            try:
                return step(agent)
            except ConnectionFailed:
                if self._closed or (agent is self._agent and not self._broken(agent)):
                    raise

    def _broken(self, agent: AgentClient) -> bool:
        """Return whether this agent was found to be lost (its reader may be a moment behind us)."""
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            if self._agent is not agent or not self._up.is_set():
                return True
            time.sleep(0.01)
        return False

    def send(self, request: Request[Any]) -> None:
        """A message that needs no answer; lost while the connection is broken.

        It never waits: what was lost is made good in `on_reconnected`.

        Raises:
            ConnectionLost: The connection is gone for good.
        """
        try:
            agent = self.agent_now
            if agent is not None:
                agent.send(request)
        except ConnectionFailed:
            if self._gone is not None:
                raise

    def ensure_blobs(self, *blobs: bytes) -> None:
        """Have the cluster's store hold these bytes."""
        missing = {sha256(blob): blob for blob in blobs}
        missing = {sha: blob for sha, blob in missing.items() if sha not in self._blobs}
        if not missing:
            return
        answer = self.request(protocol.have(blobs=list(missing)))
        for sha in answer["missing"]:
            self.agent.put_blob(sha, missing[sha])
        self._blobs.update(missing)

    def open_run(self, listener: RunListener) -> tuple[dict[str, Any], set[str]]:
        """Begin a flow run.

        Returns:
            The calls that an earlier process left there, and the ids of those whose outcome
            has arrived.
        """
        with self._lock:
            self._listeners[listener.run_key] = listener
        return self.find_calls(listener)

    def find_calls(self, listener: RunListener) -> tuple[dict[str, Any], set[str]]:
        """Return what there is of a flow run's calls; as for `open_run`."""
        # An agent whose connection broke first brings to its end what it was asked to submit.
        answer = self.request(
            protocol.open_run(run=listener.run_key, client=self._token), timeout=300
        )
        return answer["known"], set(answer["acknowledged"])

    def close_run(self, listener: RunListener, keep: bool) -> None:
        """End a flow run: its warm workers stop, its files go."""
        self.uploads.close_run(listener.run_key)
        try:
            self.request(protocol.close_run(run=listener.run_key, keep=keep))
        except ClustrixError:
            logger.debug("The run could not be closed", exc_info=True)
        with self._lock:
            if self._listeners.get(listener.run_key) is listener:
                del self._listeners[listener.run_key]

    def expect(self, call_id: str, listener: RunListener) -> None:
        """Send this call's events to that listener."""
        self._calls[call_id] = listener

    def forget(self, call_id: str) -> None:
        """This call is over."""
        self._calls.pop(call_id, None)

    def here(self, far_time: float) -> float:
        """Return a time on the cluster's clock as a time on ours."""
        agent = self._agent
        return far_time - (agent.clock_offset if agent else 0.0)

    # --- what the agent says ---------------------------------------------------------------

    def _on_event(self, event: dict[str, Any], body: bytes) -> None:
        call = event.get("call")
        if call is None:
            listeners = tuple(self._listeners.values())
        else:
            listener_of_call = self._calls.get(call)
            listeners = (listener_of_call,) if listener_of_call is not None else ()
        for listener in listeners:
            try:
                listener.on_event(event, body)
            except Exception:  # whatever the far side wrote, the next event must be read
                logger.exception("An event of %s could not be taken in", self.host)

    def _on_lost(self, agent: AgentClient, error: BaseException) -> None:
        with self._lock:
            if self._closed or agent is not self._agent:
                return  # one that is lost in `open` is for its caller to replace
            self._up.clear()
        if self._way is not None:
            self._way.abandon()
        threading.Thread(
            target=self._reconnect, args=(error,), name="clustrix-reconnect", daemon=True
        ).start()

    def _reconnect(self, error: BaseException) -> None:
        logger.warning(
            "The connection to %s broke (%s); opening it again. Jobs go on meanwhile.",
            self.cluster.description,
            message_of(error),
        )
        deadline = time.monotonic() + self.cluster.reconnect_seconds
        pause = 0.5
        while not self._closed:
            try:
                self.open()
                break
            except LoginNeeded as needed:
                if not self._await_login(needed):
                    return
                # Only now is it about the connection again.
                deadline = time.monotonic() + self.cluster.reconnect_seconds
            except Exception as failure:
                longest = _LONGEST_PAUSE
                if isinstance(failure, AuthenticationFailed) and failure.is_counted:
                    # The directory of accounts may be late, but the account is not to be locked.
                    longest = _LONGEST_PAUSE_OF_REFUSED
                    pause = max(pause, _FIRST_PAUSE_OF_REFUSED)
                if self.login_wait is not None and not self.login_wait.has_ended:
                    deadline = time.monotonic() + self.cluster.reconnect_seconds
                elif time.monotonic() + pause > deadline:
                    self._give_up(self._not_opened_again(failure))
                    return
                logger.debug("Not yet: %s", failure)
                time.sleep(pause)
                pause = min(pause * 2, longest)
        self._end_login_wait()
        if self._closed:
            return
        logger.info("The connection to %s is open again.", self.cluster.description)
        for listener in tuple(self._listeners.values()):
            try:
                listener.on_reconnected(self.find_calls(listener)[0])
            except Exception:
                logger.exception("Calls could not be taken up again")

    def _await_login(self, needed: LoginNeeded) -> bool:
        """Wait until it is worth trying again; whether it is."""
        if self.login_wait is None:
            self.login_wait = LoginWait(self.cluster, needed)
            for listener in tuple(self._listeners.values()):
                listener.on_login_needed(self.login_wait)
        try:
            self.login_wait.pause(lambda: self._closed)
        except LoginNeeded as over:
            self._give_up(over)
            return False
        return True

    def _not_opened_again(self, failure: Exception) -> ConnectionLost:
        lost = ConnectionLost(
            f"The connection to {self.cluster.description} broke and could not be opened"
            f" again for {self.cluster.reconnect_seconds:g} seconds: {message_of(failure)}",
            "Run the flow again once the cluster can be reached; its jobs went on.",
        )
        lost.__cause__ = failure
        return lost

    def _end_login_wait(self) -> None:
        wait, self.login_wait = self.login_wait, None
        if wait is not None:
            wait.end()

    def _give_up(self, error: ClustrixError) -> None:
        self._end_login_wait()
        self._gone = error
        self._up.set()
        for listener in tuple(self._listeners.values()):
            listener.on_gone(self._gone)


class Sessions:
    """The open sessions of this process: one for each cluster, and those of pods."""

    def __init__(self) -> None:
        self._forget()
        # A child that was forked must not speak on its parent's connections.
        os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        self._sessions: dict[str, Session] = {}
        # Of those too that are gone for good, until the last of their users has noticed.
        self._users: dict[Session, int] = {}
        self._lock = threading.Lock()
        self._opening: dict[str, threading.Lock] = {}

    def acquire(self, cluster: ClusterBlock) -> Session:
        """Return the session of this cluster, opened if this is its first user."""
        with self._lock:
            opening = self._opening.setdefault(cluster.identity, threading.Lock())
        with opening:
            known = self.opened(cluster.identity)
            if known is not None:
                return known
            session = Session(cluster)
            session.open()
            with self._lock:
                self._sessions[session.key] = session
                self._users[session] = 1
            return session

    def adopt(self, session: Session) -> None:
        """Let others use a session that somebody has opened, who releases it at last."""
        with self._lock:
            self._sessions[session.key] = session
            self._users[session] = 1

    def opened(self, identity: str) -> Session | None:
        """The session of the cluster of this identity, if it is open; its user releases it."""
        with self._lock:
            return self._take(identity)

    def with_store(self, store: str) -> Session | None:
        """Return an open session where this store is; its user releases it."""
        with self._lock:
            for key, session in self._sessions.items():
                if session.store == store and not session.is_gone:
                    return self._take(key)
        return None

    def _take(self, key: str) -> Session | None:
        """Count one user more of a session, under the lock, and return it."""
        session = self._sessions.get(key)
        if session is None or session.is_gone:
            return None
        self._users[session] += 1
        session.stay()
        return session

    def leave(self, session: Session) -> None:
        """One who uses the session wants to go: if it is the last, nothing is waited for long."""
        with self._lock:
            users = self._users[session]
        if users == 1:
            session.leave_within(_LEAVE_SECONDS)

    def release(self, session: Session) -> None:
        """One user less; the last one closes it."""
        with self._lock:
            self._users[session] -= 1
            if self._users[session]:
                return
            del self._users[session]
            if self._sessions.get(session.key) is session:
                del self._sessions[session.key]
        session.close()


sessions = Sessions()

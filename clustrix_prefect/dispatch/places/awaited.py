"""A cluster at which nobody can log in yet: calls wait until somebody has."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Mapping
from contextvars import copy_context
from functools import partial
from typing import Any

from clustrix_prefect.clusters.cluster import ClusterBlock
from clustrix_prefect.dispatch.call import Call
from clustrix_prefect.dispatch.login_notice import tell_of_login
from clustrix_prefect.dispatch.placement import CallListener, RunContext, Waiter
from clustrix_prefect.dispatch.places.run_session import RunSession
from clustrix_prefect.engine import CallQueued, CallRaised, Proceed
from clustrix_prefect.environments.interpreters import FarPython
from clustrix_prefect.environments.preflight import Code
from clustrix_prefect.errors import ConnectionFailed, LoginNeeded, own_copy
from clustrix_prefect.sessions.login_wait import LoginWait
from clustrix_prefect.sessions.session import Session, sessions

logger = logging.getLogger("prefect.clustrix")


class FirstLogin:
    """Opens a cluster's session as soon as somebody has logged in there.

    Args:
        cluster: Where to.
        needed: What the host said to those who tried without a person.
        run_session: Makes what a flow run has there once there is a session.
    """

    def __init__(
        self,
        cluster: ClusterBlock,
        needed: LoginNeeded,
        run_session: Callable[[Session, RunContext, CallListener], RunSession],
    ) -> None:
        self.wait = LoginWait(cluster, needed)
        self.run_session = run_session
        self._cluster = cluster
        self._session: Session | None = None
        self._error: BaseException | None = None
        self._places: list[AwaitedSession] = []
        self._closed = threading.Event()
        self._lock = threading.Lock()
        # References in credentials are resolved as where the runner was started.
        opening = partial(copy_context().run, self._open)
        threading.Thread(target=opening, name="clustrix-login", daemon=True).start()

    def place_for(self, run: RunContext, listener: CallListener) -> AwaitedSession:
        """Return where the calls of a flow run go, now or later."""
        place = AwaitedSession(self, run, listener)
        with self._lock:
            session, error = self._session, self._error
            if session is None and error is None:
                self._places.append(place)
        if session is not None:
            place.opened(session)
        elif error is not None:
            place.failed(error)
        else:
            tell_of_login(run, self.wait)
        return place

    def leave(self) -> None:
        """Nobody waits any more."""
        self._closed.set()
        if self._session is not None:
            sessions.leave(self._session)

    def close(self) -> None:
        """Let go of the session, if there is one."""
        with self._lock:
            self._closed.set()
            session, self._session = self._session, None
        if session is not None:
            sessions.release(session)

    def _open(self) -> None:
        session: Session | None = None
        error: BaseException | None = None
        try:
            session = self._acquire()
        except BaseException as failure:
            error = failure
        self.wait.end()
        with self._lock:
            self._error = error
            is_wanted = not self._closed.is_set()
            self._session = session if is_wanted else None
            # Those that come later see what has been set.
            places, self._places = self._places, []
        if session is not None and not is_wanted:
            sessions.release(session)
            return
        for place in places:
            if session is not None:
                place.opened(session)
            elif error is not None:
                place.failed(error)

    def _acquire(self) -> Session | None:
        """Return the session, once there is one; None if nobody waits any more."""
        while True:
            self.wait.pause(self._closed.is_set)
            if self._closed.is_set():
                return None
            try:
                return sessions.acquire(self._cluster)
            except ConnectionFailed as failure:
                if not isinstance(failure, LoginNeeded) and self.wait.has_ended:
                    raise
                logger.debug("Not yet: %s", failure)


class AwaitedSession:
    """What a flow run will have at a cluster where nobody can log in yet.

    Args:
        login: What opens the cluster.
        run: The flow run.
        listener: Is told what becomes of them.
    """

    def __init__(self, login: FirstLogin, run: RunContext, listener: CallListener) -> None:
        self._login = login
        self._run = run
        self._listener = listener
        self._waiters: list[Waiter] = []
        self._opened: RunSession | None = None
        self._error: BaseException | None = None
        self._lock = threading.Lock()

    def opened(self, session: Session) -> None:
        """There is a session: what waited goes there."""
        try:
            made = self._login.run_session(session, self._run, self._listener)
        except BaseException as error:
            self.failed(error)
            return
        if made.python_note:
            self._run.log.say(logging.INFO, made.python_note)
        with self._lock:
            self._opened = made
        for waiter in self._waiters:
            waiter.post(Proceed())

    def failed(self, error: BaseException) -> None:
        """There will be none."""
        with self._lock:
            self._error = error
        for waiter in self._waiters:
            waiter.post(CallRaised(error))

    def is_ready_for(self, waiter: Waiter) -> bool:
        """Return whether somebody has logged in.

        Raises:
            LoginNeeded: Nobody has, within the cluster's `login_timeout`.
            ClustrixError: The cluster cannot be used.
        """
        with self._lock:
            if self._error is not None:
                raise own_copy(self._error)
            if self._opened is not None:
                return True
            if waiter in self._waiters:
                return False
            self._waiters.append(waiter)
        waiter.post(CallQueued(self._login.wait.reason))
        return False

    @property
    def python_note(self) -> str:
        """Nothing: it is said when there is a session."""
        return ""

    @property
    def _place(self) -> RunSession:
        assert self._opened is not None, "`is_ready_for` comes first"
        return self._opened

    @property
    def known(self) -> dict[str, Any]:
        """Calls that an earlier process of this flow run left there, by id."""
        return self._place.known

    @property
    def acknowledged(self) -> Collection[str]:
        """The ids of calls whose outcome it has had."""
        return self._place.acknowledged

    @property
    def python_version(self) -> tuple[int, int]:
        """The Python there, if nothing else is asked for."""
        return self._place.python_version

    @property
    def store(self) -> str:
        """The id of the store that calls share."""
        return self._place.store

    def interpreter_for(self, code: Code) -> FarPython:
        """Return the interpreter that runs this code, which may still have to be built."""
        return self._place.interpreter_for(code)

    def send(self, call: Call) -> None:
        """Have a call run."""
        self._place.send(call)

    def attach(self, call: Call, known: dict[str, Any]) -> None:
        """Take up a call that an earlier process sent there."""
        self._place.attach(call, known)

    def end_left(self, left: Mapping[str, Any]) -> None:
        """Stop calls of those in `known` that nobody takes up."""
        self._place.end_left(left)

    def close(self, keep: bool, is_over: bool = True) -> None:
        """Clean up there, if anybody has been there."""
        if self._opened is not None:
            self._opened.close(keep, is_over)

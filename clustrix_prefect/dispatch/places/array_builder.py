"""Calls on their way into one submission: how long more of them are waited for."""

from __future__ import annotations

import math
import statistics
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from clustrix_prefect.dispatch.call import Call, CallState
from clustrix_prefect.task_resources import Resources

# A builder ends after this long (seconds), or when no further call has come for a twelfth of
# it. That doubles with each submission that follows at once: a single call goes soon, a large
# map begins early, and it still takes few commands.
_FIRST = 0.6
_LONGEST = 16.0
_QUIET_SHARE = 12
# What the site refuses for now is held back for so long, and twice as long each time, seconds.
_HOLD_FIRST = 2.0
_HOLD_LONGEST = 60.0
_HOLD_LEAST = 1.0
# To start a job costs a scheduler and its node about so long, seconds. Calls that are shorter had
# better share jobs of about so many seconds, of which there should still be so many.
_START_SECONDS = 1.0
_JOB_SECONDS = 5.0
_JOBS = 16
_SHORTEST = 0.01
# From so many calls on it is worth a word.
_MANY = 100


@dataclass
class ArrayBuilder:
    """Calls of one task with equal resources, on their way into one submission.

    Attributes:
        name: The task's.
        resources: What each call gets.
        calls: Those that wait.
        submitted: Those that went before them and may be under way.
    """

    name: str
    resources: Resources
    calls: list[Call] = field(default_factory=list)
    submitted: deque[Call] = field(default_factory=deque)
    _since: float = 0.0
    _last: float = 0.0
    _last_sent: float = 0.0
    _window: float = _FIRST
    _held_until: float = 0.0
    _held_at: float = 0.0
    _held_over: int | None = None
    _hold: float = _HOLD_FIRST
    _most: int | None = None
    _was_looked_at: bool = False

    def add(self, call: Call) -> None:
        """One call more."""
        now = time.monotonic()
        if not self.calls:
            self._since = now
            if now - self._last_sent > 2 * self._quiet:
                # Arrays that share a limit go one after another: better one than several.
                limited = self.resources.max_parallel_jobs is not None
                self._window = _LONGEST if limited else _FIRST
        self.calls.append(call)
        self._last = now

    def is_due(self, enough: int, over: int = 0) -> bool:
        """Return whether the calls may go: there are enough, or no more of them seem to come.

        Args:
            enough: How many fill a submission.
            over: How many calls have ended so far.
        """
        now = time.monotonic()
        if not self.calls or (now < self._held_until and not self._has_room(now, over)):
            return False
        return (
            now - self._last >= self._quiet
            or now - self._since >= self._window
            or len(self.calls) >= enough
        )

    def take(self) -> list[Call]:
        """Let them go."""
        # In a map's own order: where all of it goes at once, its indices are those of the array.
        calls, self.calls = sorted(self.calls, key=lambda call: call.map_index or 0), []
        self._window = min(self._window * 2, _LONGEST)
        self._last_sent = time.monotonic()
        return calls

    def _has_room(self, now: float, over: int) -> bool:
        """Return whether a call has ended since these were held back for want of room."""
        held = self._held_over
        return held is not None and over > held and now - self._held_at >= _HOLD_LEAST

    def size(self, largest: int) -> int:
        """Return how many calls the next submission has at most, where the site takes so many."""
        return largest if self._most is None else min(self._most, largest)

    def shrink(self, refused: int, least: int) -> bool:
        """Try half of what the site refused next; False if that was the least already."""
        if refused <= least:
            self._most = least
            return False
        self._most = max(refused // 2, least)
        return True

    def took(self, calls: Iterable[Call]) -> None:
        """The site has taken them; it may take twice as many."""
        self.submitted.extend(calls)
        self._hold = _HOLD_FIRST
        if self._most is not None:
            self._most *= 2

    def hold_back(
        self, calls: list[Call], seconds: float | None = None, over: int | None = None
    ) -> None:
        """Put them back for so long, or ever longer.

        Args:
            calls: Those that the site does not take.
            seconds: For how long; None: ever longer.
            over: How many calls have ended; what ends after that may have made room.
        """
        now = time.monotonic()
        self._held_at, self._held_over = now, over
        self.calls[:0] = calls
        self._since = self._last = now
        self._held_until = now + (self._hold if seconds is None else seconds)
        if seconds is None:
            self._hold = min(self._hold * 2, _HOLD_LONGEST)

    def is_under_way(self) -> bool:
        """Return whether a call that was submitted before is not over."""
        while self.submitted:
            call = self.submitted[0]
            if call.attempt.batch is not None and not call.state.is_final:
                return True
            self.submitted.popleft()
        return False

    def fitting_calls_per_job(self) -> int | None:
        """Return how many of these calls had better share a job; asked again, it has been told.

        Returns:
            None if that is not known yet, or each is long enough for a job of its own.
        """
        if self._was_looked_at or self.resources.calls_per_job or len(self.submitted) < _MANY:
            return None
        seconds = [
            call.attempt.ended_at - call.attempt.started_at
            for call in tuple(self.submitted)
            if call.state is CallState.DONE and call.attempt.started_at and call.attempt.ended_at
        ]
        if len(seconds) < _MANY:
            return None
        self._was_looked_at = True
        usual = max(statistics.median(seconds), _SHORTEST)
        fits = min(math.ceil(_JOB_SECONDS / usual), len(self.submitted) // _JOBS)
        return fits if usual < _START_SECONDS and fits > 1 else None

    @property
    def _quiet(self) -> float:
        """For how long no call has to come for this to be all."""
        return self._window / _QUIET_SHARE

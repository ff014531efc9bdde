"""How far the task runs of a flow run are, and what is said of them at its end."""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass, field

from prefect.client.schemas.objects import State

from clustrix_prefect.dispatch.call import CallState

_MOST_NAMES = 5


@dataclass
class Progress:
    """The task runs of one flow run on one cluster.

    Attributes:
        total: How many were begun.
        ended: How many of them have ended, and how.
        failed: The names of those that failed.
    """

    total: int = 0
    ended: Counter[CallState] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def begin(self) -> int:
        """Count one more, and return how many they are now."""
        with self._lock:
            self.total += 1
            return self.total

    def end(self, name: str, state: State[object] | None) -> None:
        """One has ended, in this state; None if its engine broke."""
        with self._lock:
            if state is not None and state.is_completed():
                self.ended[CallState.DONE] += 1
            elif state is not None and (state.is_cancelled() or state.is_pending()):
                self.ended[CallState.CANCELLED] += 1  # or never begun: what it needs has failed
            else:
                self.ended[CallState.FAILED] += 1
                self.failed.append(name)

    def counts(self, running: int) -> Counter[CallState]:
        """Return all of them by their states.

        Args:
            running: How many of them run now.
        """
        with self._lock:
            waiting = self.total - self.ended.total() - running
            return self.ended + Counter(
                {CallState.QUEUED: max(waiting, 0), CallState.RUNNING: running}
            )

    def time_left(self, first_started: float | None) -> str:
        """In words, how long it takes until all have ended, if they go on as until now.

        Args:
            first_started: When the first began to run, seconds since the epoch.
        """
        over, left = self.ended.total(), self.total - self.ended.total()
        if first_started is None or not over or not left:
            return ""
        return f"about {in_words((time.time() - first_started) / over * left)} left"

    def last_words(self, page: str | None) -> str:
        """Return what failed and where to look; empty if nothing did.

        Args:
            page: The address of the flow run's page.
        """
        if not self.failed:
            return ""
        names = ", ".join(self.failed[:_MOST_NAMES])
        more = len(self.failed) - _MOST_NAMES
        said = f"{len(self.failed)} of {self.total} failed: {names}"
        said += f" and {more} more" if more > 0 else ""
        return f"{said}; page {page}?tab=Artifacts" if page else said


def in_words(seconds: float) -> str:
    """Return a time in its two largest units: "40 s", "3 min 20 s", "2 h 5 min"."""
    whole = max(round(seconds), 1)
    for size, name, smaller_size, smaller in ((3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // smaller_size
            return f"{whole // size} {name}" + (f" {rest} {smaller}" if rest else "")
    return f"{whole} s"

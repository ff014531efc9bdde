"""Not more state events than Prefect's server takes in.

Task runs reach the server as events. Its queue holds 10,000 of them and drops the rest
without a word, so a large map at full speed leaves task runs that never end in the UI. The
only sign of how far the server has come is what its API says, so that is what is asked.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

logger = logging.getLogger(__name__)

# Task runs whose events may be on their way at once: three to five events each stay well
# below the 10,000 that Prefect 3.8's server holds.
_AHEAD = 1_000
# What Prefect's server with SQLite was seen to take in for long without losing any.
_SAFE_RATE = 40.0
_ASK_EVERY = 0.5
_PATIENCE = 15.0
_STEPS_PER_RUN = 2


class Pacer:
    """Holds task runs back while the server is behind.

    Args:
        ask: Returns how many task runs of this flow run the API shows, and how many of them
            in a final state. Called from the thread that is to wait.
    """

    def __init__(self, ask: Callable[[], tuple[int, int]]) -> None:
        self._ask = ask
        self._lock = threading.Lock()
        self._asking = threading.Lock()
        self._begun = 0
        self._ended = 0
        self._seen = (0, 0)
        self._blind = False

    def begun(self) -> None:
        """A task run has been shown to the server for the first time."""
        with self._lock:
            self._begun += 1

    def ended(self) -> None:
        """A task run has reached its final state here."""
        with self._lock:
            self._ended += 1

    def wait(self) -> None:
        """Return when the server has caught up."""
        waiting_since = time.monotonic()
        while self._behind():
            with self._asking:
                if not self._behind():
                    return
                before = self._seen
                try:
                    self._seen = self._ask()
                except Exception:
                    logger.debug("The API did not say how far it is", exc_info=True)
                if self._seen != before:
                    waiting_since = time.monotonic()
                elif time.monotonic() - waiting_since > _PATIENCE or self._blind:
                    self._go_on_blindly()
                    return
                if self._behind():
                    time.sleep(_ASK_EVERY)

    def _behind(self) -> bool:
        with self._lock:
            shown, ended = self._seen
            return self._begun - shown > _AHEAD or self._ended - ended > _AHEAD

    def _go_on_blindly(self) -> None:
        """The API does not move: go on at a rate that is known to be safe."""
        if not self._blind:
            self._blind = True
            logger.warning(
                "Prefect's API shows no progress; going on with %.0f task runs a second.",
                _SAFE_RATE,
            )
        time.sleep(1 / (_SAFE_RATE * _STEPS_PER_RUN))

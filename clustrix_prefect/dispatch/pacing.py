"""Not more state events than Prefect's server takes in.

The states of task runs reach the server as events. Its queue holds 10,000 of them and drops
the rest without a word, so a large map at full speed leaves task runs that never end in the
UI. The server takes events in the order in which they were sent: once its API shows a state,
it has taken in everything that was sent before. So every now and then a state is remembered
as a mark, and the API is asked for it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import datetime
from uuid import UUID

logger = logging.getLogger(__name__)

# Events that may be on their way at once: half of what Prefect 3.8's server holds, since
# other flows use it, too.
_AHEAD = 5_000
_MARK_EVERY = 200
_ASK_EVERY = 0.25
# A mark that does not show for so long was lost, or the API does not answer. Going on after
# it means 20 events a second, which every server takes in.
_PATIENCE = 10.0


class Pacer:
    """Holds task runs back while the server is behind.

    Args:
        ask: Returns of when the state is that the API shows of a task run, or None if it shows
            none. Called from the thread that is to wait.
    """

    def __init__(self, ask: Callable[[UUID], datetime | None]) -> None:
        self._ask = ask
        self._lock = threading.Lock()
        self._asking = threading.Lock()
        self._sent = 0
        self._taken = 0
        self._marks: deque[tuple[int, UUID, datetime]] = deque()
        self._waiting_for_mark_since: float | None = None

    def sent(self, task_run_id: UUID, timestamp: datetime) -> None:
        """A state of this time was sent to the server."""
        with self._lock:
            self._sent += 1
            if self._sent % _MARK_EVERY == 0:
                self._marks.append((self._sent, task_run_id, timestamp))

    def wait(self) -> None:
        """Return when the server has caught up."""
        while self._sent - self._taken > _AHEAD:
            with self._asking:
                while self._sent - self._taken > _AHEAD and not self._catch_up():
                    time.sleep(_ASK_EVERY)

    def _catch_up(self) -> bool:
        """Ask for the oldest mark; whether it is done with."""
        now = time.monotonic()
        if self._waiting_for_mark_since is None:
            self._waiting_for_mark_since = now
        count, task_run_id, timestamp = self._marks[0]
        try:
            shown = self._ask(task_run_id)
        except Exception:
            logger.debug("The API did not say how far it is", exc_info=True)
            shown = None
        if shown is None or shown < timestamp:
            if now - self._waiting_for_mark_since < _PATIENCE:
                return False
            logger.warning("Prefect's API does not show states that were sent; going on slowly.")
        self._taken = count
        self._marks.popleft()
        self._waiting_for_mark_since = None
        return True

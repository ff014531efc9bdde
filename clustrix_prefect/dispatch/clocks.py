"""Times that nodes tell, as times of this machine."""

from __future__ import annotations

import math
import threading
import time

# How far a node's clock may be off before its times are corrected, seconds.
_TOLERANCE = 2.0


class NodeClocks:
    """How far the clocks of nodes are off, as far as the starts of calls prove it.

    A call begins after it was sent and before that is seen. A start that is merely seen late,
    as after an outage, says nothing of the node's clock.
    """

    def __init__(self) -> None:
        # By node: its clock is ahead of ours by at least, and at most, so many seconds.
        self._ahead: dict[str, tuple[float, float]] = {}
        self._lock = threading.Lock()

    def note_start(self, node: str, at: float, sent_at: float) -> None:
        """A call that we sent at a time of ours began at a time of the node's, and before now."""
        with self._lock:
            least, most = self._ahead.get(node, (-math.inf, math.inf))
            self._ahead[node] = max(least, at - time.time()), min(most, at - sent_at)

    def here(self, node: str, at: float) -> float:
        """Return a time of the node's as one of ours: of what was heard of, so not after now."""
        least, most = self._ahead.get(node, (0.0, 0.0))
        # The start that was seen soonest is nearest to the truth, be the clock ahead or behind.
        if least > _TOLERANCE or most < -_TOLERANCE:
            at -= least
        return min(at, time.time())

"""Hands on what a call logs and prints, line by line."""

import logging
import os
from typing import Any, Callable, List, Optional

from .context import TASK_LOGGER

# A longer message is cut: it would hold up everything else on its way.
MAX_MESSAGE = 256 * 1024
LogLine = List[Any]


class LineHandler(logging.Handler):
    """Hands every record on as a `[time, level, logger, message]` line."""

    def __init__(self, send: Callable[[LogLine], None]) -> None:
        super().__init__()
        self._send = send
        self._owner = os.getpid()

    def emit(self, record: logging.LogRecord) -> None:
        # The pipe to the agent belongs to this process; a forked child shares its offset.
        if os.getpid() != self._owner:
            return
        try:
            message = self.format(record)
            if len(message) > MAX_MESSAGE:
                message = message[:MAX_MESSAGE] + " ... (cut)"
            self._send([record.created, record.levelno, record.name, message])
        except Exception:
            self.handleError(record)


# Beside all that `logging` knows: whatever a call configures there, this one's lines arrive.
_run_logger = logging.Logger(TASK_LOGGER)


def run_logger() -> logging.Logger:
    """Return the logger whose lines appear under the task run."""
    return _run_logger


class CapturedLogging:
    """All of `logging` goes to `send`, until `end`.

    Args:
        level: The lowest level of lines that are wanted.
        send: Takes each line.
    """

    def __init__(self, level: Optional[int], send: Callable[[LogLine], None]) -> None:
        root = logging.getLogger()
        self._before = (root.level, list(root.handlers))
        lowest = logging.INFO if level is None else level
        root.addHandler(LineHandler(send))
        root.setLevel(lowest)
        # What is logged by the name that the run's logger has at home goes the same way.
        _run_logger.handlers[:] = [LineHandler(send)]
        _run_logger.setLevel(lowest)
        _run_logger.disabled = False

    def end(self) -> None:
        """Put everything back as it was."""
        root = logging.getLogger()
        root.setLevel(self._before[0])
        root.handlers[:] = self._before[1]
        _run_logger.handlers[:] = []

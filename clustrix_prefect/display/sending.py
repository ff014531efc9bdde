"""What Prefect says at the end of a process about the states and logs it has still to send."""

from __future__ import annotations

import logging

# They count what they have still to send, at the end of every process that was busy.
_SENDING = ("EventsWorker", "APILogWorker")


def send_silently() -> None:
    """Have Prefect not count, at the end, what it has still to send."""
    for name in _SENDING:
        logging.getLogger(name).addFilter(_is_no_count)


def _is_no_count(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith("Still processing items")

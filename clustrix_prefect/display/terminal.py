"""What a person reads on a terminal of flows that run on clusters."""

from __future__ import annotations

import logging
import sys
from types import TracebackType
from typing import Any

from clustrix_prefect.display import api_server
from clustrix_prefect.display.sending import send_silently
from clustrix_prefect.display.tracebacks import is_of_machinery, mend, shortened
from clustrix_prefect.errors import ClustrixError

# Prefect's own loggers of runs: what goes through them is seen on the terminal and on the pages.
_RUNS = ("prefect.flow_runs", "prefect.task_runs")
# They say of each state that it could not be sent.
_STATES = ("prefect.events.clients", "prefect._internal.concurrency")
# On a record: what it says was said of another call before.
SAID_BEFORE = "clustrix_said_before"


def be_brief() -> None:
    """Shorten tracebacks on the terminal and in the logs of runs, unless at level DEBUG.

    Who has installed an `excepthook`, or a handler in IPython, keeps it.
    """
    for name in _RUNS:
        logging.getLogger(name).addFilter(_brief)  # once: the same function is not added twice
    for name in _STATES:
        logging.getLogger(name).addFilter(_is_news)
    send_silently()
    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = _print_briefly
    # IPython and notebooks show exceptions by themselves.
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if shell is not None and not shell.custom_exceptions:
        shell.set_custom_exc((Exception,), _show_briefly)


def _is_news(record: logging.LogRecord) -> bool:
    return _is_debugging() or api_server.say_once_that_it_is_lost(record)


def _brief(record: logging.LogRecord) -> bool:
    """Shorten the traceback of a record, or drop it."""
    if _is_debugging():
        return True
    if getattr(record, SAID_BEFORE, False):
        return False
    error = record.exc_info[1] if record.exc_info else None
    if error is not None:
        record.exc_text = shortened(error)
        if isinstance(error, ClustrixError) and "Traceback (most" not in record.exc_text:
            record.exc_info = record.exc_text = None  # the record's message says the same
    return True


def _print_briefly(
    kind: type[BaseException], error: BaseException, frames: TracebackType | None
) -> None:
    remedy = api_server.remedy(error)
    if _is_debugging() or not is_of_machinery(error):
        sys.__excepthook__(kind, error, frames)
    else:
        print(shortened(error), file=sys.stderr)
    if remedy:
        print(remedy, file=sys.stderr)


def _show_briefly(
    shell: Any,
    kind: type[BaseException],
    error: BaseException,
    frames: TracebackType | None,
    tb_offset: int | None = None,
) -> None:
    """Have IPython show an exception, without the machinery."""
    if not _is_debugging() and is_of_machinery(error):
        mend(error)
    shell.showtraceback((kind, error, error.__traceback__), tb_offset=tb_offset)
    if remedy := api_server.remedy(error):
        print(remedy, file=sys.stderr)


def _is_debugging() -> bool:
    return logging.getLogger("prefect").isEnabledFor(logging.DEBUG)

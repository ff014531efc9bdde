"""One line at the foot of the terminal that says how far a flow's calls are."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from prefect.logging.handlers import PrefectConsoleHandler
from rich.live import Live
from rich.text import Text

# On a record: it says what the live line says of all calls, of one or at one time.
IN_LIVE_LINE = "clustrix_in_live_line"

_PER_SECOND = 2


class LiveLine:
    """The foot of the terminal, for all flow runs of this process that use it.

    Log lines go above it, and so does what is printed. On anything but a terminal, and at level
    DEBUG, there is none, and nothing is left out.
    """

    def __init__(self) -> None:
        self._texts: dict[object, Callable[[], str]] = {}
        self._live: Live | None = None
        self._handler: PrefectConsoleHandler | None = None
        self._lock = threading.Lock()

    def show(self, whose: object, text: Callable[[], str]) -> None:
        """Show this text, asked for anew some times a second, until `hide`."""
        with self._lock:
            self._texts[whose] = text
            if self._live is None:
                self._start()

    def hide(self, whose: object) -> None:
        """Show no text of this one any more."""
        with self._lock:
            self._texts.pop(whose, None)
            if not self._texts and self._live is not None:
                self._stop()

    def _start(self) -> None:
        handler = _console_handler()
        if handler is None:
            return
        live = Live(
            console=handler.console,
            get_renderable=self._rendered,
            refresh_per_second=_PER_SECOND,
            transient=True,
        )
        try:
            live.start()
        except Exception as error:  # somebody else has the foot of the terminal
            logging.getLogger(__name__).debug("There is no live line: %s", error)
            return
        handler.addFilter(_is_not_in_live_line)
        self._live, self._handler = live, handler

    def _stop(self) -> None:
        assert self._live is not None
        assert self._handler is not None
        self._handler.removeFilter(_is_not_in_live_line)
        self._live.stop()
        self._live = self._handler = None

    def _rendered(self) -> Text:
        lines = [text() for text in tuple(self._texts.values())]
        return Text("\n".join(lines), no_wrap=True, overflow="ellipsis")


live_line = LiveLine()


def _console_handler() -> PrefectConsoleHandler | None:
    if logging.getLogger("prefect").isEnabledFor(logging.DEBUG):
        return None
    for handler in logging.getLogger().handlers:
        if isinstance(handler, PrefectConsoleHandler):
            console = handler.console
            if console.is_terminal and not console.is_dumb_terminal and not console.is_jupyter:
                return handler
    return None


def _is_not_in_live_line(record: logging.LogRecord) -> bool:
    return not getattr(record, IN_LIVE_LINE, False)

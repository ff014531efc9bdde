"""Prefect's API: whether one is named, and what to do where none answers."""

from __future__ import annotations

import logging
import os
from typing import Any

import httpx
from prefect._internal.concurrency import services
from prefect.context import refresh_global_settings_context
from prefect.events.worker import EventsWorker
from prefect.settings import PREFECT_API_URL

from clustrix_prefect.errors import ConfigurationError

# The words for Prefect's leave to start a server for one process; its default profile gives it.
_TEMPORARY = ("PREFECT_SERVER_EPHEMERAL_ENABLED", "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE")

_HOW_TO_NAME_IT = (
    "Start a server with `prefect server start`, then name it with"
    " `prefect config set PREFECT_API_URL=http://127.0.0.1:4200/api` (or by the environment"
    f" variable). {_TEMPORARY[0]}=true lets Prefect start one for this process alone."
)
_HOW_TO_REACH_IT = (
    "Start the server (`prefect server start`), or correct PREFECT_API_URL"
    " (`prefect config view` shows it)."
)

_LOST = "The Prefect API at {} does not answer. The calls go on, and their states do not reach it. "
_said_to_be_lost: set[str | None] = set()


def say_once_that_it_is_lost(record: logging.LogRecord) -> bool:
    """Let one record pass of those that say, for each state, that it does not reach the server.

    From then on no state is waited for as long as the first: at the end of a process that takes
    7 s for each, and there are three or four for each task run. What did not reach the server is
    sent again as soon as there is one.
    """
    said = str(record.msg)
    is_new = said.startswith("Unable to connect to")
    if not is_new and not (said.startswith("Service %r failed") and _names_states(record)):
        return True
    for service in tuple(getattr(services, "_active_services", ())):
        client: Any = getattr(service, "_client", None)
        if isinstance(service, EventsWorker) and hasattr(client, "_reconnection_attempts"):
            client._reconnection_attempts = 1
    url = PREFECT_API_URL.value()
    if not is_new or url in _said_to_be_lost:
        return False
    _said_to_be_lost.add(url)
    record.msg, record.args = _LOST.format(url) + _HOW_TO_REACH_IT, ()
    return True


def _names_states(record: logging.LogRecord) -> bool:
    return isinstance(record.args, tuple) and EventsWorker.__name__ in record.args


def refuse_unnamed() -> None:
    """Refuse to look for saved blocks where no server is named.

    Raises:
        ConfigurationError: PREFECT_API_URL is not set, and nobody asked for a temporary server.
    """
    if _is_unnamed():
        raise ConfigurationError("PREFECT_API_URL is not set.", _HOW_TO_NAME_IT)


def start_no_other() -> None:
    """Have Prefect say that no server is named, instead of starting one for this process.

    That takes 7 to 18 s, after which the blocks are missing that another server has.
    """
    if _is_unnamed():
        os.environ[_TEMPORARY[0]] = "false"
        refresh_global_settings_context()


def _is_unnamed() -> bool:
    asked_for = any(os.environ.get(name, "").lower() in ("1", "true", "yes") for name in _TEMPORARY)
    return not PREFECT_API_URL.value() and not asked_for


def cannot_be_asked(what: str, error: httpx.HTTPError) -> ConfigurationError:
    """Return what is said where the API cannot be asked for something."""
    return ConfigurationError(
        f"The Prefect API at {PREFECT_API_URL.value()} cannot be asked for {what}: {error}.",
        _HOW_TO_REACH_IT,
    )


def remedy(error: BaseException) -> str:
    """What to do about an exception of Prefect's; empty if it is not that the API is away."""
    if isinstance(error, ValueError) and str(error).startswith("No Prefect API URL provided"):
        return f"PREFECT_API_URL is not set. {_HOW_TO_NAME_IT}"
    if isinstance(error, RuntimeError) and str(error).startswith("Failed to reach API at"):
        return _HOW_TO_REACH_IT
    if isinstance(error, httpx.TransportError):
        url = PREFECT_API_URL.value()
        try:
            asked = str(error.request.url)
        except RuntimeError:  # it does not say
            return ""
        if url and asked.startswith(url):
            return f"The Prefect API at {url} does not answer. {_HOW_TO_REACH_IT}"
    return ""

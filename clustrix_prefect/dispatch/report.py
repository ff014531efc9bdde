"""What a flow run's page shows of its calls: progress, a table of all, a page for each failure."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate

from clustrix_prefect.dispatch.call import Call, CallState
from clustrix_prefect.dispatch.failure_page import failure_page, first_line, index_words
from clustrix_prefect.display.markdown import escape, utc
from clustrix_prefect.far_side.wire.protocol import Diagnosis

logger = logging.getLogger("prefect.clustrix")

# Pages for failed calls in one flow run; the table names the rest.
MOST_FAILURE_PAGES = 50
_LONGEST_WHY = 60
# Prefect's client asks an API that does not answer for half a minute: not for every page.
_AWAY_SECONDS = 60.0


class Report:
    """The artifacts of one flow run on one cluster.

    Args:
        client: Prefect's API.
        flow_run_id: Whose artifacts they are.
        cluster: The cluster's description, for people.
    """

    def __init__(self, client: SyncPrefectClient, flow_run_id: UUID, cluster: str) -> None:
        self._client = client
        self._flow_run_id = flow_run_id
        self._cluster = cluster
        self._progress_id: UUID | None = None
        self._failures = 0
        self._away_since = -_AWAY_SECONDS
        self._lock = threading.Lock()

    def progress(self, counts: Counter[CallState]) -> None:
        """Show how far the calls are."""
        total = sum(counts.values())
        over = sum(count for state, count in counts.items() if state.is_final)
        percent = 100.0 * over / total if total else 0.0
        text = f"{self._cluster}: {describe(counts)}"

        def show() -> None:
            if self._progress_id is None:
                self._progress_id = self._create("progress", "cluster-progress", percent, text)
            else:
                self._client.update_artifact(
                    self._progress_id, ArtifactUpdate(data=percent, description=escape(text))
                )

        self._asked(show, "The progress could not be shown")

    def wants_failure(self) -> bool:
        """Count one failed call more, and return whether it gets a page."""
        with self._lock:
            self._failures += 1
            return self._failures <= MOST_FAILURE_PAGES

    def failure(self, call: Call, found: Diagnosis) -> None:
        """A page on a failed call."""

        def show() -> None:
            self._create(
                "markdown",
                "cluster-call-failed",
                failure_page(call, found),
                f"Why {call.task_run_name} failed",
                task_run_id=UUID(call.task_run_id),
            )

        self._asked(show, "The failure could not be shown")

    def table(self, calls: Sequence[Call]) -> None:
        """One row for each call, failures first."""
        if not calls:
            return
        order = {CallState.FAILED: 0, CallState.CANCELLED: 1}
        rows = [row(call) for call in sorted(calls, key=lambda call: order.get(call.state, 2))]
        failed = sum(call.state is CallState.FAILED for call in calls)
        text = (
            f"{self._cluster}: {failed} of {len(calls)} calls failed."
            if failed
            else f"{self._cluster}: all {len(calls)} calls done."
            if all(call.state is CallState.DONE for call in calls)
            else f"{self._cluster}: {describe(Counter(call.state for call in calls))}."
        )

        def store() -> None:
            self._create("table", "cluster-calls", json.dumps(rows), text)

        self._asked(store, "The table of calls could not be stored", logging.WARNING)

    def _asked(self, ask: Callable[[], None], what: str, level: int = logging.DEBUG) -> None:
        """Ask the API for something, unless it did not answer a moment ago.

        A report must not fail the run that it reports on, nor hold it up.
        """
        if time.monotonic() - self._away_since < _AWAY_SECONDS:
            return
        try:
            ask()
        except Exception as error:
            if isinstance(error, httpx.TransportError):
                self._away_since = time.monotonic()
            logger.log(level, "%s: %s", what, error)

    def _create(
        self, kind: str, key: str, data: Any, text: str, task_run_id: UUID | None = None
    ) -> UUID:
        artifact = self._client.create_artifact(
            ArtifactCreate(
                key=key,
                type=kind,
                data=data,
                description=escape(text),  # it is markdown, too
                flow_run_id=self._flow_run_id,
                **({"task_run_id": task_run_id} if task_run_id else {}),
            )
        )
        assert artifact.id is not None
        return artifact.id


def describe(counts: Counter[CallState]) -> str:
    """Return the counts in words: "12 queued, 4 running, 84 done, 0 failed"."""
    shown = [CallState.QUEUED, CallState.RUNNING, CallState.DONE, CallState.FAILED]
    if counts[CallState.CANCELLED]:
        shown.append(CallState.CANCELLED)
    return ", ".join(f"{counts[state]} {state.value}" for state in shown)


def row(call: Call) -> dict[str, str]:
    """Return a call as a row of the table; every cell is text, since floats would show all digits.

    The page shows cells as markdown: none of them means anything there, wherever it is from.

    What a person looks for comes first: the page shows as many columns as fit, and scrolls.
    """
    exit_code = call.attempt.exit_code
    if exit_code == 0 and call.state is not CallState.DONE:
        exit_code = None  # the worker's, and not what failed
    cells = {
        "state": call.state.value,
        "call": call.task_run_name,
        "why": _why(call.failure),
        "map index": index_words(call),
        "job": call.attempt.job_id or "",
        "node": call.attempt.node or "",
        "ran (s)": _seconds(call.attempt.started_at, call.attempt.ended_at),
        "queued (s)": _seconds(call.submitted_at, call.attempt.started_at),
        "exit code": "" if exit_code is None else str(exit_code),
        "peak memory (MiB)": f"{call.attempt.peak_memory / 2**20:.1f}"
        if call.attempt.peak_memory
        else "",
        "resubmitted": str(call.requeues or ""),
        "pid": str(call.attempt.pid or ""),
        "started (UTC)": _utc(call.attempt.started_at),
    }
    return {name: text if _is_number(text) else escape(text) for name, text in cells.items()}


def _is_number(text: str) -> bool:
    """Return whether it is a number, or that of a job of an array, "42_7"."""
    return text.replace("_", "").replace(".", "").isdecimal()


def _why(error: BaseException | None) -> str:
    """Short enough for the columns after it to be seen; the failure's page has all of it."""
    if error is None:
        return ""
    text = f"{type(error).__name__}: {first_line(error)}"
    return text if len(text) <= _LONGEST_WHY else f"{text[:_LONGEST_WHY]}…"


def _seconds(start: float | None, end: float | None) -> str:
    return f"{max(0.0, end - start):.2f}" if start is not None and end is not None else ""


def _utc(at: float | None) -> str:
    return "" if at is None else utc(at)

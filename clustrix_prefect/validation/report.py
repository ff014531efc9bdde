"""What a validation shows: a verdict in the first line, failures first, earlier runs last."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from prefect import get_run_logger, runtime
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import ArtifactCreate
from prefect.client.schemas.objects import Artifact, State
from prefect.settings import PREFECT_UI_URL
from prefect.states import Completed, Failed

from clustrix_prefect.display.markdown import cell, escape, prose, prose_cell, table, utc
from clustrix_prefect.validation.check import Check

_RECORD = "validation"
_MOST_TOLD = 10
_MOST_RUNS = 30
_SHOWN_RUNS = 10


def conclude(
    what: str, checks: Sequence[Check], *, key: str, more: Sequence[str] = (), **facts: Any
) -> State[None]:
    """Store the page of a validation, log the verdict, and end its flow run with it.

    Args:
        what: What was validated, as the page's title.
        checks: What came of it.
        key: The artifact's key.
        more: Further lines of the page, as markdown.
        facts: What later runs want to know, as JSON can hold it.
    """
    verdict = verdict_on(checks)
    failed = [check for check in checks if not check.is_ok]
    log = get_run_logger()
    with get_client(sync_client=True) as client:
        past = past_records(client, key)
        record = {"at": now(), "checks": len(checks), "failures": len(failed), **facts}
        page = page_of(verdict, checks, [*past, record], more)
        create_page(client, key, page, what, record)
    for check in failed:
        log.error("%s", check)
    if failed:
        log.error("%s", verdict)
        told = [f"- {check}" for check in failed[:_MOST_TOLD]]
        left = [f"- and {len(failed) - _MOST_TOLD} more"] * (len(failed) > _MOST_TOLD)
        return Failed(message="\n".join([verdict, *told, *left]))
    log.info("%s", verdict)
    return Completed(message=verdict)


def verdict_on(checks: Sequence[Check]) -> str:
    """Return all of it in one line."""
    failed = sum(not check.is_ok for check in checks)
    left_out = sum(bool(check.left_out) for check in checks)
    clusters = len({check.cluster for check in checks if not check.left_out})
    total = number(len(checks) - left_out, "check")
    where = f"on {number(clusters, 'cluster')}"
    beside = f"; {left_out} left out" if left_out else ""
    if failed:
        return f"Failed: {failed} of {total} {where}{beside}."
    return f"Passed: {total} {where}{beside}."


def page_of(
    verdict: str,
    checks: Sequence[Check],
    records: Sequence[dict[str, Any]],
    more: Sequence[str] = (),
) -> str:
    """Return the page in the UI, as markdown."""
    failed = [check for check in checks if not check.is_ok]
    lines = [f"**{escape(verdict)}** {now()}"]
    wanting = [*failed, *(check for check in checks if check.is_ok and check.warning)]
    if wanting:
        lines += ["", "### What to do", ""]
        lines += [
            f"- **{escape(f'{check.cluster}, {check.name}')}**: "
            f"{prose(check.problem or check.warning)} {prose(check.remedy)}".rstrip()
            for check in wanting
        ]
    lines += ["", *more] if more else []
    order = sorted(checks, key=lambda check: (check.is_ok, not check.warning))
    timed = any(check.seconds is not None for check in checks)
    header = ["result", "cluster", "check", *(["took:"] if timed else []), "found"]
    lines += ["", "### Each check", "", *table(header, (_row(check, timed) for check in order))]
    if len(records) > 1:
        lines += ["", "### Earlier runs", ""]
        lines += table(
            ["when (UTC)", "checks:", "failures:"],
            (
                [record["at"], str(record["checks"]), str(record["failures"])]
                for record in reversed(records[-_SHOWN_RUNS - 1 : -1])
            ),
        )
    return "\n".join(lines)


def _row(check: Check, timed: bool) -> list[str]:
    result = "failed" if check.problem else "left out" if check.left_out else "ok"
    result = "warning" if check.warning and check.is_ok else result
    texts = (check.value, check.problem, check.warning, check.left_out)
    told = " ".join(text for text in texts if text)
    took = [took_words(check.seconds)] if timed else []
    return [result, escape(check.cluster), cell(check.name), *took, prose_cell(told)]


def took_words(seconds: float | None) -> str:
    """Return a duration with its unit."""
    if seconds is None:
        return ""
    return f"{seconds * 1000:.1f} ms" if seconds < 1 else f"{seconds:.1f} s"


def amount_words(size: float) -> str:
    """Return an amount of bytes with its unit."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if size == int(size) else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def now() -> str:
    """Return the time as ISO 8601 in UTC."""
    return utc(time.time())


def number(count: int, thing: str) -> str:
    """Return so many things, in words."""
    return f"{count} {thing}{'' if count == 1 else 's'}"


def link_to_run(text: str, flow_run_id: UUID | str | None) -> str:
    """Return a flow run's page, if it is known where the UI is; else the text alone."""
    ui = PREFECT_UI_URL.value()
    if not ui or flow_run_id is None:
        return escape(text)
    return f"[{escape(text)}]({ui.rstrip('/')}/runs/flow-run/{flow_run_id})"


def past_records(client: SyncPrefectClient, key: str) -> list[dict[str, Any]]:
    """Return what earlier runs wrote down, oldest first."""
    # By hand: `read_artifacts` sends nulls for what is left out, which the server refuses.
    wanted = {"artifacts": {"key": {"any_": [key]}}, "sort": "CREATED_DESC", "limit": _MOST_RUNS}
    answer = client.request("POST", "/artifacts/filter", json=wanted)
    found: list[dict[str, Any]] = []
    for artifact in reversed(Artifact.model_validate_list(answer.json())):
        try:
            record = json.loads((artifact.metadata_ or {})[_RECORD])
            found.append({"at": record["at"], **record})
        except (KeyError, TypeError, ValueError):  # not of this version
            continue
    return found


def create_page(
    client: SyncPrefectClient, key: str, page: str, title: str, record: dict[str, Any]
) -> None:
    """Store a page as this flow run's artifact, with what later runs want to know of it."""
    flow_run_id = runtime.flow_run.id
    client.create_artifact(
        ArtifactCreate(
            key=key,
            type="markdown",
            data=page,
            description=title,
            metadata_={_RECORD: json.dumps(record)},
            flow_run_id=UUID(flow_run_id) if flow_run_id else None,
        )
    )

"""All validations on one page: what is green, what is not, since when."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from prefect.client.schemas.objects import State

from clustrix_prefect.display.markdown import escape, prose_cell, table
from clustrix_prefect.errors import message_of
from clustrix_prefect.validation.report import link_to_run, now, number, took_words


@dataclass(frozen=True)
class ValidationOutcome:
    """What came of one validation.

    Attributes:
        name: Which.
        is_green: Whether nothing was wrong.
        since: Since when that has been so, without a break.
        told: Its verdict, in one line.
        seconds: How long it took.
        run: Its flow run.
    """

    name: str
    is_green: bool
    since: str
    told: str
    seconds: float
    run: UUID | None = None


def outcome_of(
    name: str, validate: Callable[[], State[Any]], past: Sequence[Mapping[str, Any]]
) -> ValidationOutcome:
    """Run one validation; whatever it raises is an outcome too."""
    began, at = time.monotonic(), now()
    run: UUID | None = None
    try:
        state = validate()
    except Exception as error:
        is_green, told = False, f"It ended with {type(error).__name__}: {message_of(error)}"
    else:
        is_green = state.is_completed()
        told = (state.message or state.name or "").partition("\n")[0]
        run = state.state_details.flow_run_id
    since = _since(name, is_green, past) or at
    return ValidationOutcome(name, is_green, since, told, time.monotonic() - began, run)


def _since(name: str, is_green: bool, past: Sequence[Mapping[str, Any]]) -> str | None:
    """Since when it has been like this; None if it was not, or nobody looked."""
    for record in reversed(past):
        known = record.get("validations", {}).get(name)
        if known is not None:
            return str(known["since"]) if known["green"] == is_green else None
    return None


def record_of(
    outcomes: Sequence[ValidationOutcome], past: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Return what later runs want to know; of what was not validated now, what was known of it."""
    known: dict[str, Any] = {}
    for record in past:
        known.update(record.get("validations", {}))
    known.update({one.name: {"green": one.is_green, "since": one.since} for one in outcomes})
    return {"at": now(), "validations": known}


def verdict_on(outcomes: Sequence[ValidationOutcome], skipped: Sequence[str] = ()) -> str:
    """Sum up in one line what came of the validations, and which were left out."""
    failed = [one.name for one in outcomes if not one.is_green]
    total = number(len(outcomes), "validation")
    if failed:
        told = f"Failed: {len(failed)} of {total} ({', '.join(failed)})."
    else:
        told = f"Passed: all {total}."
    return f"{told} Left out: {', '.join(skipped)}." if skipped else told


def page_of(verdict: str, outcomes: Sequence[ValidationOutcome]) -> str:
    """Return the page in the UI, as markdown: what is not green comes first."""
    rows = [
        [
            "ok" if one.is_green else "failed",
            link_to_run(one.name, one.run),
            one.since,
            took_words(one.seconds),
            prose_cell(one.told),
        ]
        for one in sorted(outcomes, key=lambda one: one.is_green)
    ]
    lines = [f"**{escape(verdict)}** {now()}", ""]
    return "\n".join([*lines, *table(["state", "validation", "since", "took:", "verdict"], rows)])

"""One validation inside a flow run: ask, check, and show what came of it."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from decimal import Decimal
from typing import Any, cast
from uuid import UUID

from prefect import runtime, task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import ArtifactCreate
from prefect.events import emit_event
from prefect.exceptions import ObjectNotFound
from prefect.futures import PrefectFuture

from clustrix_prefect.display.markdown import utc
from clustrix_prefect.errors import ConfigurationError
from clustrix_prefect.pricing import asking
from clustrix_prefect.pricing.asking import Question
from clustrix_prefect.pricing.blocks import PricingBaseline, PricingCredentials
from clustrix_prefect.pricing.checks import Asked, Finding
from clustrix_prefect.pricing.checks.comparison import counts_of
from clustrix_prefect.pricing.checks.finding import jsonable
from clustrix_prefect.pricing.fetch import PriceList
from clustrix_prefect.pricing.history import Record, trend
from clustrix_prefect.pricing.price import PriceKey
from clustrix_prefect.pricing.report import MOST_FINDINGS, Verdict, summary, table
from clustrix_prefect.pricing.thresholds import DEFAULT, Thresholds

SUMMARY_KEY = "prices"
EVENT = "clustrix-prefect.prices.failed"


# Nothing of prices is stored: they live as long as the flow run.
@task(task_run_name="{question.provider}", cache_policy=NO_CACHE, persist_result=False)
def ask_provider(question: Question) -> PriceList:
    """Return one provider's prices."""
    return asking.ask(question)


@task(
    task_run_name="{question.provider}, second source",
    cache_policy=NO_CACHE,
    persist_result=False,
)
def ask_second_source(question: Question) -> PriceList:
    """Return the same prices from another source."""
    return asking.ask_second_source(question)


def ask_all(questions: Sequence[Question], *, second_source: bool = False) -> list[Asked]:
    """Ask all at once; that one fails is an answer too, and stops no other."""
    first = [ask_provider.submit(question) for question in questions]
    second = [
        ask_second_source.submit(question)
        if second_source and asking.has_second_source(question)
        else None
        for question in questions
    ]
    return [
        Asked(
            provider=question.provider,
            answer=_answer(answer),
            second=None if other is None else _answer(other),
        )
        for question, answer, other in zip(questions, first, second, strict=True)
    ]


def _answer(future: PrefectFuture[PriceList]) -> PriceList | BaseException:
    return future.result(raise_on_failure=False)


def load_credentials(name: str | None) -> PricingCredentials | None:
    """Return the block with what the providers want to see."""
    if name is None:
        return None
    # _sync: without it, a coroutine comes back wherever a loop is running.
    loaded = PricingCredentials.load(name, _sync=True)  # type: ignore[call-arg]
    return cast("PricingCredentials", loaded)


def load_baseline(name: str) -> PricingBaseline | None:
    """Return the block of this name; `None` if nobody has approved prices under it."""
    try:
        loaded = PricingBaseline.load(name, _sync=True)  # type: ignore[call-arg]
    except ValueError as error:
        if isinstance(error.__cause__, ObjectNotFound):
            return None
        raise
    return cast("PricingBaseline", loaded)


def amounts_of(block: PricingBaseline | None) -> dict[PriceKey, Decimal] | None:
    """Return the approved amounts, if there are any."""
    return None if block is None else block.amounts()


def describe_baseline(block: PricingBaseline | None) -> str:
    """Return who approved which prices."""
    if block is None:
        return "No baseline: run approve_pricing_baseline to approve prices."
    day = block.approved_at.strftime("%Y-%m-%d")
    waivers = f", {len(block.waivers)} waivers" if block.waivers else ""
    return (
        f"Approved by {block.approver} on {day}: {block.reason} "
        f"({block.path}, sha256 {block.digest[:16]}{waivers})"
    )


def thresholds_with(changes: Mapping[str, Any] | None) -> Thresholds:
    """Return the usual limits, some of them replaced.

    Raises:
        ConfigurationError: There is no such limit.
    """
    changes = dict(changes or {})
    known = {field.name for field in fields(Thresholds)}
    for name in changes:
        if name not in known:
            raise ConfigurationError(
                f"There is no threshold {name!r}.", f"There are {', '.join(sorted(known))}."
            )
    if "currencies" in changes:
        changes["currencies"] = frozenset(changes["currencies"])
    if "required_types" in changes:
        changes["required_types"] = {**DEFAULT.required_types, **changes["required_types"]}
    return replace(DEFAULT, **changes)


def record_of(asked: Sequence[Asked], judged: Verdict) -> Record:
    """Return what later validations want to know of this one."""
    failed = {finding.provider for finding in judged.failures}
    lists = {one.provider: one.answer for one in asked if isinstance(one.answer, PriceList)}
    return Record(
        at=utc(time.time()),
        failures=len(judged.failures),
        warnings=len(judged.warnings),
        prices=sum(len(prices.prices) for prices in lists.values()),
        passed=tuple(name for name in lists if name not in failed),
        counts={name: counts_of(prices) for name, prices in lists.items()},
    )


def show(
    client: SyncPrefectClient,
    asked: Sequence[Asked],
    findings: Sequence[Finding],
    judged: Verdict,
    *,
    past: Sequence[Record],
    baseline: str,
    limits: Thresholds,
) -> None:
    """Store the summary and the tables, and tell of each failure with an event."""
    record = record_of(asked, judged)
    page = summary(asked, findings, baseline=baseline, image=trend([*past, record]))
    _create(client, "markdown", SUMMARY_KEY, page, judged.text, record.as_metadata())
    for one in asked:
        _create(
            client,
            "table",
            f"{SUMMARY_KEY}-{one.provider.replace('_', '-')}",
            json.dumps(table(one, findings, limits)),
            f"{one.provider}: what the checks say",
        )
    for finding in judged.failures:
        emit_event(
            EVENT,
            resource={
                "prefect.resource.id": f"clustrix-prefect.prices.{finding.provider}",
                "prefect.resource.name": finding.provider,
                "clustrix-prefect.check": finding.check,
            },
            payload=jsonable(finding, MOST_FINDINGS),
        )


def _create(
    client: SyncPrefectClient,
    kind: str,
    key: str,
    data: str,
    text: str,
    metadata: dict[str, str] | None = None,
) -> None:
    flow_run_id = runtime.flow_run.id
    client.create_artifact(
        ArtifactCreate(
            key=key,
            type=kind,
            data=data,
            description=text,
            metadata_=metadata,
            flow_run_id=UUID(flow_run_id) if flow_run_id else None,
        )
    )

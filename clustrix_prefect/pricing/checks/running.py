"""All checks on all providers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timezone
from decimal import Decimal

from clustrix_prefect.pricing.checks import comparison, rows, service, structure
from clustrix_prefect.pricing.checks.finding import Finding
from clustrix_prefect.pricing.checks.waivers import Waiver, waived
from clustrix_prefect.pricing.fetch import PriceList
from clustrix_prefect.pricing.price import PriceKey
from clustrix_prefect.pricing.thresholds import DEFAULT, Thresholds


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What came of asking one provider.

    Attributes:
        provider: Whom was asked.
        answer: Its prices, or why there are none.
        second: The same prices from another source, or why there are none; `None` if nobody
            asked for them.
    """

    provider: str
    answer: PriceList | BaseException
    second: PriceList | BaseException | None = None


def run_checks(
    asked: Sequence[Asked],
    *,
    thresholds: Thresholds = DEFAULT,
    baseline: Mapping[PriceKey, Decimal] | None = None,
    waivers: Sequence[Waiver] = (),
    previous: Mapping[str, comparison.Counts] | None = None,
    today: date | None = None,
) -> list[Finding]:
    """Return what there is to say of all providers' prices.

    Args:
        asked: What came of asking each.
        thresholds: What counts as wrong.
        baseline: The approved amounts.
        waivers: What need not be told.
        previous: For each provider, how many prices each region had in the last run that passed.
        today: For waivers; default: today (UTC).
    """
    today = today or datetime.now(timezone.utc).date()
    approved = _by_provider(baseline or {})
    findings: list[Finding] = []
    for one in asked:
        if isinstance(one.answer, BaseException):
            findings.append(service.failed(one.provider, one.answer))
            continue
        findings += _of_provider(
            one.answer,
            thresholds,
            approved.get(one.provider),
            (previous or {}).get(one.provider),
        )
        if isinstance(one.second, PriceList):
            findings.append(comparison.agreement(one.answer, one.second, thresholds))
        elif one.second is not None:
            failure = service.failed(one.provider, one.second)
            findings.append(
                Finding(
                    failure.level, "agreement", one.provider, f"second source {failure.message}"
                )
            )
    lists = [one.answer for one in asked if isinstance(one.answer, PriceList)]
    findings += structure.accelerator_spread(lists, thresholds)
    return [waived(finding, waivers, today) for finding in findings]


def _of_provider(
    prices: PriceList,
    limits: Thresholds,
    baseline: Mapping[PriceKey, Decimal] | None,
    previous: comparison.Counts | None,
) -> list[Finding]:
    keys = [price.key for price in prices.prices]
    return [
        service.authentication(prices.fetch),
        rows.schema(prices, limits),
        rows.one_price_per_key(prices, keys),
        rows.unit_and_currency(prices, limits),
        *rows.bounds(prices, limits),
        *structure.structure(prices, limits),
        comparison.coverage(prices, limits, previous, baseline),
        service.freshness(prices, limits),
        comparison.drift(prices, keys, limits, baseline),
        service.latency(prices.fetch, limits),
        service.quota(prices.fetch, limits),
    ]


def _by_provider(
    baseline: Mapping[PriceKey, Decimal],
) -> dict[str, dict[PriceKey, Decimal]]:
    found: dict[str, dict[PriceKey, Decimal]] = {}
    for key, amount in baseline.items():
        found.setdefault(key.provider, {})[key] = amount
    return found

"""Prices beside others that should be the same: earlier ones, approved ones, a second source."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal

from clustrix_prefect.pricing.checks.finding import (
    Evidence,
    Finding,
    Level,
    found,
    percent,
    plain,
)
from clustrix_prefect.pricing.fetch import PriceList
from clustrix_prefect.pricing.price import Commitment, PriceKey, PurchaseOption
from clustrix_prefect.pricing.thresholds import Thresholds

Counts = Mapping[str, int]
"""How many on-demand prices each region has; the region of those without one is ''."""


def counts_of(prices: PriceList) -> dict[str, int]:
    """Return how many on-demand prices each region has; what else is listed is up to who asks."""
    counts = Counter(
        price.region or ""
        for price in prices.prices
        if price.purchase_option is PurchaseOption.ON_DEMAND and price.commitment is Commitment.NONE
    )
    return dict(sorted(counts.items()))


def coverage(
    prices: PriceList,
    limits: Thresholds,
    previous: Counts | None,
    baseline: Mapping[PriceKey, Decimal] | None = None,
) -> Finding:
    """The regions that were asked for, the types that are sold there, and no fewer than last time.

    Args:
        prices: What the provider gave.
        limits: What counts as wrong.
        previous: The counts of the last run that passed, if there was one.
        baseline: The approved amounts of this provider: which types are sold in which region.
    """
    fetch = prices.fetch
    provider = fetch.provider
    counts = counts_of(prices)
    evidence = [
        Evidence(text="the region has no prices", region=region)
        for region in fetch.regions
        if region not in counts
    ]
    types = {price.instance_type for price in prices.prices}
    evidence += _missing_types(prices, limits, baseline or {})
    compared = 0
    for region, before in (previous or {}).items():
        now = counts.get(region, 0)
        if fetch.regions and region not in fetch.regions:
            continue
        compared += 1
        if now < before * (1 - limits.lost_share) and now:
            evidence.append(
                Evidence(text=f"{now} prices, {before} in the last run that passed", region=region)
            )
        elif not now and region not in fetch.regions:
            evidence.append(Evidence(text="all prices are gone", region=region or None))
    there = f"{len(prices.prices)} prices, {len(types)} types, {len(counts)} regions"
    return found(
        "coverage",
        provider,
        evidence,
        bad=f"things are missing ({there})",
        good=there if compared else f"{there}; no run that passed to compare with",
    )


def _missing_types(
    prices: PriceList, limits: Thresholds, baseline: Mapping[PriceKey, Decimal]
) -> Iterator[Evidence]:
    """Yield the types that everybody sells, and that are not there where they were approved."""
    provider = prices.fetch.provider
    required = limits.required_types.get(provider, ())
    if not required:
        return
    there = {
        (price.region, price.instance_type)
        for price in prices.prices
        if price.instance_type in required
    }
    approved: dict[str | None, set[str]] = {}
    for key in baseline:
        approved.setdefault(key.region, set()).add(key.instance_type)
    asked: Iterable[str | None] = prices.fetch.regions or {p.region for p in prices.prices}
    for region in asked:
        for name in required:
            if name in approved.get(region, ()) and (region, name) not in there:
                yield Evidence(text="the type is not there", region=region, instance_type=name)
    home = limits.home_regions.get(provider)
    if home not in approved and (home is None or home in asked):
        types = {name for _, name in there}
        for name in required:
            if name not in types:
                yield Evidence(text="the type is not there", instance_type=name)


def drift(
    prices: PriceList,
    keys: Sequence[PriceKey],
    limits: Thresholds,
    baseline: Mapping[PriceKey, Decimal] | None,
) -> Finding:
    """Return every price beside the one that somebody approved. Spot prices have none: they move.

    Args:
        prices: What the provider gave.
        keys: Their keys, in the same order.
        limits: What counts as wrong.
        baseline: The approved amounts of this provider, if there are any.
    """
    provider = prices.fetch.provider
    if not baseline:
        return Finding(
            Level.WARNING, "drift", provider, "no baseline: nobody has approved prices to compare"
        )
    changed, moved = [], []
    compared = new = 0
    seen: set[PriceKey] = set()
    for key, price in zip(keys, prices.prices, strict=True):
        if key.purchase_option is PurchaseOption.SPOT:
            continue
        approved = baseline.get(key)
        if approved is None:
            new += 1
            continue
        seen.add(key)
        compared += 1
        if approved == price.hourly:
            continue
        share = float(price.hourly / approved) - 1 if approved else 1.0
        text = f"{plain(approved)} was approved, now {plain(price.hourly)} ({percent(share)})"
        if abs(share) > limits.drift_failure:
            changed.append(Evidence.of(price, text))
        elif abs(share) > limits.drift_warning:
            moved.append(Evidence.of(price, text))
    regions = set(prices.fetch.regions)
    gone = [
        Evidence.of_key(key, approved, f"approved at {plain(approved)}, and not there any more")
        for key, approved in baseline.items()
        if key not in seen and (not regions or key.region in regions)
    ]
    if changed:
        return found(
            "drift", provider, [*changed, *moved, *gone], bad="prices are not as approved", good=""
        )
    return found(
        "drift",
        provider,
        [*moved, *gone],
        bad="prices moved a little, or are gone",
        good=f"{compared} prices as approved, {new} new",
        level=Level.WARNING,
    )


def agreement(first: PriceList, second: PriceList, limits: Thresholds) -> Finding:
    """Two sources of the same prices."""
    provider = first.fetch.provider
    other = {price.key: price for price in second.prices}
    regions = {price.region for price in second.prices}
    evidence = []
    compared = missing = 0
    for price in first.prices:
        if price.region not in regions or price.purchase_option is PurchaseOption.SPOT:
            continue
        twin = other.get(price.key)
        if twin is None:
            missing += 1
            continue
        compared += 1
        if price.hourly == twin.hourly:
            continue
        least = min(price.hourly, twin.hourly)
        share = float(abs(price.hourly - twin.hourly) / least) if least > 0 else 1.0
        if share > limits.agreement_tolerance:
            evidence.append(
                Evidence.of(
                    price, f"{plain(price.hourly)}, and {plain(twin.hourly)} in the other source"
                )
            )
    if not compared or missing > limits.agreement_missing * (compared + missing):
        evidence.append(Evidence(text=f"{missing} prices are not in the other source"))
    return found(
        "agreement",
        provider,
        evidence,
        bad="prices differ between two sources",
        good=f"{compared} prices are the same in two sources",
    )

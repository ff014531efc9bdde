"""Each price by itself: is it one, the only one of its key, in dollars, and possible?"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from decimal import Decimal

from clustrix_prefect.pricing.checks.finding import Evidence, Finding, Level, found, plain
from clustrix_prefect.pricing.documents import NO_PRICE
from clustrix_prefect.pricing.fetch import PriceList
from clustrix_prefect.pricing.machine_sizes import is_accelerated, size_units
from clustrix_prefect.pricing.price import Commitment, Price, PriceKey, PurchaseOption
from clustrix_prefect.pricing.thresholds import NOT_YET_PRICED, Thresholds

_UNIT = re.compile(r"\bunit\b")
_CURRENCY = re.compile(r"[A-Z]{3}\Z")
# Rows that the source itself says are not in force, or that are machines we do not list, are
# rightly left out; a row that is one of ours and cannot be read is not.
_UNREADABLE = re.compile(r"missing|not .*as documented|no instance type|no region|no zone")


def schema(prices: PriceList, limits: Thresholds) -> Finding:
    """Every field has its type, no row was left without a price, nothing could not be read."""
    evidence = [
        Evidence(text=f"{count} rows: {reason}")
        for reason, count in prices.fetch.skipped.items()
        if reason == NO_PRICE or _UNREADABLE.search(reason)
    ]
    provider = prices.fetch.provider
    for price in prices.prices:
        if problem := _problem(price, provider):
            evidence.append(Evidence(text=problem, instance_type=str(price.instance_type)[:80]))
    return found(
        "schema",
        provider,
        evidence,
        bad="rows are no prices as documented",
        good="every row is as documented",
    )


def _problem(price: Price, provider: str) -> str:
    hourly = price.hourly
    if not isinstance(hourly, Decimal) or not hourly.is_finite():
        return "the amount is no decimal number"
    if price.provider != provider:
        return f"the price is {price.provider}'s"
    if not isinstance(price.instance_type, str) or not price.instance_type:
        return "it has no name"
    if price.region is not None and not price.region:
        return "its region is an empty text"
    if not isinstance(price.fetched_at, datetime) or price.fetched_at.tzinfo is None:
        return "nobody knows when it was read"
    for name, number in (("processors", price.vcpus), ("memory", price.memory_gib)):
        if number is not None and not number > 0:
            return f"its {name}: {number}"
    if price.gpu_count is not None and price.gpu_count < 0:
        return f"its accelerators: {price.gpu_count}"
    return ""


def one_price_per_key(prices: PriceList, keys: Sequence[PriceKey]) -> Finding:
    """No two prices of the same thing; a row that comes twice the same is a warning."""
    first: dict[PriceKey, Price] = {}
    contrary, copies = [], []
    for key, price in zip(keys, prices.prices, strict=True):
        other = first.setdefault(key, price)
        if other is price:
            continue
        if other.hourly == price.hourly:
            copies.append(Evidence.of(price, "it is listed twice, with one amount"))
        else:
            both = f"{plain(other.hourly)} and {plain(price.hourly)}"
            contrary.append(Evidence.of(price, f"it has two prices, {both}"))
    return found(
        "keys",
        prices.fetch.provider,
        contrary or copies,
        bad="machines have more than one price" if contrary else "rows are there twice",
        good=f"one price for each of {len(first)} keys",
        level=Level.FAILURE if contrary else Level.WARNING,
    )


def unit_and_currency(prices: PriceList, limits: Thresholds) -> Finding:
    """Prices by the hour in the currency that was asked for, and in no other."""
    evidence = [
        Evidence(text=f"{count} rows: {reason}")
        for reason, count in prices.fetch.skipped.items()
        if _UNIT.search(reason)
    ]
    for price in prices.prices:
        allowed = _currencies_of(price, prices.fetch.currency, limits)
        if price.currency not in allowed or not _CURRENCY.match(price.currency):
            wanted = ", ".join(sorted(allowed))
            evidence.append(
                Evidence.of(price, f"the currency is {price.currency[:10]!r}, not {wanted}")
            )
    return found(
        "unit",
        prices.fetch.provider,
        evidence,
        bad="rows are in another unit or currency",
        good="dollars an hour" if limits.currencies == {"USD"} else "by the hour",
    )


def _currencies_of(price: Price, asked: str | None, limits: Thresholds) -> frozenset[str]:
    if asked is not None and asked != "USD":
        return frozenset({asked})
    for (provider, beginning), currency in limits.regional_currencies.items():
        if price.provider == provider and (price.region or "").startswith(beginning):
            return frozenset({currency})
    return limits.currencies


def bounds(prices: PriceList, limits: Thresholds) -> list[Finding]:
    """Nothing is free that is not known to be, and nothing cheaper or dearer than possible.

    Whole series at 0, of those who list such before they sell them, are a warning; so are
    currencies of which nobody said what is possible in them.
    """
    provider = prices.fetch.provider
    placeholders = _placeholders(prices.prices)
    wrong, doubtful = [], []
    unknown: dict[str, int] = {}
    for price in prices.prices:
        if price.hourly == 0 and _series_key(price) in placeholders:
            doubtful.append(Evidence.of(price, "not priced yet: its whole series is at 0 there"))
            continue
        rate = limits.to_the_dollar.get(price.currency)
        if rate is None and price.hourly > 0:
            unknown[price.currency] = unknown.get(price.currency, 0) + 1
            continue
        wrong += [Evidence.of(price, text) for text in _out_of_bounds(price, limits, rate or 1.0)]
    doubtful += [
        Evidence(text=f"{count} prices in {currency[:10]!r}, for which there are no bounds")
        for currency, count in unknown.items()
    ]
    findings = []
    if doubtful:
        findings.append(
            found(
                "bounds",
                provider,
                doubtful,
                bad="things cannot be judged",
                good="",
                level=Level.WARNING,
            )
        )
    if wrong or not doubtful:
        findings.append(
            found(
                "bounds",
                provider,
                wrong,
                bad="prices are not possible",
                good="every price is possible",
            )
        )
    return findings


def _placeholders(prices: Sequence[Price]) -> set[tuple[object, ...]]:
    """Return the series that have no price above 0 in a region, where their provider lists such."""
    sizes: dict[tuple[object, ...], set[str]] = {}
    priced: set[tuple[object, ...]] = set()
    for price in prices:
        if price.provider in NOT_YET_PRICED:
            key = _series_key(price)
            sizes.setdefault(key, set()).add(price.instance_type)
            if price.hourly != 0:
                priced.add(key)
    return {key for key, names in sizes.items() if len(names) > 1 and key not in priced}


def _series_key(price: Price) -> tuple[object, ...]:
    # As in Standard_M128bds_3_v4: neither the size nor what is between it and the version.
    series = _SIZES.sub("", price.instance_type)
    return (price.region, series, price.operating_system, price.purchase_option, price.commitment)


_SIZES = re.compile(r"(?<=[A-Z])\d+(-\d+)?|(?<=[a-z])_\d+(?=_v\d)|i(?=[a-z]*_v\d)")


def _out_of_bounds(price: Price, limits: Thresholds, rate: float) -> Iterator[str]:
    """Yield what is impossible about a price; `rate` of its currency are a dollar."""
    hourly = float(price.hourly) / rate
    if hourly <= 0:
        free = (price.provider, price.instance_type, price.licence) in limits.free
        if hourly < 0 or not free:
            yield "the price is negative" if hourly < 0 else "the price is 0"
        return
    if hourly > limits.most_per_machine:
        yield f"{plain(price.hourly)} an hour"
        return
    spot = price.purchase_option is PurchaseOption.SPOT
    listed = price.commitment is Commitment.NONE
    if price.gpu_count:
        each = hourly / float(price.gpu_count)
        least = limits.least_per_accelerator_spot if spot else limits.least_per_accelerator
        if (each < least and listed) or each > limits.most_per_accelerator:
            yield f"{plain(price.hourly)} an hour is {each * rate:.4g} for an accelerator"
            return
    vcpus = float(price.vcpus) if price.vcpus is not None else size_units(price, "processors")
    if not vcpus:
        return
    each = hourly / vcpus
    least = limits.least_per_vcpu_spot if spot else limits.least_per_vcpu
    most = (
        limits.most_per_vcpu_accelerated
        if price.gpu_count or is_accelerated(price)
        else limits.most_per_vcpu
    )
    if (each < least and listed) or each > most:
        yield f"{plain(price.hourly)} an hour is {each * rate:.4g} for a processor"

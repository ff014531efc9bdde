"""Prices among each other: families, spot beside on-demand, accelerators across providers."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from functools import lru_cache
from statistics import median, median_low

from clustrix_prefect.pricing.checks.finding import (
    Evidence,
    Finding,
    found,
    percent,
    plain,
)
from clustrix_prefect.pricing.fetch import PriceList
from clustrix_prefect.pricing.machine_sizes import family_and_size
from clustrix_prefect.pricing.price import Commitment, Price, PurchaseOption
from clustrix_prefect.pricing.thresholds import Thresholds


def structure(prices: PriceList, limits: Thresholds) -> Finding:
    """Spot below on-demand; sizes of a family in proportion; accelerators too.

    What is priced at 0 takes no part: that is a finding of the bounds.
    """
    evidence = [
        *_spot_above_on_demand(prices.prices, limits),
        *_out_of_proportion(prices.prices, limits),
        *_accelerators_out_of_proportion(prices.prices, limits),
    ]
    return found(
        "structure",
        prices.fetch.provider,
        evidence,
        bad="prices do not fit those beside them",
        good="families are in proportion, and spot is below on-demand",
    )


def _spot_above_on_demand(prices: Sequence[Price], limits: Thresholds) -> Iterator[Evidence]:
    spots = [
        price
        for price in prices
        if price.purchase_option is PurchaseOption.SPOT and price.commitment is Commitment.NONE
    ]
    if not spots:
        return
    on_demand = {
        _machine(price): price.hourly
        for price in prices
        if price.purchase_option is PurchaseOption.ON_DEMAND and price.commitment is Commitment.NONE
    }
    tolerated = Decimal(1 + limits.spot_tolerance)
    for price in spots:
        full = on_demand.get(_machine(price))
        if full and price.hourly > full * tolerated:
            yield Evidence.of(price, f"spot {plain(price.hourly)} is above on-demand {plain(full)}")


def _machine(price: Price) -> tuple[str | None, ...]:
    # Spot has zones where on-demand has none, and does not say its tenancy.
    return (
        price.region,
        price.instance_type,
        price.operating_system,
        price.licence,
        price.currency,
    )


def _out_of_proportion(prices: Sequence[Price], limits: Thresholds) -> Iterator[Evidence]:
    families: dict[tuple[str | None, ...], list[tuple[float, Price]]] = defaultdict(list)
    for price in prices:
        if not _is_listed(price) or price.gpu_count:
            continue
        size = family_and_size(price.provider, price.instance_type)
        if size is not None:
            group: tuple[str | None, ...] = (
                price.region,
                size[0],
                _shape(price),
                price.operating_system,
                price.licence,
                price.tenancy,
                price.currency,
            )
            families[group].append((float(price.hourly) / size[1], price))
    for group, members in families.items():
        if len({price.instance_type for _, price in members}) < limits.least_family:
            continue
        usual = median_low(each for each, _ in members)
        for each, price in members:
            share = each / usual - 1
            if abs(share) > limits.family_tolerance:
                yield Evidence.of(
                    price, f"{plain(price.hourly)} is {percent(share)} off its family {group[1]}"
                )


def _shape(price: Price) -> str | None:
    # Google prices memory by itself, and its largest sizes have less of it for each processor.
    # Elsewhere the smallest of a family have more, or less, at the family's price.
    if price.provider != "gcp" or not price.vcpus or price.memory_gib is None:
        return None
    return f"{price.memory_gib / price.vcpus:.3f}"


def _accelerators_out_of_proportion(
    prices: Sequence[Price], limits: Thresholds
) -> Iterator[Evidence]:
    """Twice the same machine, accelerators and all, costs twice as much, or a little less."""
    groups: dict[tuple[object, ...], list[tuple[int, float, Price]]] = defaultdict(list)
    for price in prices:
        if price.gpu_count and price.vcpus and _is_listed(price):
            group = (
                price.region,
                price.family or _family_of_accelerator(price),
                price.gpu_model,
                price.gpu_memory_gib,
                price.vcpus / price.gpu_count,
                price.operating_system,
                price.licence,
                price.tenancy,
                price.currency,
            )
            each = float(price.hourly) / price.gpu_count
            groups[group].append((price.gpu_count, each, price))
    for members in groups.values():
        if len({count for count, _, _ in members}) < 2:
            continue
        members.sort(key=lambda member: member[0])
        discount = limits.volume_discount.get(members[0][2].provider, 0.0)
        # Where there is no discount, all are equal, and the majority is right.
        usual = median_low(each for _, each, _ in members)
        least = members[0][1]
        for _, each, price in members:
            if discount:
                share = each / least - 1
                least = min(least, each)
            else:
                share = each / usual - 1
            if share > limits.family_tolerance or share < -max(discount, limits.family_tolerance):
                yield Evidence.of(
                    price,
                    f"{plain(price.hourly)} is {percent(share)} for each accelerator, beside "
                    "machines with the same ones",
                )


def _family_of_accelerator(price: Price) -> str:
    return re.sub(r"\d+x_?|x\d+\b", "", price.instance_type)


def _is_listed(price: Price) -> bool:
    return (
        price.purchase_option is PurchaseOption.ON_DEMAND
        and price.commitment is Commitment.NONE
        and price.hourly > 0
    )


# --- across providers -----------------------------------------------------------------------

_MODELS = re.compile(
    r"\b(GB200|GH200|B300|B200|H200|H100|A100|L40S|L40|L4|A10G|A10|A6000|V100|P100|T4)\b"
)
_MODEL_OF_NAME: Mapping[str, Sequence[tuple[re.Pattern[str], str]]] = {
    "aws": [
        (re.compile(pattern), model)
        for pattern, model in (
            (r"p3\.", "V100"),
            (r"p4d\.", "A100"),
            (r"p5\.", "H100"),
            (r"p5e", "H200"),
            (r"p6-b200\.", "B200"),
            (r"g4dn\.", "T4"),
            (r"g5\.", "A10G"),
            (r"g6\.", "L4"),
            (r"g6e\.", "L40S"),
        )
    ],
    "azure": [
        (re.compile(pattern), model)
        for pattern, model in (
            (r"Standard_NC\d+r?s_v3\Z", "V100"),
            (r".*_A100_", "A100"),
            (r".*_H100_", "H100"),
            (r".*_H200_", "H200"),
            (r".*_T4_", "T4"),
        )
    ],
}


def accelerator_spread(lists: Sequence[PriceList], limits: Thresholds) -> list[Finding]:
    """The hour of one accelerator of a model, at each provider beside the others.

    Needs three providers that sell the model, so that there is a majority.
    """
    cheapest: dict[str, dict[str, Price]] = defaultdict(dict)
    for prices in lists:
        for price in prices.prices:
            model = _model(price) if price.gpu_count and _is_listed(price) else None
            if model is None:
                continue
            best = cheapest[model].get(price.provider)
            if best is None or _each(price) < _each(best):
                cheapest[model][price.provider] = price
    findings = []
    for prices in lists:
        provider = prices.fetch.provider
        evidence = []
        compared = 0
        for model, sellers in cheapest.items():
            others = [_each(price) for seller, price in sellers.items() if seller != provider]
            if provider not in sellers or len(others) < 2:
                continue
            compared += 1
            own = sellers[provider]
            usual = median(others)
            spread = max(_each(own) / usual, usual / _each(own))
            if spread > limits.accelerator_spread:
                evidence.append(
                    Evidence.of(
                        own,
                        f"one {model} costs {_each(own):.4g} an hour, and {usual:.4g} elsewhere",
                    )
                )
        if compared:
            findings.append(
                found(
                    "spread",
                    provider,
                    evidence,
                    bad="accelerators cost what nobody else asks",
                    good=f"{compared} accelerators cost about what others ask",
                )
            )
    return findings


def _each(price: Price) -> float:
    return float(price.hourly) / (price.gpu_count or 1)


def _model(price: Price) -> str | None:
    if price.gpu_model is not None:
        return _model_in(price.gpu_model)
    return _model_of_name(price.provider, price.instance_type)


@lru_cache(maxsize=1024)
def _model_in(text: str) -> str | None:
    match = _MODELS.search(text.upper().replace("-", " ").replace("_", " "))
    return match[1] if match else None


@lru_cache(maxsize=65536)
def _model_of_name(provider: str, instance_type: str) -> str | None:
    for pattern, model in _MODEL_OF_NAME.get(provider, ()):
        if pattern.match(instance_type):
            return model
    return None

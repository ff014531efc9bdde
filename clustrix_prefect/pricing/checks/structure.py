"""Prices among each other: families, spot beside on-demand, accelerators across providers."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from decimal import Decimal
from functools import lru_cache
from itertools import combinations
from math import exp, log
from statistics import median, median_low
from typing import NamedTuple

from clustrix_prefect.pricing.accelerators import accelerators_of
from clustrix_prefect.pricing.checks.finding import (
    Evidence,
    Finding,
    Level,
    found,
    percent,
    plain,
)
from clustrix_prefect.pricing.fetch import PriceList
from clustrix_prefect.pricing.local_zones import local_zone_of
from clustrix_prefect.pricing.machine_sizes import (
    accelerated_size,
    family_and_memory,
    family_and_size,
    is_accelerated,
    series_of,
)
from clustrix_prefect.pricing.price import Commitment, Price, PurchaseOption
from clustrix_prefect.pricing.price_ratios import family_and_weight
from clustrix_prefect.pricing.thresholds import Thresholds, known_off


def structure(prices: PriceList, limits: Thresholds) -> list[Finding]:
    """Spot below on-demand; sizes of a family in proportion; accelerators too.

    What is priced at 0 takes no part: that is a finding of the bounds. A size at the end of its
    family that is cheaper than its size says is a warning: providers do sell such.
    """
    listed = [price for price in prices.prices if _is_listed(price)]
    odd = [
        *_out_of_proportion(listed, limits),
        *_accelerators_out_of_proportion(listed, limits),
        *_odd_in_one_region(listed, limits),
    ]
    wrong = [*_spot_above_on_demand(prices.prices, limits)]
    seen: set[Price] = set()
    for one in odd:
        if not one.may_be_meant and one.price not in seen:
            seen.add(one.price)
            wrong.append(one.evidence)
    known = {(one.region, one.instance_type) for one in wrong}
    doubtful = dict.fromkeys(
        one.evidence
        for one in odd
        if one.may_be_meant and (one.evidence.region, one.evidence.instance_type) not in known
    )
    findings = []
    if doubtful:
        findings.append(
            found(
                "structure",
                prices.fetch.provider,
                tuple(doubtful),
                bad="prices at the end of a family do not fit it",
                good="",
                level=Level.WARNING,
            )
        )
    if wrong or not doubtful:
        findings.append(
            found(
                "structure",
                prices.fetch.provider,
                wrong,
                bad="prices do not fit those beside them",
                good="families are in proportion, and spot is below on-demand",
            )
        )
    return findings


class _Odd(NamedTuple):
    """A price that does not fit those beside it."""

    price: Price
    text: str
    may_be_meant: bool

    @property
    def evidence(self) -> Evidence:
        return Evidence.of(self.price, self.text)


def _spot_above_on_demand(prices: Sequence[Price], limits: Thresholds) -> Iterator[Evidence]:
    spots = [
        price
        for price in prices
        if price.purchase_option is PurchaseOption.SPOT and price.commitment is Commitment.NONE
    ]
    if not spots:
        return
    on_demand = {
        (price.region, *_machine(price)): price.hourly
        for price in prices
        if price.purchase_option is PurchaseOption.ON_DEMAND and price.commitment is Commitment.NONE
    }
    tolerated = Decimal(1 + limits.spot_tolerance)
    for price in spots:
        place, where = price.region, ""
        if (local := local_zone_of(price.zone)) is not None:
            # Dearer than the region around it.
            place, where = local, f" in {local}"
        full = on_demand.get((place, *_machine(price)))
        if full and price.hourly > full * tolerated:
            told = f"spot {plain(price.hourly)} is above on-demand {plain(full)}{where}"
            yield Evidence.of(price, told)


def _machine(price: Price) -> tuple[str | None, ...]:
    # Spot has zones where on-demand has none, and does not say its tenancy.
    return (price.instance_type, price.operating_system, price.licence, price.currency)


def _out_of_proportion(prices: Sequence[Price], limits: Thresholds) -> Iterator[_Odd]:
    families: dict[tuple[str | None, ...], list[_Member]] = defaultdict(list)
    for price in prices:
        names = (price.provider, price.instance_type)
        size = family_and_weight(*names)
        if size is None and not price.gpu_count:
            size = family_and_size(*names) or family_and_memory(*names)
        if size is not None:
            family = (price.region, size[0], _shape(price), *_kind(price))
            families[family].append(_Member(size[1], float(price.hourly) / size[1], price))
    for group, members in families.items():
        least = limits.least_family
        if is_accelerated(members[0].price) or str(group[1]).startswith("u"):
            least = 2  # families of few sizes, whose ratios are known
        if len({member.price.instance_type for member in members}) >= least:
            yield from _beside_each_other(members, f"its family {group[1]}", limits)


class _Member(NamedTuple):
    size: float
    each: float
    price: Price


def _kind(price: Price) -> tuple[str | None, ...]:
    return (price.operating_system, price.licence, price.tenancy, price.currency)


def _beside_each_other(members: list[_Member], what: str, limits: Thresholds) -> Iterator[_Odd]:
    """Of prices for each unit of size, those that differ from the majority's."""
    first = members[0].price
    ends = (min(member.size for member in members), max(member.size for member in members))
    names = (first.provider, first.instance_type)
    if len(members) == 2 and (family_and_weight(*names) or family_and_memory(*names)):
        # No majority says which is right; what is mixed in by mistake is dearer.
        usual = min(member.each for member in members)
    elif len(members) == 2:
        # The larger is cheaper by the dozen, or wrong.
        usual = min(members, key=lambda member: member.size).each
    else:
        # Those that are known to be off say nothing of the others.
        sound = [m for m in members if not known_off(m.price.provider, m.price.instance_type)]
        if len(sound) < 2:
            sound = members
        usual = _usual(sorted(member.each for member in sound), limits)
    for member in members:
        yield from _off(member.price, member.each / usual - 1, member.size in ends, what, limits)


def _usual(amounts: Sequence[float], limits: Thresholds) -> float:
    """Of amounts in order, the one that the others are held against.

    The lower of two in the middle, or a lower one that a good part agrees on: what is mixed into
    a list by mistake is dearer (dedicated tenancy, other systems, machines with a surcharge).
    """
    middle = median_low(amounts)
    for amount in amounts:
        if amount >= middle * (1 - limits.family_tolerance):
            break
        same = sum(amount <= other <= amount * (1 + limits.line_tolerance) for other in amounts)
        if same >= max(2, limits.agreeing_share * len(amounts)):
            return amount
    return middle


def _off(
    price: Price, share: float, is_at_the_end: bool, what: str, limits: Thresholds
) -> Iterator[_Odd]:
    known = known_off(price.provider, price.instance_type)
    if known is not None:
        if known.least <= share <= known.most:
            return
        is_at_the_end = False  # how far it is off at the most is known
    by_ratio = family_and_weight(price.provider, price.instance_type) is not None
    tolerance = limits.ratio_tolerance if by_ratio else limits.family_tolerance
    if abs(share) <= tolerance and (known is None or known.may_be_none):
        return
    text = f"{plain(price.hourly)} is {percent(share)} off {what}"
    meant = is_at_the_end and -limits.cheaper_at_the_end <= share < 0
    yield _Odd(price, text, may_be_meant=meant)


def _shape(price: Price) -> str | None:
    # Google prices memory by itself, and its largest sizes have less of it for each processor.
    # Elsewhere the smallest of a family have more, or less, at the family's price.
    if price.provider != "gcp" or not price.vcpus or price.memory_gib is None:
        return None
    return f"{price.memory_gib / price.vcpus:.3f}"


def _accelerators_out_of_proportion(prices: Sequence[Price], limits: Thresholds) -> Iterator[_Odd]:
    """Twice the same machine, accelerators and all, costs twice as much, or a little less.

    And machines of one family cost so much for each accelerator and so much for each processor.
    """
    families: dict[tuple[str | None, ...], list[_Accelerated]] = defaultdict(list)
    for price in prices:
        if family_and_weight(price.provider, price.instance_type) is not None:
            continue
        if (known := _accelerated(price)) is not None:
            family, accelerators, processors = known
            group = (price.region, family, *_kind(price))
            families[group].append(_Accelerated(accelerators, processors, price))
    for group, machines in families.items():
        odd = list(_same_around_each(machines, limits))
        told = {one.price for one in odd}
        line = _off_the_line(machines, f"the line of its family {group[1]}", limits)
        yield from (*odd, *(one for one in line if one.price not in told))


class _Accelerated(NamedTuple):
    accelerators: float
    processors: float
    price: Price


def _accelerated(price: Price) -> tuple[str, float, float] | None:
    """Return the family, the accelerators and the processors of a machine."""
    documented = accelerated_size(price.provider, price.instance_type)
    if documented is not None:
        return documented
    if not price.gpu_count or not price.vcpus:
        return None
    family = price.family or _family_of_accelerator(price)
    parts = (family, price.gpu_model, price.gpu_memory_gib)
    return "/".join(str(part) for part in parts if part), float(price.gpu_count), float(price.vcpus)


def _same_around_each(machines: Sequence[_Accelerated], limits: Thresholds) -> Iterator[_Odd]:
    """Machines with the same around each accelerator, beside each other."""
    groups: dict[float, list[_Member]] = defaultdict(list)
    for accelerators, processors, price in machines:
        groups[round(processors / accelerators, 3)].append(
            _Member(accelerators, float(price.hourly) / accelerators, price)
        )
    for members in groups.values():
        if len({member.size for member in members}) < 2:
            continue
        what = "for each accelerator, beside machines with the same ones"
        discount = limits.volume_discount.get(members[0].price.provider, 0.0)
        if not discount:
            yield from _beside_each_other(members, what, limits)
            continue
        members.sort(key=lambda member: member.size)
        least = members[0].each
        for member in members:
            share = member.each / least - 1
            least = min(least, member.each)
            if share > limits.family_tolerance or share < -discount:
                text = f"{plain(member.price.hourly)} is {percent(share)} {what}"
                yield _Odd(member.price, text, may_be_meant=False)


def _off_the_line(
    machines: Sequence[_Accelerated], what: str, limits: Thresholds
) -> Iterator[_Odd]:
    """Yield those that are off the prices for an accelerator and a processor that most agree on.

    Which prices these are is tried with every two of them. The majority has to be one, and three
    at least: two are on a line with any.
    """
    best: list[tuple[int, tuple[float, float]]] = []
    sound = [m for m in machines if not known_off(m.price.provider, m.price.instance_type)]
    for one, other in combinations(sound, 2):
        determinant = one.accelerators * other.processors - other.accelerators * one.processors
        if abs(determinant) < 1e-9:
            continue
        first, second = float(one.price.hourly), float(other.price.hourly)
        for_accelerator = (first * other.processors - second * one.processors) / determinant
        for_processor = (one.accelerators * second - other.accelerators * first) / determinant
        if for_accelerator < 0 or for_processor < 0:
            continue
        line = (for_accelerator, for_processor)
        fits = sum(abs(_share(machine, line)) <= limits.line_tolerance for machine in sound)
        best.append((fits, line))
    if not best:
        return
    fits, line = max(best)
    if fits < 3 or fits * 2 <= len(sound):
        return
    inside = [m for m in sound if abs(_share(m, line)) <= limits.line_tolerance]
    if len({round(m.processors / m.accelerators, 3) for m in inside}) < 2:
        return
    for other_fits, other_line in best:
        if other_fits == fits and any(
            abs(_share(machine, other_line)) > limits.family_tolerance for machine in inside
        ):
            return  # two lines with as many on each: nobody knows which is right
    sizes = [float(machine.price.hourly) for machine in machines]
    for machine in machines:
        at_the_end = float(machine.price.hourly) in (min(sizes), max(sizes))
        yield from _off(machine.price, _share(machine, line), at_the_end, what, limits)


def _share(machine: _Accelerated, line: tuple[float, float]) -> float:
    expected = machine.accelerators * line[0] + machine.processors * line[1]
    return float(machine.price.hourly) / expected - 1 if expected else 0.0


# --- across the regions of one provider -----------------------------------------------------


def _odd_in_one_region(prices: Sequence[Price], limits: Thresholds) -> Iterator[_Odd]:
    """Accelerated machines dearer or cheaper in one region than their series is there.

    Regions differ in what they cost, series by series. A machine costs its own factor times that
    of its series in the region; both are found by taking medians in turn (Tukey's median polish).
    Only where nearly all of a machine's prices, and of a region's in the series, are so exactly,
    is one that is not told of.
    """
    tables: dict[tuple[str | None, ...], _Table] = defaultdict(dict)
    if len({price.region for price in prices}) < limits.least_regions:
        return
    for price in prices:
        series = series_of(price.provider, price.instance_type)
        if series is not None and price.region is not None:
            key = (series, *_kind(price))
            cell = (price.instance_type, price.region)
            tables[key].setdefault(cell, (log(price.hourly), price))
    told: set[Price] = set()
    for table in tables.values():
        for odd in _off_the_medians(table, limits.line_tolerance, limits.region_tolerance, limits):
            told.add(odd.price)
            yield odd
    # A machine that is alone of its kind differs from region to region about as all the others.
    everything: dict[tuple[str | None, ...], _Table] = defaultdict(dict)
    for key, table in tables.items():
        everything[key[1:]].update(table)
    for table in everything.values():
        for odd in _off_the_medians(table, limits.kind_spread / 2, limits.kind_spread, limits):
            if odd.price not in told:
                yield odd


_Table = dict[tuple[str, str], tuple[float, Price]]


def _off_the_medians(
    table: _Table, agreeing: float, tolerance: float, limits: Thresholds
) -> Iterator[_Odd]:
    machines: dict[str, list[tuple[str, str]]] = defaultdict(list)
    regions: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for cell in table:
        machines[cell[0]].append(cell)
        regions[cell[1]].append(cell)
    left = {cell: amount for cell, (amount, _) in table.items()}
    for _ in range(_ROUNDS):
        for lines in (machines, regions):
            for cells in lines.values():
                middle = median_low(left[cell] for cell in cells)
                for cell in cells:
                    left[cell] -= middle
    is_exact = {cell: abs(rest) <= log(1 + agreeing) for cell, rest in left.items()}

    def agree(cells: Sequence[tuple[str, str]], least: int) -> bool:
        exact = sum(is_exact[cell] for cell in cells)
        return exact >= least and exact >= limits.exact_share * len(cells)

    sound_machines = {m for m, cells in machines.items() if agree(cells, limits.least_regions - 1)}
    sound_regions = {r for r, cells in regions.items() if agree(cells, limits.least_family - 1)}
    for cell, rest in left.items():
        machine, region = cell
        if is_exact[cell] or machine not in sound_machines or region not in sound_regions:
            continue
        price, share = table[cell][1], exp(rest) - 1
        if abs(share) <= tolerance:
            continue
        text = f"{plain(price.hourly)} is {percent(share)} off what it costs beside its series"
        yield _Odd(price, f"{text} in other regions", may_be_meant=False)


_ROUNDS = 3


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
    r"\b(GB200|GH200|B300|B200|H200|H100|A100|L40S|L40|L4|A10G|A10|A6000|V100|P100|T4)(?:NVL)?\b"
)


def accelerator_spread(lists: Sequence[PriceList], limits: Thresholds) -> list[Finding]:
    """Return the hour of one accelerator of a model, at each provider beside the others.

    Needs three providers that sell the model, so that there is a majority.
    """
    cheapest: dict[str, dict[str, Price]] = defaultdict(dict)
    for prices in lists:
        for price in prices.prices:
            model = _model(price) if _is_listed(price) and _count(price) else None
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
    return float(price.hourly) / _count(price)


def _count(price: Price) -> float:
    """Return how many accelerators a machine has; 0 for none, or if nobody says."""
    documented = accelerators_of(price.provider, price.instance_type)
    if documented is not None and documented.count is not None:
        return float(documented.count)
    return float(price.gpu_count or 0)


def _model(price: Price) -> str | None:
    if price.gpu_model is not None:
        return _model_in(price.gpu_model)
    documented = accelerators_of(price.provider, price.instance_type)
    return None if documented is None else _model_in(documented.model)


@lru_cache(maxsize=1024)
def _model_in(text: str) -> str | None:
    match = _MODELS.search(text.upper().replace("-", " ").replace("_", " "))
    return match[1] if match else None

"""Asks all providers at once, and picks the machines that are like a given one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from clustrix_prefect.errors import ClustrixError, ConfigurationError
from clustrix_prefect.pricing.asking import Question, ask
from clustrix_prefect.pricing.blocks import PricingCredentials
from clustrix_prefect.pricing.equivalents.accounts import (
    credentials_from_environment,
    options_from_environment,
)
from clustrix_prefect.pricing.equivalents.machines import Machine, machine_of
from clustrix_prefect.pricing.equivalents.regions import EVERYWHERE, Area, area_of
from clustrix_prefect.pricing.errors import PricingError
from clustrix_prefect.pricing.price import Commitment, Price, PurchaseOption
from clustrix_prefect.pricing.providers import PROVIDERS


@dataclass(frozen=True, slots=True)
class Offer:
    """A machine that is like the one asked for, and its price.

    Attributes:
        price: The price.
        machine: The machine; `None` for the one asked for, if nobody says what it is.
    """

    price: Price
    machine: Machine | None


@dataclass(frozen=True, slots=True)
class Unavailable:
    """A provider that could not be asked.

    Attributes:
        provider: Whom.
        kind: The class of the failure in one word, such as `unauthorised`.
        what: What happened, and what to do.
    """

    provider: str
    kind: str
    what: str


@dataclass
class Equivalents:
    """What came of looking for machines like one.

    Attributes:
        instance_type: The machine that was asked for.
        area: Where.
        machine: What it is; `None` if none of those that could be asked sells it there, or
            nobody says.
        offers: It and its like, on demand, for Linux, cheapest first.
        unavailable: Who could not be asked.
        absent: Providers without a region there.
        unknown: How many types of a provider nobody says the machine of.
        unknown_types: Which they are.
    """

    instance_type: str
    area: Area
    machine: Machine | None = None
    offers: list[Offer] = field(default_factory=list)
    unavailable: list[Unavailable] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)
    unknown: dict[str, int] = field(default_factory=dict)
    unknown_types: dict[str, tuple[str, ...]] = field(default_factory=dict)


def find_equivalents(
    instance_type: str,
    region: str,
    *,
    providers: Sequence[str] = tuple(PROVIDERS),
    credentials: PricingCredentials | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    deadline: float = 300.0,
) -> Equivalents:
    """Return the machine and its like: same processors, memory within 10 %, same GPUs.

    Args:
        instance_type: As its provider calls it, such as `m5.large`.
        region: As any provider calls it; the others are asked for theirs in the same place.
        providers: Whom to ask.
        credentials: What they may want to see; default: what the environment says.
        options: For some providers more arguments of their `fetch_prices`, such as endpoints.
        deadline: Seconds for each.

    Raises:
        ConfigurationError: The region is not in the table.
    """
    area = area_of(region)
    found = Equivalents(instance_type, area)
    asked = []
    for provider in providers:
        if provider in EVERYWHERE or area.region_of(provider):
            asked.append(provider)
        else:
            found.absent.append(provider)

    if credentials is None:
        credentials = credentials_from_environment()

    def prices_of(provider: str) -> list[Price] | Unavailable:
        region = area.region_of(provider)
        return _linux_on_demand(
            Question(
                provider=provider,
                regions=(region,) if region else None,
                credentials=credentials,
                options={**options_from_environment(provider), **(options or {}).get(provider, {})},
                deadline=deadline,
            )
        )

    machines: list[Offer] = []
    with ThreadPoolExecutor(max(1, len(asked)), thread_name_prefix="prices") as threads:
        for provider, prices in zip(asked, threads.map(prices_of, asked), strict=True):
            if isinstance(prices, Unavailable):
                found.unavailable.append(prices)
                continue
            known = [Offer(price, machine_of(price)) for price in prices]
            machines += known
            unknown = [
                offer.price.instance_type
                for offer in known
                if offer.machine is None and offer.price.instance_type != instance_type
            ]
            if unknown:
                found.unknown[provider] = len(unknown)
                found.unknown_types[provider] = tuple(sorted(set(unknown)))
    wanted = [offer for offer in machines if offer.price.instance_type == instance_type]
    if wanted:
        machine = found.machine = wanted[0].machine
        like = [
            offer
            for offer in machines
            if offer not in wanted
            and machine is not None
            and offer.machine is not None
            and offer.machine.is_like(machine)
        ]
        found.offers = sorted([*wanted, *like], key=_cheapest)
    return found


def _cheapest(offer: Offer) -> tuple[str, Decimal, str, str]:
    price = offer.price
    # Never converted: currencies are listed apart.
    return price.currency, price.hourly, price.provider, price.instance_type


def _linux_on_demand(question: Question) -> list[Price] | Unavailable:
    provider = question.provider
    try:
        prices = ask(question).prices
    except PricingError as error:
        return Unavailable(provider, error.kind, error.message)
    except ConfigurationError as error:  # a client library or a secret is missing
        return Unavailable(provider, "not set up", error.message)
    except ClustrixError as error:
        return Unavailable(provider, "unavailable", error.message)
    return [
        price
        for price in prices
        if price.purchase_option is PurchaseOption.ON_DEMAND
        and price.commitment is Commitment.NONE
        # Lambda and Hugging Face sell nothing else, and do not say so.
        and price.operating_system in ("Linux", None)
        and price.tenancy in ("Shared", None)
    ]

"""The command line's `clustrix-prefect prices`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from humanize import naturaltime

from clustrix_prefect.cli.arguments import AsJson, at_most
from clustrix_prefect.cli.terminal import print_json, print_table
from clustrix_prefect.pricing.arguments import CredentialsBlock, Endpoints, endpoints_of
from clustrix_prefect.pricing.providers import PROVIDERS, Provider

if TYPE_CHECKING:
    from clustrix_prefect.pricing.equivalents.finding import Equivalents, Offer
    from clustrix_prefect.pricing.equivalents.machines import Machine
    from clustrix_prefect.pricing.price import Price

INCOMPLETE = 3
"""The exit status if there is an answer, but not from every provider."""

_MOST_NAMES = 20


def _verify_some(_: object, providers: tuple[str, ...] | None) -> None:
    if providers == ():
        raise ValueError("Name one at least.")


def prices(
    machine: Annotated[str, Parameter(name="TYPE")],
    /,
    *,
    region: str,
    providers: Annotated[
        tuple[Provider, ...] | None, Parameter(consume_multiple=True, validator=_verify_some)
    ] = None,
    credentials: CredentialsBlock = None,
    endpoint: Endpoints = (),
    deadline: Annotated[float, at_most(86400)] = 300.0,
    as_json: AsJson = False,
) -> int:
    """Say what a machine and its like cost at all providers, cheapest first.

    Its like have as many processors, memory within 10 %, and the same GPUs.
    Prices are those on demand, for Linux, in the region or the nearest like it.

    Args:
        machine: the machine, as its provider calls it: m5.large
        region: where, as any provider calls it: us-east-1, westeurope
        providers: ask only these; by default all
        deadline: seconds for each provider; by default 300
    """
    from clustrix_prefect.pricing.equivalents.finding import find_equivalents
    from clustrix_prefect.pricing.validation import load_credentials

    asked: tuple[str, ...] = providers or tuple(PROVIDERS)
    found = find_equivalents(
        machine,
        region,
        providers=asked,
        credentials=load_credentials(credentials),
        options=endpoints_of(endpoint),
        deadline=deadline,
    )
    now = datetime.now(timezone.utc)
    if as_json:
        print_json(_as_dict(found, now))
    else:
        _print(found, now, asked)
    if not found.offers and not _nobody_was_asked(found, asked):
        return 1
    return INCOMPLETE if found.unavailable else 0


def _nobody_was_asked(found: Equivalents, providers: Sequence[str]) -> bool:
    silent = {failure.provider for failure in found.unavailable}
    return bool(silent) and silent | set(found.absent) >= set(providers)


# --- for people -----------------------------------------------------------------------------


def _print(found: Equivalents, now: datetime, providers: Sequence[str]) -> None:
    if _nobody_was_asked(found, providers):
        print(f"Nobody could be asked about {found.instance_type} in {found.area.name}.")
    elif not found.offers:
        who = "Nobody who could be asked" if found.unavailable else "Nobody"
        print(f"{who} sells {found.instance_type} in {found.area.name}, for Linux on demand.")
    else:
        print(f"{found.instance_type} in {found.area.name}: {_described(found.machine)}\n")
        header = ("PROVIDER", "TYPE", "REGION", "AN HOUR", "MACHINE", "AGE", "SOURCE")
        rows = [_row(offer, now) for offer in found.offers]
        print_table(rows, header, right=[3])
        if any(offer.machine and offer.machine.is_documented for offer in found.offers):
            print("\n* some of it from the provider's documents, not from its price list")
    for failure in found.unavailable:
        print(f"\nunavailable: {failure.provider}, {failure.kind}. {failure.what}")
    if found.absent:
        print(f"\nNo region there: {', '.join(found.absent)}.")
    for provider, count in found.unknown.items():
        names = found.unknown_types.get(provider, ())
        more = ", ..." if len(names) > _MOST_NAMES else "."
        print(
            f"\n{provider}: {count} types left out, as nobody says what machines they are: "
            f"{', '.join(names[:_MOST_NAMES])}{more}"
        )


def _row(offer: Offer, now: datetime) -> tuple[str, ...]:
    price = offer.price
    name = f"{price.instance_type} ({price.licence})" if price.licence else price.instance_type
    return (
        price.provider,
        name,
        price.region or "any",
        f"{_shown(price.hourly)} {price.currency}",
        _described(offer.machine) + (" *" if offer.machine and offer.machine.is_documented else ""),
        _age(price, now),
        price.source,
    )


def _described(machine: Machine | None) -> str:
    return "nobody says what machine it is" if machine is None else str(machine)


def _shown(amount: Decimal) -> str:
    """Return an amount for people: as many digits as providers publish."""
    return f"{amount:.4f}"


def _age(price: Price, now: datetime) -> str:
    age = naturaltime(max(timedelta(), now - (price.published_at or price.fetched_at)))
    return f"{'published' if price.published_at else 'read'} {age}"


# --- for programs ---------------------------------------------------------------------------


def _as_dict(found: Equivalents, now: datetime) -> Mapping[str, Any]:
    machine = found.machine
    return {
        "instance_type": found.instance_type,
        "place": found.area.name,
        "machine": None if machine is None else _machine(machine),
        "description": _described(machine) if found.offers else None,
        "complete": not found.unavailable,
        "offers": [
            {
                "provider": offer.price.provider,
                "instance_type": offer.price.instance_type,
                "licence": offer.price.licence,
                "region": offer.price.region,
                "hourly": f"{offer.price.hourly:f}",
                "currency": offer.price.currency,
                **_machine(offer.machine),
                "source": offer.price.source,
                "fetched_at": offer.price.fetched_at.isoformat(),
                "published_at": _text(offer.price.published_at),
                "effective": _text(offer.price.effective),
            }
            for offer in found.offers
        ],
        "unavailable": [
            {"provider": failure.provider, "kind": failure.kind, "message": failure.what}
            for failure in found.unavailable
        ],
        "no_region_there": found.absent,
        "unknown_machines": found.unknown,
        "unknown_types": found.unknown_types,
    }


def _machine(machine: Machine | None) -> dict[str, Any]:
    names = ("vcpus", "memory_gib", "gpu_count", "gpu_model", "gpu_memory_gib")
    if machine is None:
        return {**dict.fromkeys(names), "machine_from_documents": False}
    count = machine.gpu_count
    whole = count is None or count == int(count)
    return {
        "vcpus": f"{machine.vcpus:f}",
        "memory_gib": _amount(machine.memory_gib),
        "gpu_count": count if count is None else int(count) if whole else float(count),
        "gpu_model": machine.gpu_model or machine.gpu_name,
        "gpu_memory_gib": _amount(machine.gpu_memory_gib),
        "machine_from_documents": machine.is_documented,
    }


def _amount(number: Decimal | None) -> str | None:
    return None if number is None else f"{number:f}"


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()

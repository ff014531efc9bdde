"""The command line's `clustrix-prefect prices`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from clustrix_prefect.errors import ConfigurationError
from clustrix_prefect.pricing.providers import PROVIDERS

if TYPE_CHECKING:
    from clustrix_prefect.pricing.equivalents.finding import Equivalents, Offer
    from clustrix_prefect.pricing.equivalents.machines import Machine
    from clustrix_prefect.pricing.price import Price

INCOMPLETE = 3
"""The exit status if there is an answer, but not from every provider."""

_MOST_NAMES = 20
_AGES = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def add_price_commands(commands: Any, as_json: argparse.ArgumentParser) -> None:
    """Add `prices` to the command line.

    Args:
        commands: The commands that there are.
        as_json: A parser for `--json`.
    """
    prices = commands.add_parser(
        "prices",
        parents=[as_json],
        help="what a machine and its like cost at all providers, cheapest first",
        description="The machine and its like (same processors, memory within 10 %, same GPUs) at "
        "all providers near a region: on demand, Linux, cheapest first. The exit status is 0 if "
        f"all were asked, {INCOMPLETE} if one or all could not be, 1 if there is no answer.",
    )
    prices.add_argument("type", help="the machine, as its provider calls it: m5.large")
    prices.add_argument(
        "--region", required=True, help="where, as any provider calls it: us-east-1, westeurope"
    )
    prices.add_argument(
        "--providers",
        nargs="+",
        choices=tuple(PROVIDERS),
        default=tuple(PROVIDERS),
        metavar="PROVIDER",
        help=f"ask only these of {', '.join(PROVIDERS)}",
    )
    prices.add_argument(
        "--credentials",
        metavar="BLOCK",
        help="name of a PricingCredentials block; by default the environment's credentials",
    )
    prices.add_argument(
        "--endpoint",
        action="append",
        default=[],
        metavar="PROVIDER=URL",
        help="ask a gateway; also PROVIDER.compute_endpoint=URL and the like",
    )
    prices.add_argument(
        "--deadline", type=float, default=300.0, metavar="SECONDS", help="for each; default 300"
    )
    prices.set_defaults(run=_prices)


def _prices(options: argparse.Namespace) -> int:
    from clustrix_prefect.pricing.equivalents.finding import find_equivalents
    from clustrix_prefect.pricing.validation import load_credentials

    found = find_equivalents(
        options.type,
        options.region,
        providers=options.providers,
        credentials=load_credentials(options.credentials),
        options=_endpoints(options.endpoint),
        deadline=options.deadline,
    )
    now = datetime.now(timezone.utc)
    if options.json:
        print(json.dumps(_as_dict(found, now), indent=2))
    else:
        _print(found, now, options.providers)
    if not found.offers and not _nobody_was_asked(found, options.providers):
        return 1
    return INCOMPLETE if found.unavailable else 0


def _nobody_was_asked(found: Equivalents, providers: Sequence[str]) -> bool:
    silent = {failure.provider for failure in found.unavailable}
    return bool(silent) and silent | set(found.absent) >= set(providers)


def _endpoints(texts: Sequence[str]) -> dict[str, dict[str, str]]:
    endpoints: dict[str, dict[str, str]] = {}
    for text in texts:
        whose, _, url = text.partition("=")
        provider, _, keyword = whose.partition(".")
        keyword = keyword or "endpoint"
        known = keyword == "authority" or keyword.endswith("endpoint")
        if provider not in PROVIDERS or not known or not url:
            raise ConfigurationError(
                f"--endpoint {text} is not of the form PROVIDER=URL.",
                f"The providers are {', '.join(PROVIDERS)}.",
            )
        endpoints.setdefault(provider, {})[keyword] = url
    return endpoints


# --- for people -----------------------------------------------------------------------------


def _print(found: Equivalents, now: datetime, providers: Sequence[str]) -> None:
    if _nobody_was_asked(found, providers):
        print(f"Nobody could be asked about {found.instance_type} in {found.place.name}.")
    elif not found.offers:
        who = "Nobody who could be asked" if found.unavailable else "Nobody"
        print(f"{who} sells {found.instance_type} in {found.place.name}, for Linux on demand.")
    else:
        print(f"{found.instance_type} in {found.place.name}: {_described(found.machine)}\n")
        header = ("PROVIDER", "TYPE", "REGION", "AN HOUR", "MACHINE", "AGE", "SOURCE")
        rows = [_row(offer, now) for offer in found.offers]
        widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
        for row in (header, *rows):
            cells = [text.ljust(width) for text, width in zip(row, widths, strict=True)]
            cells[3] = row[3].rjust(widths[3])
            print("  ".join(cells).rstrip())
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
    seconds = int((now - (price.published_at or price.fetched_at)).total_seconds())
    size, unit = next(((size, unit) for size, unit in _AGES if seconds >= size), (1, "s"))
    verb = "published" if price.published_at else "read"
    return f"{verb} {max(0, seconds) // size} {unit} ago"


# --- for programs ---------------------------------------------------------------------------


def _as_dict(found: Equivalents, now: datetime) -> Mapping[str, Any]:
    machine = found.machine
    return {
        "instance_type": found.instance_type,
        "place": found.place.name,
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

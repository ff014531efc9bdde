"""Reading what a source answered: what is a number there, and what to say of what is not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any, TypeGuard

from clustrix_prefect.pricing.errors import PricingError, PricingIncomplete, PricingMalformed
from clustrix_prefect.pricing.fetch import Fetch, PriceList
from clustrix_prefect.pricing.http import Client
from clustrix_prefect.pricing.price import Price

NO_PRICE = "no price"
"""Why a row was skipped that names a machine and has no price for it."""


def is_number(value: Any) -> TypeGuard[int | Decimal]:
    """Return whether it is what `parse_json` makes of a JSON number."""
    return isinstance(value, (int, Decimal)) and not isinstance(value, bool)


def malformed(what: str, client: Client) -> PricingError:
    """Return the error of an answer that is not what the provider documents.

    Args:
        what: What is wrong with it, without a full stop.
        client: Who asked.
    """
    return client.failure(
        PricingMalformed, f"{what}.", "Look whether the endpoint is the documented one."
    )


def price_list(found: Iterable[Price | str], client: Client) -> PriceList:
    """Return the prices among `found`, whose other members say why a row gave none.

    Raises:
        PricingMalformed: There are rows, and not one has a price.
        PricingIncomplete: There is no row.
    """
    prices = []
    for price in found:
        if isinstance(price, Price):
            prices.append(price)
        else:
            client.fetch.skipped[price] += 1
    return complete(prices, client.fetch)


def complete(prices: Sequence[Price], fetch: Fetch) -> PriceList:
    """Return the list of `prices`, which must not be empty.

    Raises:
        PricingMalformed: There were rows, and not one has a price.
        PricingIncomplete: There was no row.
    """
    if prices:
        return PriceList(tuple(prices), fetch)
    if not fetch.rows:
        raise PricingIncomplete(
            f"{fetch.source} answers with an empty list.",
            "Check the regions, and what the credentials may see.",
            provider=fetch.provider,
            fetch=fetch,
        )
    reasons = ", ".join(f"{reason} ({count})" for reason, count in fetch.skipped.most_common(3))
    raise PricingMalformed(
        f"Not one of {fetch.rows} rows of {fetch.source} has a price: {reasons}.",
        "Look whether the endpoint is the documented one.",
        provider=fetch.provider,
        fetch=fetch,
    )

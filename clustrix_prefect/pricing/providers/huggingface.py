"""Hugging Face's hardware for Spaces and for Jobs: two public lists, priced by the minute.

A minute is priced in whole millionths of a dollar: $0.40 an hour is 6,667 of them, which makes
0.40002 again. Compare with what Hugging Face publishes by the hour to `TOLERANCE`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from decimal import Decimal
from itertools import chain
from typing import Any, Literal

from pydantic import SecretStr

from clustrix_prefect.pricing.documents import NO_PRICE, is_number, malformed, price_list
from clustrix_prefect.pricing.fetch import Fetch, PriceList
from clustrix_prefect.pricing.http import Client, without_secrets
from clustrix_prefect.pricing.price import Price, PurchaseOption

ENDPOINT = "https://huggingface.co"

TOLERANCE = Decimal("0.00003")
"""Dollars an hour: half a millionth a minute, sixty times."""

Product = Literal["spaces", "jobs"]
PRODUCTS: tuple[Product, ...] = ("spaces", "jobs")

_PROVIDER = "huggingface"
_PER_HOUR = {"second": 3600, "minute": 60, "hour": 1}
_AMOUNT = re.compile(r"(?P<number>\d+(?:\.\d+)?) *(?P<unit>vCPU|GB|TB)s?\Z")
_MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class HuggingFaceCredentials:
    """A user access token. The lists are public; a token has a larger quota.

    Attributes:
        token: As in `hf_...`.
    """

    token: SecretStr


def fetch_prices(
    *,
    regions: Sequence[str] | None = None,
    credentials: HuggingFaceCredentials | None = None,
    endpoint: str = ENDPOINT,
    products: Sequence[Product] = PRODUCTS,
    deadline: float = 300.0,
) -> PriceList:
    """Return the hourly prices of Hugging Face's hardware.

    The same hardware has a price in each product, so `licence` names the product: `Spaces` or
    `Jobs`.

    Args:
        regions: Without effect: the price is the same everywhere.
        credentials: A token, for a larger quota; none is needed.
        endpoint: The Hub.
        products: Which lists to read.
        deadline: Seconds for all of it.

    Raises:
        PricingError: One of its subclasses, by what went wrong.
    """
    hub = endpoint.rstrip("/")
    fetch = Fetch(
        provider=_PROVIDER,
        source=without_secrets(f"{hub}/api"),
        authentication="none" if credentials is None else "bearer",
        started_at=datetime.now(timezone.utc),
        not_covered=("inference endpoints", "subscriptions"),
    )
    headers = {}
    if credentials is not None:
        headers["Authorization"] = f"Bearer {credentials.token.get_secret_value()}"
    with Client(fetch, deadline=deadline, headers=headers) as client:
        found = (_product(product, f"{hub}/api/{product}/hardware", client) for product in products)
        return price_list(chain.from_iterable(found), client)


def _product(product: Product, url: str, client: Client) -> Iterator[Price | str]:
    document = client.get_json(url)
    if not isinstance(document, list):
        raise malformed(f"Hugging Face's hardware for {product} is no list", client)
    client.fetch.pages += 1
    client.fetch.rows += len(document)
    for row in document:
        if not isinstance(row, dict):
            yield "a row is not as documented"
            continue
        yield _price(row, product.title(), without_secrets(url), client)


def _price(row: Mapping[str, Any], product: str, source: str, client: Client) -> Price | str:
    """Return the price in a row, or why it gives none: one odd row costs one row."""
    name, unit = row.get("name"), row.get("unitLabel")
    if not isinstance(name, str) or not name or not isinstance(unit, str):
        return "a name or a unit is missing"
    micro, amount = row.get("unitCostMicroUSD"), row.get("unitCostUSD")
    if micro is None or amount is None:
        return NO_PRICE
    if not is_number(micro) or not is_number(amount):
        return f"the price of {name[:60]} is not as documented"
    # They are one price, said twice. The smaller unit is exact; the other may be a float's text.
    if abs(Decimal(micro) / _MILLION - Decimal(amount)) > Decimal("0.000001"):
        return f"the two prices of {name[:60]} differ, which is not as documented"
    if unit not in _PER_HOUR:
        return f"unit {unit}"
    accelerator = row.get("accelerator") or {}
    if not isinstance(accelerator, dict):
        return f"the accelerator of {name[:60]} is not as documented"
    count = _count(accelerator)
    if count is None:
        return f"the number of accelerators of {name[:60]} is not as documented"
    total = _size(accelerator.get("vram"), "GB")
    return Price(
        provider=_PROVIDER,
        region=None,
        instance_type=name,
        licence=product,
        purchase_option=PurchaseOption.ON_DEMAND,
        hourly=Decimal(micro) * _PER_HOUR[unit] / _MILLION,
        currency="USD",
        amount=Decimal(amount),
        unit=unit,
        vcpus=_size(row.get("cpu"), "vCPU"),
        memory_gib=_size(row.get("ram"), "GB"),
        gpu_count=count,
        gpu_model=accelerator.get("model"),
        # `vram` is that of all accelerators together.
        gpu_memory_gib=total / count if total is not None and count else None,
        source=source,
        fetched_at=datetime.now(timezone.utc),
    )


def _count(accelerator: Mapping[str, Any]) -> int | None:
    """Return how many accelerators there are; `None` if it is not said as documented."""
    if not accelerator:
        return 0
    quantity = str(accelerator.get("quantity"))
    return int(quantity) if quantity.isascii() and quantity.isdecimal() else None


def _size(text: Any, unit: str) -> Decimal | None:
    """Return the number in "4 vCPU" or "15 GB"; `None` if nothing of that kind is said.

    GB is taken for GiB: the machines behind are those of clouds that sell memory in GiB.
    """
    match = _AMOUNT.match(text) if isinstance(text, str) else None
    if match is None:
        return None
    number = Decimal(match["number"])
    if unit == "GB" and match["unit"] == "TB":
        return number * 1024
    return number if match["unit"] == unit else None

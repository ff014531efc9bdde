"""Azure's virtual machines: the public Retail Prices API, and sizes from the Compute API.

Prices need no credentials. They say nothing of a size's processors and memory: these come from
Azure Resource Manager, which does need them, and are `None` without.

One size has about six rows a region: Linux and Windows, each on demand, spot and low priority.
They differ only in the words of `productName` and `meterName`.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from decimal import Decimal
from threading import Event
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from clustrix_prefect.pricing.documents import NO_PRICE, complete, is_number, malformed
from clustrix_prefect.pricing.errors import PricingError, PricingIncomplete
from clustrix_prefect.pricing.fetch import Fetch, PriceList
from clustrix_prefect.pricing.http import Client, without_secrets
from clustrix_prefect.pricing.price import Commitment, Price, PurchaseOption
from clustrix_prefect.pricing.providers import azure_sizes
from clustrix_prefect.pricing.providers.azure_sizes import AzureCredentials, Sizes

__all__ = ["DEFAULT_REGIONS", "ENDPOINT", "AzureCredentials", "family_of", "fetch_prices"]

ENDPOINT = "https://prices.azure.com/api/retail/prices"
COMPUTE_ENDPOINT = azure_sizes.ENDPOINT
AUTHORITY = azure_sizes.AUTHORITY
API_VERSION = "2023-01-01-preview"

DEFAULT_REGIONS = (
    "eastus",
    "eastus2",
    "southcentralus",
    "westus2",
    "westus3",
    "canadacentral",
    "northeurope",
    "westeurope",
    "uksouth",
    "swedencentral",
    "southeastasia",
    "japaneast",
    "australiaeast",
)
"""What is asked if no regions are named: where most sizes are sold."""

_PROVIDER = "azure"
# A region is four or five slow pages, each of which must wait for the one before it.
_REGIONS_AT_ONCE = 4
_NAMES = (
    "armSkuName",
    "productName",
    "meterName",
    "unitOfMeasure",
    "armRegionName",
    "currencyCode",
)
_HOURS = re.compile(r"(\d+) Hours?\Z")
_WINDOWS = re.compile(r"\bwin(dows)?\b", re.IGNORECASE)
_SPOT = re.compile(r"\bspot\b", re.IGNORECASE)
_LOW_PRIORITY = re.compile(r"\blow priority\b", re.IGNORECASE)
# Meters of before, and of trials: not what a machine costs.
_NOT_SOLD = re.compile(r"\b(expired|free)\b", re.IGNORECASE)
# Sold under the sizes' names, at other prices, and not virtual machines of one's own.
_OTHER_PRODUCTS = re.compile(r"cloud ?services|dedicated host", re.IGNORECASE)
# https://learn.microsoft.com/azure/virtual-machines/vm-naming-conventions
_SIZE = re.compile(
    r"(?P<tier>Standard|Basic)_(?P<letters>[A-Z]+)(?P<number>\d+)(?P<constrained>-\d+)?"
    r"(?P<features>[a-z]*)(?P<rest>(?:_\w+)?)\Z"
)
# A reservation's amount is for all of its term, although its unit says "1 Hour".
_TERMS = {
    "1 Year": (Commitment.ONE_YEAR, 8760),
    "3 Years": (Commitment.THREE_YEARS, 3 * 8760),
}


def fetch_prices(
    *,
    regions: Sequence[str] | None = None,
    credentials: AzureCredentials | None = None,
    endpoint: str = ENDPOINT,
    compute_endpoint: str = COMPUTE_ENDPOINT,
    authority: str = AUTHORITY,
    currency: str = "USD",
    reservations: bool = False,
    deadline: float = 300.0,
) -> PriceList:
    """Return the hourly prices of Azure's virtual machines, Linux and Windows, on demand and spot.

    Args:
        regions: Names as in `eastus`; by default `DEFAULT_REGIONS`.
        credentials: For processors, memory and accelerators; without, they are `None`.
        endpoint: The Retail Prices API.
        compute_endpoint: Azure Resource Manager.
        authority: Where the service principal logs in.
        currency: In which currency to answer; Azure's own is USD.
        reservations: Also list reservations, their amount spread over their hours.
        deadline: Seconds for all of it.

    Raises:
        PricingError: One of its subclasses, by what went wrong.
    """
    started = time.monotonic()
    asked = tuple(DEFAULT_REGIONS if regions is None else regions)
    fetch = Fetch(
        provider=_PROVIDER,
        source=without_secrets(endpoint),
        authentication="none" if credentials is None else "service principal",
        started_at=datetime.now(timezone.utc),
        regions=asked,
        currency=currency,
        not_covered=(
            "savings plans",
            *(() if reservations else ("reservations",)),
            "low-priority machines",
            "dedicated hosts",
        ),
    )
    query = _Query(endpoint, currency, reservations)
    try:
        prices = _prices_of_regions(asked, query, fetch, deadline)
        if credentials is not None:
            sizes = Sizes(credentials, compute_endpoint, authority, fetch, started + deadline)
            prices = sizes.added_to(prices)
    finally:
        fetch.seconds = time.monotonic() - started
    return complete(prices, fetch)


# --- prices ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Query:
    endpoint: str
    currency: str
    reservations: bool

    def parameters(self, region: str) -> dict[str, str]:
        # Values are case-sensitive. `in`, `not` and long filters are refused, and
        # meterRegion='primary' would leave out Linux rows.
        kinds = "priceType eq 'Consumption'"
        if self.reservations:
            kinds = f"({kinds} or priceType eq 'Reservation')"
        return {
            "api-version": API_VERSION,
            "currencyCode": f"'{self.currency}'",
            "$filter": f"serviceName eq 'Virtual Machines' and {kinds} "
            f"and armRegionName eq '{region}'",
        }


def _prices_of_regions(
    regions: Sequence[str], query: _Query, fetch: Fetch, deadline: float
) -> list[Price]:
    """Return the prices of all regions, some regions at a time; `fetch` gets the facts of all."""
    parts = [replace(fetch, regions=(region,), skipped=type(fetch.skipped)()) for region in regions]
    stopping = Event()
    ends = time.monotonic() + deadline

    def ask(part: Fetch) -> list[Price]:
        if stopping.is_set():
            return []
        try:
            with Client(part, deadline=ends - time.monotonic()) as client:
                return list(_region(part.regions[0], query, client, stopping))
        except BaseException:
            stopping.set()  # one region failed, so has the list: the others need not go on
            raise

    try:
        with ThreadPoolExecutor(_REGIONS_AT_ONCE, thread_name_prefix="azure-prices") as threads:
            try:
                lists = list(threads.map(ask, parts))
            finally:
                stopping.set()
    except PricingError as error:
        error.fetch = fetch
        raise
    finally:
        for part in parts:
            fetch.include(part)
    return [price for prices in lists for price in prices]


def _region(region: str, query: _Query, client: Client, stopping: Event) -> Iterator[Price]:
    # `$skip` is unstable while prices change, so a region is paged by itself, in one go.
    for items in _pages(query.endpoint, query.parameters(region), client, stopping):
        now = datetime.now(timezone.utc)
        for item in items:
            price = _price(item, client, now)
            if isinstance(price, Price):
                yield price
            else:
                client.fetch.skipped[price] += 1


def _pages(
    endpoint: str, first: Mapping[str, str], client: Client, stopping: Event
) -> Iterator[list[dict[str, Any]]]:
    parameters: Mapping[str, str] | None = first
    seen: set[int] = set()
    received = 0
    while parameters is not None and not stopping.is_set():
        page = client.get_json(endpoint, parameters)
        items = _items(page, client)
        received += len(items)
        client.fetch.pages += 1
        client.fetch.rows += len(items)
        # The same rows under another link: a loop, however the link changes.
        digest = hash(repr(items))
        if items and digest in seen:
            raise client.failure(
                PricingIncomplete,
                f"Azure gives the same page again after {received} rows of "
                f"{client.fetch.regions[0]}.",
                "Try again; if it happens again, look for a cache or a gateway in between.",
            )
        seen.add(digest)
        parameters = _next_page(page.get("NextPageLink"), received, client)
        yield items


def _items(page: Any, client: Client) -> list[dict[str, Any]]:
    items = page.get("Items") if isinstance(page, dict) else None
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise malformed("Azure's answer has no list of objects named Items", client)
    if page.get("Count", len(items)) != len(items):
        raise client.failure(
            PricingIncomplete,
            f"Azure's answer counts {page['Count']} rows and holds {len(items)}.",
            "Try again.",
        )
    return items


def _next_page(link: Any, received: int, client: Client) -> Mapping[str, str] | None:
    """The next page's query. The link's host is Azure's own, which a gateway stands in for."""
    if not link:
        return None
    if not isinstance(link, str):
        raise malformed("Azure's NextPageLink is not a link", client)
    parameters = dict(parse_qsl(urlsplit(link).query, keep_blank_values=True))
    if parameters.get("$skip") != str(received):
        raise client.failure(
            PricingIncomplete,
            f"After {received} rows of {client.fetch.regions[0]} Azure's next page begins at "
            f"row {parameters.get('$skip', 'none')[:20]}.",
            "Try again; if it happens again, look for a cache or a gateway in between.",
        )
    return parameters


def _price(item: Mapping[str, Any], client: Client, now: datetime) -> Price | str:
    """Return the price in a row, or why it gives none."""
    size, product, meter, unit, region, currency = (item.get(name) for name in _NAMES)
    for text in (size, product, meter, unit, region, currency):
        if text is not None and not isinstance(text, str):
            return "a name is not as documented"
    # Some sizes have blanks at their end.
    size, region = (text and text.strip() for text in (size, region))
    if not size:
        return "no size"
    if not (product and meter and unit and region and currency):
        return "a name is missing"
    if _OTHER_PRODUCTS.search(product):
        return "no virtual machine"
    names = f"{meter} {item.get('skuName')}"
    if _LOW_PRIORITY.search(names):
        return "low priority"
    if _NOT_SOLD.search(names):
        return "a meter that is expired or free"
    if item.get("tierMinimumUnits"):
        return "a price for large amounts"
    try:
        effective = _moment(item.get("effectiveStartDate"))
        ends = _moment(item.get("effectiveEndDate"))
    except ValueError:
        return f"a date of {size[:60]} is not as documented"
    if effective is not None and effective > now:
        return "not yet in force"
    if ends is not None and ends <= now:
        return "no longer in force"
    amount = item.get("retailPrice")
    if amount is None:
        return NO_PRICE
    if not is_number(amount):
        return f"the price of {size[:60]} is not as documented"
    kind, system = item.get("type"), "Windows" if _WINDOWS.search(product) else "Linux"
    match = _HOURS.match(unit)
    if kind == "Reservation":
        unit = str(item.get("reservationTerm"))
        if unit not in _TERMS:
            return f"a reservation for {unit}"
        commitment, hours = _TERMS[unit]
    elif kind != "Consumption":
        return f"type {kind}"
    elif match is None:
        return f"unit {unit}"
    else:
        commitment, hours = Commitment.NONE, int(match[1])
    return Price(
        provider=_PROVIDER,
        region=region,
        instance_type=size,
        family=family_of(size),
        # A reservation is for the machine: it does not say what runs on it.
        operating_system=system if commitment is Commitment.NONE else None,
        purchase_option=PurchaseOption.SPOT if _SPOT.search(names) else PurchaseOption.ON_DEMAND,
        commitment=commitment,
        hourly=Decimal(amount) / hours if hours > 1 else Decimal(amount),
        currency=currency,
        amount=Decimal(amount),
        unit=unit,
        effective=effective,
        source=client.fetch.source,
        fetched_at=now,
    )


def _moment(text: Any) -> datetime | None:
    """Return a moment in UTC, if one is given.

    Raises:
        ValueError: It is none.
    """
    if not text:
        return None
    # Python 3.10 knows no Z.
    moment = datetime.fromisoformat(str(text).replace("Z", "+00:00"))
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)


def family_of(size: str) -> str | None:
    """Return the family of a size, such as `Dsv3` of `Standard_D2s_v3`.

    `None` if its price does not grow with its processors as that of the others does: some of
    its processors are switched off, and paid for (`Standard_E4-2s_v5`).
    """
    match = _SIZE.match(size)
    if match is None or match["constrained"]:
        return None
    family = match["letters"] + match["features"] + match["rest"].replace("_", "")
    if family in ("Dv2", "DSv2") and int(match["number"]) > 10:
        family += " 11-15"  # documented apart: more memory for each processor
    return family if match["tier"] == "Standard" else f"Basic {family}"

"""AWS EC2: the public files of the price list, read as they arrive. They need no credentials.

A region's file has hundreds of megabytes; no more of it is held than the prices in it.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from urllib.parse import urljoin

from clustrix_prefect.pricing.documents import complete, malformed
from clustrix_prefect.pricing.errors import PricingError, PricingIncomplete, PricingThrottled
from clustrix_prefect.pricing.fetch import Fetch, PriceList
from clustrix_prefect.pricing.http import Answer, Client, without_secrets
from clustrix_prefect.pricing.price import Price
from clustrix_prefect.pricing.providers.aws_machines import (
    FAMILIES,
    NOT_COVERED,
    machine_price,
    moment,
)

ENDPOINT = "https://pricing.us-east-1.amazonaws.com"

DEFAULT_REGIONS = ("us-east-1",)
"""One region: its file alone has hundreds of megabytes."""

_INDEX = "/offers/v1.0/aws/index.json"
_PREAMBLE = ("FormatVersion", "Disclaimer", "Publication Date", "Version", "OfferCode")

_WANTED: Mapping[str, tuple[str, ...]] = {
    "TermType": ("OnDemand",),
    "Product Family": FAMILIES,
    "Operating System": ("Linux",),
    "Tenancy": ("Shared",),
    "CapacityStatus": ("Used",),
    "MarketOption": ("OnDemand",),
    "Pre Installed S/W": ("NA", ""),
}
"""The rows that are prices as the API's filters leave them, by the file's columns."""

_ATTRIBUTES = {
    "Instance Type": "instanceType",
    "Region Code": "regionCode",
    "Operating System": "operatingSystem",
    "Tenancy": "tenancy",
    "Pre Installed S/W": "preInstalledSw",
    "vCPU": "vcpu",
    "Memory": "memory",
    "GPU": "gpu",
}
"""The API's names of the file's columns."""

_OTHERS = ("Unit", "PricePerUnit", "Currency", "EffectiveDate")

# Every value is quoted. One row in a hundred has all of these, and only that one is taken apart.
_LIKELY = tuple(f'"{values[0]}"'.encode() for values in _WANTED.values() if len(values) == 1)


def fetch_bulk_prices(
    *,
    regions: Sequence[str] | None = None,
    endpoint: str = ENDPOINT,
    deadline: float = 300.0,
) -> PriceList:
    """Return the hourly prices of EC2's machines from the public files: Linux, shared, on demand.

    Args:
        regions: AWS regions; default: us-east-1.
        endpoint: The host of the files.
        deadline: Seconds for all of it.

    Raises:
        PricingError: One of its subclasses, by what went wrong.
    """
    regions = tuple(regions or DEFAULT_REGIONS)
    fetch = Fetch(
        provider="aws",
        source=without_secrets(endpoint),
        authentication="none",
        started_at=datetime.now(timezone.utc),
        regions=regions,
        not_covered=NOT_COVERED,
    )
    prices: list[Price] = []
    with Client(fetch, deadline=deadline, judge=_judge) as client:
        files = _files(client, endpoint)
        for region in regions:
            if region in files:
                prices.extend(_prices(client, files[region]))
            else:
                fetch.skipped[f"region {region} is not in the index"] += 1
    return complete(prices, fetch)


def _judge(answer: Answer) -> type[PricingError] | None:
    # S3, where the files are, says it with a 503.
    return PricingThrottled if b"<Code>SlowDown</Code>" in answer.body else None


def _files(client: Client, endpoint: str) -> dict[str, str]:
    """Return where each region's file is: the index of offers leads to that of EC2's regions."""
    try:
        offer = client.get_json(urljoin(endpoint, _INDEX))["offers"]["AmazonEC2"]
        index = client.get_json(urljoin(endpoint, offer["currentRegionIndexUrl"]))
        client.fetch.pages += 2
        return {
            region: urljoin(endpoint, entry["currentVersionUrl"]).removesuffix(".json") + ".csv"
            for region, entry in index["regions"].items()
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise malformed(
            f"The index of {without_secrets(endpoint)} is not as documented", client
        ) from error


def _prices(client: Client, url: str) -> Iterator[Price]:
    fetch = client.fetch
    source = without_secrets(url)
    now = datetime.now(timezone.utc)
    lines = _lines(client.stream(url))
    published = _published(lines, client, source)
    columns = _columns(lines, client, source)
    wanted = [(columns[name], values) for name, values in _WANTED.items()]
    fetch.pages += 1
    for row in csv.reader(_likely(lines, fetch)):
        if len(row) != len(columns):
            raise client.failure(
                PricingIncomplete,
                f"{source} has a row of {len(row)} columns where {len(columns)} have names.",
                "Try again; if it stays so, the file is damaged.",
            )
        if all(row[column] in values for column, values in wanted):
            price = machine_price(
                {ours: row[columns[name]] for name, ours in _ATTRIBUTES.items()},
                amount=row[columns["PricePerUnit"]],
                currency=row[columns["Currency"]],
                unit=row[columns["Unit"]],
                effective=row[columns["EffectiveDate"]],
                published_at=published,
                source=source,
                fetched_at=now,
            )
            if isinstance(price, Price):
                yield price
            else:
                fetch.skipped[price] += 1


def _published(lines: Iterator[bytes], client: Client, source: str) -> datetime | None:
    preamble: dict[str, str] = {}
    for name in _PREAMBLE:
        row = next(csv.reader([next(lines, b"").decode("utf-8", "replace")]), [])
        if len(row) != 2 or row[0] != name:
            raise malformed(f"{source} does not begin with the documented five rows", client)
        preamble[name] = row[1]
    published = moment(preamble["Publication Date"])
    if published is not None:
        # Of several files the oldest counts.
        client.fetch.published_at = min(client.fetch.published_at or published, published)
    return published


def _columns(lines: Iterator[bytes], client: Client, source: str) -> dict[str, int]:
    header = next(csv.reader([next(lines, b"").decode("utf-8", "replace")]), [])
    columns = {name: index for index, name in enumerate(header)}
    missing = [name for name in (*_WANTED, *_ATTRIBUTES, *_OTHERS) if name not in columns]
    if missing or len(columns) != len(header):
        lacks = f"has no column {missing[0]!r}" if missing else "names a column twice"
        raise malformed(f"{source} {lacks}", client)
    return columns


def _lines(pieces: Iterator[bytes]) -> Iterator[bytes]:
    rest = b""
    for piece in pieces:
        *whole, rest = (rest + piece).split(b"\n")
        yield from whole
    if rest:
        yield rest


def _likely(lines: Iterator[bytes], fetch: Fetch) -> Iterator[str]:
    line, shown = b"", False
    for line in lines:
        fetch.rows += 1
        shown = all(text in line for text in _LIKELY)
        if shown:
            yield line.decode("utf-8", "replace")
    if line and not shown:
        # Whether the file ends within a row is seen from its last one.
        yield line.decode("utf-8", "replace")

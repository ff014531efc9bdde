"""AWS EC2: the Price List Query API, asked with boto3."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from clustrix_prefect.pricing.documents import NO_PRICE, complete
from clustrix_prefect.pricing.errors import PricingIncomplete, PricingMalformed
from clustrix_prefect.pricing.fetch import Fetch, PriceList
from clustrix_prefect.pricing.http import parse_json, without_secrets
from clustrix_prefect.pricing.price import Price
from clustrix_prefect.pricing.providers.aws_account import ENDPOINT, AWSCredentials
from clustrix_prefect.pricing.providers.aws_client import Asking
from clustrix_prefect.pricing.providers.aws_machines import (
    FAMILIES,
    NOT_COVERED,
    machine_price,
    moment,
)

FILTERS = {
    "operatingSystem": "Linux",
    "tenancy": "Shared",
    "preInstalledSw": "NA",
    "capacitystatus": "Used",
    "marketoption": "OnDemand",
}
"""What leaves one row for each type; without them there are about forty, some at $0."""

_EMPTY_PAGES = 3  # so many in a row, each with a next one, and it is a loop
_PRICING_HOST = re.compile(r"//api\.pricing\.([a-z0-9-]+)\.")


def fetch_api_prices(
    *,
    regions: Sequence[str],
    credentials: AWSCredentials | None = None,
    endpoint: str = ENDPOINT,
    deadline: float = 300.0,
) -> PriceList:
    """Return the hourly prices of EC2's machines from the API: Linux, shared tenancy, on demand.

    Args:
        regions: AWS regions.
        credentials: An access key; default: what boto3 finds.
        endpoint: The Price List API.
        deadline: Seconds for all of it.

    Raises:
        PricingError: One of its subclasses, by what went wrong.
    """
    fetch = Fetch(
        provider="aws",
        source=without_secrets(endpoint),
        authentication="sigv4",
        started_at=datetime.now(timezone.utc),
        regions=tuple(regions),
        not_covered=NOT_COVERED,
    )
    asking = Asking(fetch, credentials, deadline=deadline)
    host = _PRICING_HOST.search(endpoint)
    # Left to boto3, so that AWS_ENDPOINT_URL_PRICING has its usual effect.
    wanted = None if endpoint == ENDPOINT else endpoint
    client = asking.client("pricing", host[1] if host else "us-east-1", wanted)
    fetch.source = without_secrets(client.meta.endpoint_url)
    prices: list[Price] = []
    for region in regions:
        for family in FAMILIES:
            prices.extend(_offers(client, asking, region, family))
    return complete(prices, fetch)


def _offers(client: Any, asking: Asking, region: str, family: str) -> Iterator[Price]:
    fetch = asking.fetch
    filters = {"regionCode": region, "productFamily": family, **FILTERS}
    seen: set[str] = set()
    empty = 0
    pages = asking.pages(
        client,
        "get_products",
        ServiceCode="AmazonEC2",
        Filters=[
            {"Type": "TERM_MATCH", "Field": field, "Value": value}
            for field, value in filters.items()
        ],
        PaginationConfig={"PageSize": 100},
    )
    for page in pages:
        rows = _rows(page, asking)
        fetch.pages += 1
        fetch.rows += len(rows)
        empty = 0 if rows else empty + 1
        skus = {_sku(row) for row in rows}
        if empty > _EMPTY_PAGES or (skus and skus <= seen):
            raise asking.failure(
                PricingIncomplete,
                f"{fetch.source} gives the same products of {region} again and again.",
                "Try again; if it stays so, ask AWS, or the gateway in its place.",
            )
        seen |= skus
        for row in rows:
            yield from _prices(row, fetch)


def _rows(page: Mapping[str, Any], asking: Asking) -> list[Any]:
    # boto3 leaves out what it does not know: a renamed key looks like an empty page.
    if "PriceList" not in page:
        raise asking.failure(
            PricingMalformed,
            f"{asking.fetch.source} answered without a PriceList.",
            "Look whether the endpoint is AWS's own.",
        )
    try:
        rows = [parse_json(text) for text in page["PriceList"]]
    except (ValueError, TypeError, RecursionError) as error:
        raise asking.failure(
            PricingMalformed,
            f"{asking.fetch.source} answered with a PriceList that is not one of JSON texts: "
            f"{error}.",
            "Look whether the endpoint is AWS's own.",
        ) from error
    if not all(isinstance(row, dict) for row in rows):
        raise asking.failure(
            PricingMalformed,
            f"{asking.fetch.source} answered with a PriceList of something else than products.",
            "Look whether the endpoint is AWS's own.",
        )
    return rows


def _sku(row: Mapping[str, Any]) -> str:
    product = row.get("product")
    return str(product.get("sku")) if isinstance(product, dict) else ""


def _prices(row: Mapping[str, Any], fetch: Fetch) -> Iterator[Price]:
    """Yield the prices of one product; more than one only if the source is wrong."""
    now = datetime.now(timezone.utc)
    try:
        attributes = row["product"]["attributes"]
        published = moment(row.get("publicationDate"))
        if published is not None:
            # What was published longest ago tells how fresh the list is.
            fetch.published_at = min(fetch.published_at or published, published)
        terms = [
            (term, dimension)
            for term in row["terms"]["OnDemand"].values()
            for dimension in term["priceDimensions"].values()
        ]
        found = 0
        for term, dimension in terms:
            for currency, amount in dimension["pricePerUnit"].items():
                found += 1
                price = machine_price(
                    attributes,
                    amount=amount,
                    currency=currency,
                    unit=dimension["unit"],
                    effective=term.get("effectiveDate"),
                    published_at=published,
                    source=fetch.source,
                    fetched_at=now,
                )
                if isinstance(price, Price):
                    yield price
                else:
                    fetch.skipped[price] += 1
        if not found:
            fetch.skipped[NO_PRICE] += 1
    except (KeyError, TypeError, AttributeError):
        fetch.skipped["not a product with a price, as documented"] += 1

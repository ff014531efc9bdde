"""AWS EC2: the Price List Query API, asked with boto3.

The public files of the same prices are `aws_bulk`, spot prices are `aws_spot`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from decimal import Decimal, InvalidOperation
from typing import Any, Literal

from clustrix_prefect.errors import PricingIncomplete, PricingMalformed
from clustrix_prefect.pricing.documents import NO_PRICE, complete
from clustrix_prefect.pricing.fetch import Fetch, PriceList
from clustrix_prefect.pricing.http import parse_json, without_secrets
from clustrix_prefect.pricing.price import Price, PurchaseOption
from clustrix_prefect.pricing.providers.aws_client import Asking, AWSCredentials

__all__ = ["DEFAULT_REGIONS", "ENDPOINT", "NOT_COVERED", "AWSCredentials", "fetch_prices"]

ENDPOINT = "https://api.pricing.us-east-1.amazonaws.com"

DEFAULT_REGIONS = (
    "ap-northeast-1",
    "ap-northeast-2",
    "ap-northeast-3",
    "ap-south-1",
    "ap-southeast-1",
    "ap-southeast-2",
    "ca-central-1",
    "eu-central-1",
    "eu-north-1",
    "eu-west-1",
    "eu-west-2",
    "eu-west-3",
    "sa-east-1",
    "us-east-1",
    "us-east-2",
    "us-west-1",
    "us-west-2",
)
"""The regions that every AWS account can use without asking for them."""

NOT_COVERED = ("savings plans", "reserved instances", "dedicated hosts", "Windows and SQL Server")

FILTERS = {
    "operatingSystem": "Linux",
    "tenancy": "Shared",
    "preInstalledSw": "NA",
    "capacitystatus": "Used",
    "marketoption": "OnDemand",
}
"""What leaves one row for each type; without them there are about forty, some at $0."""

FAMILIES = ("Compute Instance", "Compute Instance (bare metal)")

_EMPTY_PAGES = 3  # so many in a row, each with a next one, and it is a loop
_PRICING_HOST = re.compile(r"//api\.pricing\.([a-z0-9-]+)\.")
_GIB = re.compile(r"([\d,]+(?:\.\d+)?) GiB")


def fetch_prices(
    *,
    regions: Sequence[str] | None = None,
    credentials: AWSCredentials | None = None,
    endpoint: str = ENDPOINT,
    bulk_endpoint: str | None = None,
    compute_endpoint: str | None = None,
    deadline: float = 300.0,
    source: Literal["api", "bulk"] = "api",
    spot: bool = False,
) -> PriceList:
    """The hourly prices of EC2's machines: Linux, shared tenancy, on demand; spot if wanted.

    Args:
        regions: AWS regions; default: those that every account can use (`DEFAULT_REGIONS`),
            and us-east-1 alone for the bulk files, which have hundreds of megabytes each.
        credentials: An access key; default: what boto3 finds. The bulk files need none.
        endpoint: The Price List API. There are three: us-east-1, eu-central-1, ap-south-1.
        bulk_endpoint: The host of the public files.
        compute_endpoint: EC2's API, for spot prices; `{region}` stands for the region.
        deadline: Seconds for all of it.
        source: `bulk` reads the public files.
        spot: Whether to ask for spot prices too, which needs credentials.

    Raises:
        PricingError: One of its subclasses, by what went wrong.
    """
    # These two need aws_client's or this module's names.
    from clustrix_prefect.pricing.providers import aws_bulk, aws_spot

    if source == "bulk":
        listed = aws_bulk.fetch_bulk_prices(
            regions=regions, endpoint=bulk_endpoint or aws_bulk.ENDPOINT, deadline=deadline
        )
    else:
        listed = _fetch_api_prices(regions or DEFAULT_REGIONS, credentials, endpoint, deadline)
    if not spot:
        return listed
    spots = aws_spot.fetch_spot_prices(
        regions=listed.fetch.regions,
        credentials=credentials,
        endpoint=compute_endpoint or aws_spot.ENDPOINT,
        deadline=max(0.05, deadline - listed.fetch.seconds),
    )
    listed.fetch.include(spots.fetch)
    listed.fetch.seconds += spots.fetch.seconds
    return PriceList(listed.prices + spots.prices, listed.fetch)


def _fetch_api_prices(
    regions: Sequence[str], credentials: AWSCredentials | None, endpoint: str, deadline: float
) -> PriceList:
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
    for page in _pages(client, asking, filters):
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


def _pages(client: Any, asking: Asking, filters: Mapping[str, str]) -> Iterator[Any]:
    pages = iter(
        client.get_paginator("get_products").paginate(
            ServiceCode="AmazonEC2",
            Filters=[
                {"Type": "TERM_MATCH", "Field": field, "Value": value}
                for field, value in filters.items()
            ],
            PaginationConfig={"PageSize": 100},
        )
    )
    while True:
        with asking.failures(asking.fetch.source):
            page = next(pages, None)
        if page is None:
            return
        asking.fetch.retries += page["ResponseMetadata"].get("RetryAttempts", 0)
        yield page


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
    """The prices of one product; more than one only if the source is wrong."""
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


def machine_price(
    attributes: Mapping[str, str],
    *,
    amount: Any,
    currency: str,
    unit: str,
    effective: str | None,
    published_at: datetime | None,
    source: str,
    fetched_at: datetime,
) -> Price | str:
    """The price of a machine with `attributes`, named as in the API, or why there is none."""
    kind = attributes.get("instanceType")
    region = attributes.get("regionCode")
    if not kind or not region:
        return "no instance type, or no region"
    if unit != "Hrs":
        return f"the unit is {unit!r}"
    try:
        hourly = Decimal(amount) if isinstance(amount, str) else None
    except InvalidOperation:
        hourly = None
    if hourly is None or not hourly.is_finite():
        return NO_PRICE
    software = attributes.get("preInstalledSw")
    memory = _GIB.fullmatch(attributes.get("memory") or "")
    return Price(
        provider="aws",
        region=region,
        instance_type=kind,
        family=kind.partition(".")[0],
        operating_system=attributes.get("operatingSystem"),
        licence=None if software in (None, "", "NA") else software,
        tenancy=attributes.get("tenancy"),
        purchase_option=PurchaseOption.ON_DEMAND,
        hourly=hourly,
        currency=currency,
        amount=hourly,
        unit=unit,
        vcpus=_number(attributes.get("vcpu")),
        memory_gib=Decimal(memory[1].replace(",", "")) if memory else None,
        gpu_count=_gpus(attributes.get("gpu")),
        effective=moment(effective),
        published_at=published_at,
        source=source,
        fetched_at=fetched_at,
    )


def moment(text: str | None) -> datetime | None:
    """A time or a day as AWS writes it, in UTC."""
    try:
        read = datetime.fromisoformat((text or "").replace("Z", "+00:00"))
    except (ValueError, AttributeError):
        return None
    return read.replace(tzinfo=read.tzinfo or timezone.utc).astimezone(timezone.utc)


def _number(text: str | None) -> Decimal | None:
    try:
        number = Decimal(text or "")
    except (InvalidOperation, TypeError):
        return None
    return number if number.is_finite() else None


def _gpus(text: str | None) -> int | None:
    # The list names `gpu` only where there are any.
    if text in (None, "", "NA"):
        return 0
    count = _number(text)
    return int(count) if count is not None and count == count.to_integral_value() else None

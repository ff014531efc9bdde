"""AWS EC2 spot prices: what EC2 itself says they are now, by zone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from decimal import Decimal, InvalidOperation
from typing import Any

from clustrix_prefect.pricing.documents import NO_PRICE, complete
from clustrix_prefect.pricing.errors import PricingIncomplete, PricingMalformed
from clustrix_prefect.pricing.fetch import Fetch, PriceList
from clustrix_prefect.pricing.http import without_secrets
from clustrix_prefect.pricing.price import Price, PurchaseOption
from clustrix_prefect.pricing.providers.aws_account import AWSCredentials
from clustrix_prefect.pricing.providers.aws_client import Asking

ENDPOINT = "https://ec2.{region}.amazonaws.com"

LINUX = "Linux/UNIX"
"""What EC2 calls the machines that the price list calls Linux."""


def fetch_spot_prices(
    *,
    regions: Sequence[str],
    credentials: AWSCredentials | None = None,
    endpoint: str = ENDPOINT,
    deadline: float = 300.0,
) -> PriceList:
    """Return the spot prices of EC2's Linux machines at this moment, by zone.

    EC2 says neither the currency, which its documents say is USD, nor what a machine has.

    Args:
        regions: AWS regions.
        credentials: An access key; default: what boto3 finds.
        endpoint: EC2's API; `{region}` stands for the region.
        deadline: Seconds for all of it.

    Raises:
        PricingError: One of its subclasses, by what went wrong.
    """
    fetch = Fetch(
        provider="aws",
        source=without_secrets(endpoint.replace("{region}", regions[0])),
        authentication="sigv4",
        started_at=datetime.now(timezone.utc),
        regions=tuple(regions),
    )
    asking = Asking(fetch, credentials, deadline=deadline)
    prices: list[Price] = []
    for region in regions:
        prices.extend(_of_region(asking, region, endpoint))
    return complete(prices, fetch)


def _of_region(asking: Asking, region: str, endpoint: str) -> Iterator[Price]:
    fetch = asking.fetch
    now = datetime.now(timezone.utc)
    # Left to boto3, so that AWS_ENDPOINT_URL_EC2 has its usual effect, and China its own host.
    wanted = None if endpoint == ENDPOINT else endpoint.replace("{region}", region)
    client = asking.client("ec2", region, wanted)
    source = without_secrets(client.meta.endpoint_url)
    # The history may hold older prices of a machine beside the one that holds.
    latest: dict[tuple[str, str], Any] = {}
    seen: set[tuple[Any, ...]] = set()
    pages = asking.pages(
        client,
        "describe_spot_price_history",
        ProductDescriptions=[LINUX],
        StartTime=now,
        PaginationConfig={"PageSize": 1000},
    )
    for page in pages:
        # boto3 leaves out what it does not know: a renamed element looks like an empty page.
        if "SpotPriceHistory" not in page:
            raise asking.failure(
                PricingMalformed,
                f"{source} answered without a spotPriceHistorySet.",
                "Look whether the endpoint is AWS's own.",
            )
        rows = page["SpotPriceHistory"]
        fetch.pages += 1
        fetch.rows += len(rows)
        news = False
        for row in rows:
            key = (row.get("AvailabilityZone"), row.get("InstanceType"))
            when = row.get("Timestamp")
            if not all(key) or when is None:
                fetch.skipped["no zone, type or time"] += 1
                continue
            news = news or (*key, when) not in seen
            seen.add((*key, when))
            if key not in latest or when > latest[key]["Timestamp"]:
                latest[key] = row
        if rows and not news:
            raise asking.failure(
                PricingIncomplete,
                f"{source} gives the same spot prices again and again.",
                "Try again; if it stays so, ask AWS, or the gateway in its place.",
            )
    for (zone, kind), row in latest.items():
        amount = _amount(row.get("SpotPrice"))
        if amount is None:
            fetch.skipped[NO_PRICE] += 1
            continue
        yield Price(
            provider="aws",
            region=region,
            zone=zone,
            instance_type=kind,
            family=kind.partition(".")[0],
            operating_system="Linux",
            purchase_option=PurchaseOption.SPOT,
            hourly=amount,
            currency="USD",
            amount=amount,
            unit="hour",
            effective=row["Timestamp"].astimezone(timezone.utc),
            source=source,
            fetched_at=now,
        )


def _amount(text: str | None) -> Decimal | None:
    try:
        amount = Decimal(text or "")
    except InvalidOperation:
        return None
    return amount if amount.is_finite() else None

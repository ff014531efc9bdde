"""AWS EC2, by two ways: the Price List API, and the public files of the same prices.

The API is `aws_api`, the files are `aws_bulk`, spot prices are `aws_spot`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from clustrix_prefect.pricing.fetch import PriceList
from clustrix_prefect.pricing.local_zones import region_around
from clustrix_prefect.pricing.providers.aws_account import ENDPOINT, AWSCredentials

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
    """Return the hourly prices of EC2's machines: Linux, shared tenancy, on demand; spot if wanted.

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
    # The API and spot prices need boto3, which the public files do without.
    if source == "bulk":
        from clustrix_prefect.pricing.providers import aws_bulk

        listed = aws_bulk.fetch_bulk_prices(
            regions=regions, endpoint=bulk_endpoint or aws_bulk.ENDPOINT, deadline=deadline
        )
    else:
        from clustrix_prefect.pricing.providers import aws_api

        listed = aws_api.fetch_api_prices(
            regions=regions or DEFAULT_REGIONS,
            credentials=credentials,
            endpoint=endpoint,
            deadline=deadline,
        )
    if not spot:
        return listed
    from clustrix_prefect.pricing.providers import aws_spot

    spots = aws_spot.fetch_spot_prices(
        # EC2 answers for a Local Zone where it does for the region around it.
        regions=tuple(dict.fromkeys(map(region_around, listed.fetch.regions))),
        credentials=credentials,
        endpoint=compute_endpoint or aws_spot.ENDPOINT,
        deadline=max(0.05, deadline - listed.fetch.seconds),
    )
    listed.fetch.include(spots.fetch)
    listed.fetch.seconds += spots.fetch.seconds
    return PriceList(listed.prices + spots.prices, listed.fetch)

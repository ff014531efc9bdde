"""apache-libcloud's table of prices, a real and dirty one, as the prices and checks see it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timezone
from decimal import Decimal
from functools import lru_cache
from importlib.resources import files
from typing import Any

from clustrix_prefect.pricing.checks import Level, run_checks
from clustrix_prefect.pricing.checks.running import Asked
from clustrix_prefect.pricing.fetch import Fetch, PriceList
from clustrix_prefect.pricing.price import Price, PurchaseOption

NOW = datetime.now(timezone.utc)


@lru_cache
def table() -> dict[str, Any]:
    """The part of the table on computers, numbers as they are written."""
    text = files("libcloud").joinpath("data/pricing.json").read_text()
    found: dict[str, Any] = json.loads(text, parse_float=Decimal, parse_int=Decimal)["compute"]
    return found


def aws(region: str) -> PriceList:
    """`ec2_linux`: a row for each type, a column for each region."""
    rows = ((name, row[region]) for name, row in table()["ec2_linux"].items() if region in row)
    return _listed("aws", region, rows, "ec2_linux")


def aws_second(part: str, region: str) -> PriceList:
    """`ec2_us_east` and its like: the same prices, written down another time."""
    return _listed("aws", region, table()[part].items(), part)


def _listed(provider: str, region: str, rows: Any, part: str) -> PriceList:
    fetch = Fetch(provider=provider, source=part, authentication="none", started_at=NOW)
    return PriceList(tuple(_prices(provider, region, rows, part)), fetch)


def _prices(provider: str, region: str, rows: Any, part: str) -> Iterator[Price]:
    for name, amount in rows:
        yield Price(
            provider=provider,
            region=region,
            instance_type=name,
            operating_system="Linux",
            purchase_option=PurchaseOption.ON_DEMAND,
            hourly=amount,
            currency="USD",
            amount=amount,
            unit="Hrs",
            source=part,
            fetched_at=NOW,
        )


def flagged(first: PriceList, second: PriceList | None = None) -> dict[str, set[str]]:
    """The types that each check finds wrong."""
    asked = Asked(provider=first.fetch.provider, answer=first, second=second)
    return {
        finding.check: {evidence.instance_type for evidence in finding.evidence} - {""}
        for finding in run_checks([asked])
        if finding.level is not Level.OK
    }

"""What the API's products and the rows of the public files have in common: a machine's price."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timezone
from decimal import Decimal, InvalidOperation
from typing import Any

from clustrix_prefect.pricing.accelerators import is_accelerated
from clustrix_prefect.pricing.documents import NO_PRICE
from clustrix_prefect.pricing.price import Price, PurchaseOption

FAMILIES = ("Compute Instance", "Compute Instance (bare metal)")
"""The product families that are machines."""

NOT_COVERED = ("savings plans", "reserved instances", "dedicated hosts", "Windows and SQL Server")

_GIB = re.compile(r"([\d,]+(?:\.\d+)?) GiB")


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
        gpu_count=_gpus(attributes.get("gpu"), kind),
        effective=moment(effective),
        published_at=published_at,
        source=source,
        fetched_at=fetched_at,
    )


def moment(text: str | None) -> datetime | None:
    """Return a time or a day as AWS writes it, in UTC."""
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


def _gpus(text: str | None, kind: str) -> int | Decimal | None:
    # The list names `gpu` only where there are any, and no other accelerator.
    if text in (None, "", "NA"):
        return None if is_accelerated("aws", kind) else 0
    count = _number(text)
    if count is None:
        return None
    return int(count) if count == count.to_integral_value() else count

"""Lambda's GPU machines: one list, with a key.

The price is the same in every region, so it has none. The regions in the list are those with
machines to spare at the moment: none means sold out, not gone.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from decimal import Decimal
from threading import Lock
from typing import Any

from pydantic import SecretStr

from clustrix_prefect.pricing.documents import NO_PRICE, is_number, malformed, price_list
from clustrix_prefect.pricing.errors import (
    PricingError,
    PricingForbidden,
    PricingThrottled,
    PricingUnauthorised,
    PricingUnreachable,
)
from clustrix_prefect.pricing.fetch import Fetch, PriceList
from clustrix_prefect.pricing.http import Answer, Client, parse_json, without_secrets
from clustrix_prefect.pricing.price import Price, PurchaseOption

ENDPOINT = "https://cloud.lambda.ai/api/v1"

SECONDS_BETWEEN_REQUESTS = 1.0
"""What the API's documents ask for: "generally limited to one request per second"."""

_PROVIDER = "lambda_cloud"
_COUNTED = re.compile(r"(?:gpu|cpu)_\d+x_(?P<family>\w+)\Z")  # gpu_8x_h100_sxm5
_GPU = re.compile(r"(?P<model>.+?) \((?P<memory>\d+) GB[^)]*\)\Z")  # "H100 (80 GB SXM5)"


_KINDS: Mapping[str, type[PricingError]] = {
    "global/invalid-api-key": PricingUnauthorised,
    "global/account-inactive": PricingForbidden,
    "global/quota-exceeded": PricingThrottled,
    "provider/internal-unavailable": PricingUnreachable,
}


@dataclass(frozen=True, slots=True)
class LambdaCredentials:
    """A key of the Cloud API.

    Attributes:
        api_key: As the Lambda console shows it once.
    """

    api_key: SecretStr


def fetch_prices(
    *,
    regions: Sequence[str] | None = None,
    credentials: LambdaCredentials | None = None,
    endpoint: str = ENDPOINT,
    deadline: float = 300.0,
) -> PriceList:
    """Return the hourly prices of Lambda's machines, on demand.

    Args:
        regions: Without effect: the price is the same in all.
        credentials: The key; Lambda answers nobody without.
        endpoint: The API, up to and with its version; `https://cloud.lambdalabs.com/api/v1` is
            its older host.
        deadline: Seconds for all of it.

    Raises:
        PricingError: One of its subclasses, by what went wrong.
    """
    url = f"{endpoint.rstrip('/')}/instance-types"
    fetch = Fetch(
        provider=_PROVIDER,
        source=without_secrets(url),
        authentication="none" if credentials is None else "bearer",
        started_at=datetime.now(timezone.utc),
        not_covered=("reserved clusters",),
    )
    headers = {}
    if credentials is not None:
        headers["Authorization"] = f"Bearer {credentials.api_key.get_secret_value()}"
    with (
        _paced(url),
        Client(
            fetch,
            deadline=deadline,
            interval=SECONDS_BETWEEN_REQUESTS,
            headers=headers,
            judge=_judge,
        ) as client,
    ):
        return price_list(_prices(client.get_json(url), client), client)


@contextmanager
def _paced(url: str) -> Iterator[None]:
    """The rate limit is the account's: flows of one process ask one after the other."""
    with _pacing:
        pace = _paces.setdefault(url, _Pace())
    with pace.lock:
        time.sleep(max(0.0, pace.ended + SECONDS_BETWEEN_REQUESTS - time.monotonic()))
        try:
            yield
        finally:
            pace.ended = time.monotonic()


class _Pace:
    """When one address was asked last, and who asks at present."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.ended = -math.inf


_pacing = Lock()
_paces: dict[str, _Pace] = {}


def _judge(answer: Answer) -> type[PricingError] | None:
    """The API's own word on a refusal: a quota that is used up is not a lack of permission."""
    try:
        return _KINDS.get(parse_json(answer.body)["error"]["code"])
    except (ValueError, KeyError, TypeError):
        return None  # a gateway's page


def _prices(document: Any, client: Client) -> Iterator[Price | str]:
    types = document.get("data") if isinstance(document, dict) else None
    if not isinstance(types, dict):
        raise malformed("Lambda's answer has no object named data", client)
    client.fetch.pages += 1
    client.fetch.rows += len(types)
    for name, entry in types.items():
        described = entry.get("instance_type") if isinstance(entry, dict) else None
        if not isinstance(described, dict):
            yield f"the entry {name[:60]} is not as documented"
            continue
        if described.get("name") != name:
            raise malformed(f"The entry {name[:60]!r} describes another type", client)
        yield _price(described, client)


def _price(described: Mapping[str, Any], client: Client) -> Price | str:
    name = described["name"]
    cents = described.get("price_cents_per_hour")
    if cents is None:
        return NO_PRICE
    specs = described.get("specs")
    # One odd entry costs one entry, and is counted.
    if not is_number(cents):
        return f"the price of {name[:60]} is not as documented"
    if not isinstance(specs, dict) or not all(is_number(value) for value in specs.values()):
        return f"the specs of {name[:60]} are not as documented"
    gpu = _GPU.match(str(described.get("gpu_description") or ""))
    gpus = specs.get("gpus")
    counted = _COUNTED.match(name)
    return Price(
        provider=_PROVIDER,
        region=None,
        instance_type=name,
        family=counted["family"] if counted else None,
        purchase_option=PurchaseOption.ON_DEMAND,
        hourly=Decimal(cents) / 100,
        currency="USD",  # "in US cents per hour", say the API's documents
        amount=Decimal(cents),
        unit="US cents per hour",
        vcpus=_decimal(specs.get("vcpus")),
        memory_gib=_decimal(specs.get("memory_gib")),
        gpu_count=None if gpus is None else int(gpus),
        gpu_model=gpu["model"] if gpu and gpus else None,
        gpu_memory_gib=Decimal(gpu["memory"]) if gpu and gpus else None,
        source=client.fetch.source,
        fetched_at=datetime.now(timezone.utc),
    )


def _decimal(value: int | Decimal | None) -> Decimal | None:
    return None if value is None else Decimal(value)

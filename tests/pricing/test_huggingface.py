"""Hugging Face: two lists, priced by the minute."""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from pydantic import SecretStr

from clustrix_prefect.pricing.errors import (
    PricingError,
    PricingIncomplete,
    PricingMalformed,
    PricingThrottled,
    PricingUnauthorised,
    PricingUnreachable,
)
from clustrix_prefect.pricing.fetch import PriceList
from clustrix_prefect.pricing.price import Price
from clustrix_prefect.pricing.providers import huggingface
from tests.pricing.servers.faults import Fault
from tests.pricing.servers.huggingface import TOKEN, HuggingFaceServer
from tests.pricing.servers.tls import Reply, Request

# https://huggingface.co/docs/hub/jobs-pricing
DOLLARS_AN_HOUR = {
    "cpu-basic": "0.01",
    "cpu-upgrade": "0.03",
    "cpu-xl": "1.00",
    "t4-small": "0.40",
    "t4-medium": "0.60",
    "l4x1": "0.80",
    "l4x4": "3.80",
    "a10g-small": "1.00",
    "a10g-largex2": "3.00",
    "a100-large": "2.50",
    "h200x8": "40.00",
}


@pytest.fixture
def server() -> Iterator[HuggingFaceServer]:
    with HuggingFaceServer() as running:
        yield running


def ask(server: HuggingFaceServer, **options: Any) -> PriceList:
    return huggingface.fetch_prices(endpoint=server.url, **{"deadline": 20, **options})


def one(prices: PriceList, name: str, product: str = "Jobs") -> Price:
    (price,) = (p for p in prices.prices if (p.instance_type, p.licence) == (name, product))
    return price


def test_minutes_make_the_hours_that_are_published(server: HuggingFaceServer) -> None:
    prices = ask(server, products=["jobs"])
    assert len(prices.prices) == len(DOLLARS_AN_HOUR)
    for name, dollars in DOLLARS_AN_HOUR.items():
        assert abs(one(prices, name).hourly - Decimal(dollars)) <= Decimal("0.00003")
    price = one(prices, "t4-small")
    assert price.hourly == Decimal("0.40002")
    assert (price.amount, price.unit, price.currency) == (Decimal("0.006667"), "minute", "USD")


def test_spaces_and_jobs_are_two_prices(server: HuggingFaceServer) -> None:
    prices = ask(server)
    assert len({price.key for price in prices.prices}) == len(prices.prices) == 23
    assert one(prices, "cpu-basic", "Spaces").hourly == 0
    assert one(prices, "zero-a10g", "Spaces").hourly == 0
    assert one(prices, "cpu-basic", "Jobs").hourly == Decimal("0.01002")
    assert [request.path for request in server.requests] == [
        "/api/spaces/hardware",
        "/api/jobs/hardware",
    ]


def test_a_price_carries_what_the_row_says(server: HuggingFaceServer) -> None:
    price = one(ask(server), "l4x4")
    assert (price.region, price.vcpus, price.memory_gib) == (None, 48, 186)
    assert (price.gpu_count, price.gpu_model, price.gpu_memory_gib) == (4, "L4", 24)
    assert one(ask(server), "cpu-basic").gpu_count == 0
    assert price.operating_system is price.family is price.effective is None


def test_the_quota_is_noted_and_no_token_is_sent(server: HuggingFaceServer) -> None:
    fetch = ask(server).fetch
    assert (fetch.quota_remaining, fetch.quota_limit) == (498, 500)
    assert fetch.authentication == "none"
    assert not server.requests[0].header("Authorization")


def test_a_token_is_sent_and_can_expire(server: HuggingFaceServer) -> None:
    token = huggingface.HuggingFaceCredentials(SecretStr(TOKEN))
    assert ask(server, credentials=token).fetch.authentication == "bearer"
    assert server.requests[0].header("Authorization") == f"Bearer {TOKEN}"
    server.fault = Fault.EXPIRED_TOKEN
    with pytest.raises(PricingUnauthorised):
        ask(server, credentials=token)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Fault.OBJECTS, PricingMalformed),
        (Fault.RENAMED_KEY, PricingMalformed),
        (Fault.HTML_200, PricingMalformed),
        (Fault.HTML_502, PricingUnreachable),
        (Fault.RESET, PricingUnreachable),
        (Fault.TRUNCATED_BODY, PricingIncomplete),
        (Fault.ALWAYS_429, PricingThrottled),
        (Fault.SLOW_BODY, PricingUnreachable),
    ],
)
def test_what_goes_wrong_has_its_name(
    server: HuggingFaceServer, fault: Fault, kind: type[PricingError]
) -> None:
    server.fault = fault
    with pytest.raises(kind) as raised:
        ask(server, deadline=2)
    assert type(raised.value) is kind
    assert raised.value.provider == "huggingface"
    assert raised.value.fetch.requests == len(server.requests)


def test_the_end_of_the_quotas_window_is_waited_for(server: HuggingFaceServer) -> None:
    server.fault = Fault.BURST_429
    fetch = ask(server).fetch
    assert (fetch.throttled, fetch.retries) == (3, 3)
    assert fetch.seconds > 2.9  # three times t=1


ROW = {
    "name": "t4-small",
    "cpu": "4 vCPU",
    "ram": "15 GB",
    "accelerator": None,
    "unitCostMicroUSD": 6667,
    "unitCostUSD": 0.006667,
    "unitLabel": "minute",
}


class OneRow(HuggingFaceServer):
    """Answers with a row that a test made."""

    def __init__(self, **change: Any) -> None:
        super().__init__()
        self._rows = [ROW, {**ROW, "name": "other", **change}]

    def answer(self, request: Request) -> Reply:
        return Reply.json(self._rows)


@pytest.mark.parametrize(
    "change",
    [
        {"unitCostUSD": 0.4},  # an hour's
        {"unitCostUSD": "0.006667"},
        {"unitCostMicroUSD": True, "unitCostUSD": 0.000001},
        {"accelerator": "T4"},
        {"accelerator": {"model": "T4", "quantity": "one"}},
        {"accelerator": {"model": "T4", "quantity": "1/2"}},
        {"name": None},
        {"unitLabel": 60},
    ],
)
def test_an_odd_row_costs_one_row(change: dict[str, Any]) -> None:
    with OneRow(**change) as server:
        prices = ask(server, products=["spaces"])
    assert [price.instance_type for price in prices.prices] == ["t4-small"]
    ((reason, count),) = prices.fetch.skipped.items()
    assert count == 1
    assert re.search("not as documented|is missing", reason)


def test_odd_rows_alone_are_no_list() -> None:
    with OneRow() as server:
        server._rows = [{**ROW, "unitCostUSD": "free"}]
        with pytest.raises(PricingMalformed, match="Not one of 1 rows"):
            ask(server, products=["spaces"])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"unitCostMicroUSD": None}, "no price"),
        ({"unitLabel": "month"}, "unit month"),
    ],
)
def test_rows_that_are_no_price_are_counted(change: dict[str, Any], reason: str) -> None:
    with OneRow(**change) as server:
        prices = ask(server, products=["jobs"])
    assert [price.instance_type for price in prices.prices] == ["t4-small"]
    assert prices.fetch.skipped == {reason: 1}


def test_other_units_that_are_known_are_converted() -> None:
    with OneRow(unitLabel="hour") as server:
        prices = ask(server, products=["jobs"])
    assert one(prices, "other").hourly == Decimal("0.006667")

"""Lambda: one list, one request a second."""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterator
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest
from pydantic import SecretStr

from clustrix_prefect.pricing.errors import (
    PricingError,
    PricingForbidden,
    PricingIncomplete,
    PricingMalformed,
    PricingThrottled,
    PricingUnauthorised,
    PricingUnreachable,
)
from clustrix_prefect.pricing.fetch import PriceList
from clustrix_prefect.pricing.providers import lambda_cloud
from tests.pricing.servers.faults import Fault
from tests.pricing.servers.lambda_cloud import KEY, LambdaServer
from tests.pricing.servers.tls import Reply, Request


@pytest.fixture
def server() -> Iterator[LambdaServer]:
    with LambdaServer() as running:
        yield running


def ask(server: LambdaServer, key: str | None = KEY, **options: Any) -> PriceList:
    return lambda_cloud.fetch_prices(
        endpoint=server.endpoint,
        credentials=None if key is None else lambda_cloud.LambdaCredentials(SecretStr(key)),
        **{"deadline": 20, **options},
    )


def test_prices_as_lambda_lists_them(server: LambdaServer) -> None:
    prices = ask(server)
    assert {price.instance_type: price.hourly for price in prices.prices} == {
        "gpu_1x_a10": Decimal("0.75"),
        "gpu_1x_a6000": Decimal("1.09"),
        "gpu_2x_a6000": Decimal("2.18"),
        "gpu_4x_a6000": Decimal("4.36"),
        "gpu_1x_a100_sxm4": Decimal("1.48"),  # sold out, and still for sale
        "gpu_8x_a100_80gb_sxm4": Decimal("15.92"),
        "gpu_1x_h100_pcie": Decimal("2.49"),
        "gpu_1x_h100_sxm5": Decimal("3.29"),
        "gpu_8x_h100_sxm5": Decimal("23.92"),
        "gpu_1x_gh200": Decimal("1.49"),
        "gpu_8x_b200_sxm6": Decimal("39.92"),
    }
    assert (prices.fetch.authentication, prices.fetch.requests) == ("bearer", 1)
    assert server.requests[0].header("Authorization") == f"Bearer {KEY}"


def test_a_price_carries_what_the_entry_says(server: LambdaServer) -> None:
    (price,) = (p for p in ask(server).prices if p.instance_type == "gpu_8x_h100_sxm5")
    assert (price.region, price.family) == (None, "h100_sxm5")
    assert (price.amount, price.unit, price.currency) == (2392, "US cents per hour", "USD")
    assert (price.vcpus, price.memory_gib) == (208, 1800)
    assert (price.gpu_count, price.gpu_model, price.gpu_memory_gib) == (8, "H100", 80)
    assert price.operating_system is price.tenancy is price.effective is None


def test_one_request_a_second_also_of_several_flows() -> None:
    class Clocked(LambdaServer):
        """Says once that it is out of order; its own limit would answer 429."""

        times: list[float]

        def answer(self, request: Request) -> Reply:
            self.times.append(time.monotonic())
            return Reply.html(503, "503") if len(self.times) == 1 else super().answer(request)

    with Clocked() as server:
        server.times = []
        assert ask(server).fetch.retries == 1
        assert ask(server).fetch.throttled == 0
        gaps = [after - before for before, after in pairwise(server.times)]
    assert len(gaps) == 2
    assert min(gaps) >= 0.95


def test_the_limit_of_the_server_is_real(server: LambdaServer) -> None:
    """Without it the test above could not fail."""
    from clustrix_prefect.pricing.fetch import Fetch
    from clustrix_prefect.pricing.http import Client

    fetch = Fetch(provider="x", source="", authentication="none", started_at=None)  # type: ignore[arg-type]
    with Client(
        fetch, deadline=5, attempts=1, headers={"Authorization": f"Bearer {KEY}"}
    ) as client:
        client.get_json(f"{server.endpoint}/instance-types")
        with pytest.raises(PricingThrottled):
            client.get_json(f"{server.endpoint}/instance-types")


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Fault.EXPIRED_TOKEN, PricingUnauthorised),
        (Fault.FORBIDDEN, PricingForbidden),
        (Fault.OBJECTS, PricingMalformed),
        (Fault.RENAMED_KEY, PricingMalformed),
        (Fault.DUPLICATE_IDS, PricingMalformed),
        (Fault.HTML_200, PricingMalformed),
        (Fault.HTML_502, PricingUnreachable),
        (Fault.RESET, PricingUnreachable),
        (Fault.TRUNCATED_BODY, PricingIncomplete),
        (Fault.ALWAYS_429, PricingThrottled),
        (Fault.SLOW_BODY, PricingUnreachable),
    ],
)
def test_what_goes_wrong_has_its_name(
    server: LambdaServer, fault: Fault, kind: type[PricingError]
) -> None:
    server.fault = fault
    with pytest.raises(kind) as raised:
        ask(server, deadline=2)
    assert type(raised.value) is kind
    assert raised.value.provider == "lambda_cloud"
    assert raised.value.remedy
    assert raised.value.fetch.requests == len(server.requests)


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (403, "global/quota-exceeded", PricingThrottled),
        (400, "global/account-inactive", PricingForbidden),
        (503, "provider/internal-unavailable", PricingUnreachable),
        (403, "something/else", PricingForbidden),
    ],
)
def test_the_codes_of_the_api_count(status: int, code: str, kind: type[PricingError]) -> None:
    class Refusing(LambdaServer):
        def answer(self, request: Request) -> Reply:
            return Reply.json({"error": {"code": code, "message": "No."}}, status)

    with Refusing() as server, pytest.raises(kind) as raised:
        ask(server, deadline=1)
    assert type(raised.value) is kind


def test_without_a_key_or_with_a_wrong_one(server: LambdaServer) -> None:
    with pytest.raises(PricingUnauthorised):
        ask(server, None)
    wrong = "_".join(("secret", "wrong"))
    with pytest.raises(PricingUnauthorised) as raised:
        ask(server, wrong)
    assert wrong not in "".join(traceback.format_exception(raised.value))
    assert wrong not in repr(raised.value.fetch)


def test_an_entry_without_a_price_is_counted(server: LambdaServer) -> None:
    server.fault = Fault.MISSING_PRICE
    prices = ask(server)
    assert len(prices.prices) == 10
    assert prices.fetch.skipped == {"no price": 1}


@pytest.mark.parametrize(
    "change",
    [
        {"specs": None},
        {"specs": {"vcpus": "many", "memory_gib": 1, "storage_gib": 1, "gpus": 1}},
        {"price_cents_per_hour": "1.09"},
        {"price_cents_per_hour": True},
    ],
)
def test_an_odd_entry_costs_one_entry(change: dict[str, Any]) -> None:
    class Odd(LambdaServer):
        def _spoilt(self) -> Iterator[tuple[str, dict[str, Any]]]:
            for number, (name, entry) in enumerate(super()._spoilt()):
                if number == 0:
                    entry["instance_type"] |= change
                yield name, entry
            yield "gpu_of_nothing", {"instance_type": None}

    with LambdaServer() as server:
        every = len(ask(server).prices)
    with Odd() as server:
        prices = ask(server)
    assert len(prices.prices) == every - 1
    assert list(prices.fetch.skipped.values()) == [1, 1]
    assert all("not as documented" in reason for reason in prices.fetch.skipped)

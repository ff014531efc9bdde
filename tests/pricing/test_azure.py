"""Azure: rows told apart, pages read to their end and no further, sizes with credentials."""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
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
from clustrix_prefect.pricing.price import Commitment, Price, PurchaseOption
from clustrix_prefect.pricing.providers import azure
from tests.pricing.servers.azure import CLIENT, SECRET, SUBSCRIPTION, TENANT, AzureServer, row
from tests.pricing.servers.faults import Fault
from tests.pricing.servers.tls import Reply, Request

CREDENTIALS = azure.AzureCredentials(SUBSCRIPTION, TENANT, CLIENT, SecretStr(SECRET))


@pytest.fixture
def server() -> Iterator[AzureServer]:
    # A region has 81 rows with those of reservations: several pages each.
    with AzureServer(page_size=20) as running:
        yield running


def ask(server: AzureServer, *regions: str, **options: Any) -> PriceList:
    return azure.fetch_prices(
        regions=regions or ("eastus", "westeurope"),
        endpoint=server.prices_url,
        compute_endpoint=server.url,
        authority=server.url,
        **{"deadline": 20, **options},
    )


def one(prices: PriceList, size: str, region: str = "eastus", **fields: Any) -> Price:
    wanted = {"operating_system": "Linux", "purchase_option": PurchaseOption.ON_DEMAND, **fields}
    found = [
        price
        for price in prices.prices
        if price.instance_type == size
        and price.region == region
        and all(getattr(price, name) == value for name, value in wanted.items())
    ]
    assert len(found) == 1, found
    return found[0]


# --- what the rows say ----------------------------------------------------------------------


def test_six_rows_of_a_size_are_told_apart(server: AzureServer) -> None:
    prices = ask(server, "eastus")
    found = {
        (price.operating_system, price.purchase_option.value): price.hourly
        for price in prices.prices
        if price.instance_type == "Standard_D2s_v3"
    }
    assert found == {
        ("Linux", "on-demand"): Decimal("0.096"),
        ("Windows", "on-demand"): Decimal("0.188"),
        ("Linux", "spot"): Decimal("0.0188"),
        ("Windows", "spot"): Decimal("0.0368"),
    }
    assert len({price.key for price in prices.prices}) == len(prices.prices) == 40
    assert prices.fetch.skipped == {"low priority": 20, "no virtual machine": 1}


def test_products_that_say_win_are_windows(server: AzureServer) -> None:
    prices = ask(server, "eastus")
    size = "Standard_NC40ads_H100_v5"
    assert one(prices, size).hourly == Decimal("6.98")
    assert one(prices, size, operating_system="Windows").hourly == Decimal("8.82")


def test_a_price_carries_what_the_row_says(server: AzureServer) -> None:
    price = one(ask(server), "Standard_D2s_v3", "westeurope")
    assert price.hourly == price.amount == Decimal("0.12")
    assert (price.currency, price.unit, price.family) == ("USD", "1 Hour", "Dsv3")
    assert price.effective is not None
    assert price.effective.isoformat() == "2021-11-01T00:00:00+00:00"
    assert price.commitment is Commitment.NONE
    # The list of prices says nothing of these.
    assert price.vcpus is price.memory_gib is price.gpu_count is price.licence is None
    assert price.published_at is None


def test_other_currencies_are_not_converted(server: AzureServer) -> None:
    price = one(ask(server, "eastus", currency="EUR"), "Standard_D2s_v3")
    assert (price.currency, price.hourly) == ("EUR", Decimal("0.096"))


def test_reservations_are_not_hourly(server: AzureServer) -> None:
    prices = ask(server, "eastus", reservations=True)
    year = one(prices, "Standard_D2s_v3", operating_system=None, commitment=Commitment.ONE_YEAR)
    assert (year.amount, year.unit) == (Decimal(505), "1 Year")
    assert year.hourly == Decimal(505) / 8760
    three = one(prices, "Standard_D2s_v3", operating_system=None, commitment=Commitment.THREE_YEARS)
    assert three.hourly == Decimal(959) / 26280
    assert "reservations" not in prices.fetch.not_covered
    assert "reservations" in ask(server, "eastus").fetch.not_covered


VM = ("eastus", "Standard_D2s_v3", "Virtual Machines DSv3 Series")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"armSkuName": ""}, "no size"),
        ({"productName": None}, "a name is missing"),
        ({"productName": "Eadsv5 Series CloudServices"}, "no virtual machine"),
        ({"productName": "DSv3 Series Dedicated Host"}, "no virtual machine"),
        ({"tierMinimumUnits": 100.0}, "a price for large amounts"),
        ({"effectiveStartDate": "2999-01-01T00:00:00Z"}, "not yet in force"),
        ({"effectiveEndDate": "2024-01-01T00:00:00Z"}, "no longer in force"),
        ({"retailPrice": None}, "no price"),
        ({"unitOfMeasure": "1/Month"}, "unit 1/Month"),
        ({"type": "DevTestConsumption", "priceType": "x"}, None),
    ],
)
def test_rows_that_are_no_hourly_price_are_counted(
    change: dict[str, Any], reason: str | None
) -> None:
    good = row(*VM, "D2s v3", 0.096)
    other = {**row(*VM, "D4s v3", 0.2), **change}
    with AzureServer([good, other]) as server:
        prices = ask(server, "eastus")
    assert [price.hourly for price in prices.prices] == [Decimal("0.096")]
    # Azure itself leaves out what is not asked for.
    assert prices.fetch.skipped == ({reason: 1} if reason else {})


def test_a_price_for_several_hours_is_divided() -> None:
    with AzureServer([{**row(*VM, "D2s v3", 9.6), "unitOfMeasure": "100 Hours"}]) as server:
        (price,) = ask(server, "eastus").prices
    assert (price.hourly, price.amount, price.unit) == (
        Decimal("0.096"),
        Decimal("9.6"),
        "100 Hours",
    )


@pytest.mark.parametrize(
    ("size", "family"),
    [
        ("Standard_D2s_v3", "Dsv3"),
        ("Standard_D64s_v3", "Dsv3"),
        ("Standard_E4-2s_v5", None),  # constrained
        ("Standard_B1ls", "Bls"),
        ("Standard_NC24ads_A100_v4", "NCadsA100v4"),
        ("Standard_DS3_v2", "DSv2"),
        ("Standard_DS13_v2", "DSv2 11-15"),
        ("Standard_A1_v2", "Av2"),
        ("Basic_A1", "Basic A"),
        ("Standard_D2_v2_Promo", "Dv2Promo"),
        ("AZAP_Performance_ComputeV17C", None),
    ],
)
def test_families(size: str, family: str | None) -> None:
    assert azure.family_of(size) == family


# --- pages ----------------------------------------------------------------------------------


def test_each_region_is_paged_by_itself_at_the_endpoint_that_was_given(
    server: AzureServer,
) -> None:
    prices = ask(server)
    for region in ("eastus", "westeurope"):
        asked = [
            request.query.get("$skip")
            for request in server.requests
            if request.query["$filter"].endswith(f"armRegionName eq '{region}'")
        ]
        # The links say prices.azure.com:443.
        assert asked == [None, "20", "40", "60"]
    assert (prices.fetch.requests, prices.fetch.pages, prices.fetch.rows) == (8, 8, 122)
    assert prices.fetch.regions == ("eastus", "westeurope")
    assert prices.fetch.http_date is not None
    assert prices.fetch.authentication == "none"


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Fault.LOOP, PricingIncomplete),
        (Fault.LOOP_CHANGING_TOKENS, PricingIncomplete),
        (Fault.TRUNCATED_PAGE, PricingIncomplete),
        (Fault.TRUNCATED_BODY, PricingIncomplete),
        (Fault.OBJECTS, PricingMalformed),
        (Fault.RENAMED_KEY, PricingMalformed),
        (Fault.HTML_200, PricingMalformed),
        (Fault.HTML_502, PricingUnreachable),
        (Fault.RESET, PricingUnreachable),
        (Fault.ALWAYS_429, PricingThrottled),
        (Fault.SLOW_BODY, PricingUnreachable),
    ],
)
def test_what_goes_wrong_has_its_name(
    server: AzureServer, fault: Fault, kind: type[PricingError]
) -> None:
    server.fault = fault
    began = time.monotonic()
    with pytest.raises(kind) as raised:
        ask(server, deadline=2)
    assert time.monotonic() - began < 15
    assert type(raised.value) is kind
    assert raised.value.provider == "azure"
    assert raised.value.remedy
    assert 1 <= raised.value.fetch.requests == len(server.requests) <= 20


def test_being_told_to_slow_down_for_a_while_is_no_failure(server: AzureServer) -> None:
    server.fault = Fault.BURST_429
    prices = ask(server)
    assert len(prices.prices) == 80
    assert (prices.fetch.throttled, prices.fetch.retries) == (3, 3)


def test_a_count_that_is_not_that_of_the_rows() -> None:
    class Short(AzureServer):
        def _spoilt(self, rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
            yield from rows

        def answer(self, request: Any) -> Any:
            reply = super().answer(request)
            assert isinstance(reply.body, bytes)
            reply.body = reply.body.replace(b'"Count": 1', b'"Count": 2')
            return reply

    with Short([row(*VM, "D2s v3", 0.096)]) as server, pytest.raises(PricingIncomplete) as raised:
        ask(server, "eastus")
    assert "counts 2 rows and holds 1" in raised.value.what


def test_a_region_that_does_not_exist_is_no_price(server: AzureServer) -> None:
    with pytest.raises(PricingIncomplete):
        ask(server, "eastsu")


@pytest.mark.parametrize(
    "change", [{"retailPrice": "0.096"}, {"effectiveStartDate": "soon"}, {"armRegionName": 7}]
)
def test_an_odd_row_costs_one_row(change: dict[str, Any]) -> None:
    class Odd(AzureServer):
        def _spoilt(self, rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
            for good in rows:
                yield {**good, **change} if good["armSkuName"] == "Standard_D2s_v3" else good

    other = row("eastus", "Standard_D4s_v3", "Virtual Machines DSv3 Series", "D4s v3", 0.192)
    with Odd([row(*VM, "D2s v3", 0.096), other]) as server:
        prices = ask(server, "eastus")
    assert [price.instance_type for price in prices.prices] == ["Standard_D4s_v3"]
    ((reason, count),) = prices.fetch.skipped.items()
    assert (count, "not as documented" in reason) == (1, True)
    with Odd([row(*VM, "D2s v3", 0.096)]) as server, pytest.raises(PricingMalformed):
        ask(server, "eastus")


def test_meters_that_nobody_pays_and_blanks_at_the_end() -> None:
    rows = [
        row(*VM, "D2s v3", 0.096),
        row(*VM, "D2s v3 Expired", 0.4),
        row(*VM, "D2s v3 Free", 0),
        row("eastus", "Standard_NM16ads_MA35D  ", "Virtual Machines NM Series", "NM16ads", 1.95),
    ]
    with AzureServer(rows) as server:
        prices = ask(server, "eastus")
    found = {price.instance_type: str(price.hourly) for price in prices.prices}
    assert found == {"Standard_D2s_v3": "0.096", "Standard_NM16ads_MA35D": "1.95"}
    assert prices.fetch.skipped == {"a meter that is expired or free": 2}


# --- sizes ----------------------------------------------------------------------------------


def test_sizes_come_with_credentials(server: AzureServer) -> None:
    prices = ask(server, credentials=CREDENTIALS)
    assert prices.fetch.authentication == "service principal"
    price = one(prices, "Standard_D2s_v3", "westeurope")
    assert (price.vcpus, price.memory_gib, price.gpu_count) == (2, 8, 0)
    price = one(prices, "Standard_NC24ads_A100_v4")
    assert (price.vcpus, price.memory_gib, price.gpu_count) == (24, 220, 1)
    assert one(prices, "Standard_E4-2s_v5").vcpus == 2
    asked = [
        request.query.get("$filter")
        for request in server.requests
        if request.path.endswith("/skus")
    ]
    # In two pages; the other region has no other sizes.
    assert asked == ["location eq 'eastus'"] * 2


@pytest.mark.parametrize(
    ("fault", "kind"),
    [(Fault.EXPIRED_TOKEN, PricingUnauthorised), (Fault.FORBIDDEN, PricingForbidden)],
)
def test_credentials_that_do_not_do(
    server: AzureServer, fault: Fault, kind: type[PricingError]
) -> None:
    server.fault = fault
    with pytest.raises(kind) as raised:
        ask(server, credentials=CREDENTIALS)
    assert type(raised.value) is kind


class FaultAt(AzureServer):
    """Has a fault in the answers to one path only."""

    def __init__(self, fault: Fault, path: str) -> None:
        super().__init__()
        self._at = (fault, path)

    def reply(self, request: Request) -> Reply:
        fault, path = self._at
        self.fault = fault if request.path.endswith(path) else None
        return super().reply(request)


@pytest.mark.parametrize("path", ["/skus", "/oauth2/v2.0/token", "/openid-configuration"])
@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Fault.HTML_502, PricingUnreachable),
        (Fault.HTML_200, PricingMalformed),
        (Fault.RESET, PricingUnreachable),
        (Fault.SLOW_BODY, PricingUnreachable),
        (Fault.TRUNCATED_BODY, PricingIncomplete),
    ],
)
def test_what_goes_wrong_with_the_sizes_has_its_name(
    path: str, fault: Fault, kind: type[PricingError]
) -> None:
    began = time.monotonic()
    with FaultAt(fault, path) as server, pytest.raises(kind) as raised:
        # Long enough for all that is not slow, also on a busy machine.
        ask(
            server,
            "eastus",
            credentials=CREDENTIALS,
            deadline=2 if fault is Fault.SLOW_BODY else 20,
        )
    assert time.monotonic() - began < 20
    assert type(raised.value) is kind
    assert raised.value.fetch.provider == "azure"


def test_one_variable_is_enough_to_trust_an_authority(
    server: AzureServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("REQUESTS_CA_BUNDLE", "AWS_CA_BUNDLE"):
        monkeypatch.delenv(name)
    assert ask(server, "eastus", credentials=CREDENTIALS).prices[0].vcpus == 2
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(PricingUnreachable) as raised:
        ask(server, "eastus", credentials=CREDENTIALS)
    assert "SSL_CERT_FILE" in raised.value.remedy


def test_a_wrong_secret_is_named_nowhere(server: AzureServer) -> None:
    secret = "not-the-secret-of-the-principal"
    with pytest.raises(PricingUnauthorised) as raised:
        ask(server, credentials=replace(CREDENTIALS, client_secret=SecretStr(secret)))
    assert secret not in "".join(traceback.format_exception(raised.value))
    assert secret not in repr(raised.value.fetch)


def test_another_subscription(server: AzureServer) -> None:
    other = replace(CREDENTIALS, subscription_id="00000000-0000-0000-0000-000000000000")
    with pytest.raises(PricingForbidden):
        ask(server, credentials=other)

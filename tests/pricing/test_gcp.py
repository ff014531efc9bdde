"""Google: its catalog, a service account's real exchange of tokens, machines from their parts."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path
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
from clustrix_prefect.pricing.price import Price, PurchaseOption
from clustrix_prefect.pricing.providers.gcp import (
    NOT_COVERED,
    GCPCredentials,
    fetch_prices,
)
from clustrix_prefect.pricing.providers.gcp_machines import machine_types
from tests.pricing.servers.faults import Fault
from tests.pricing.servers.gcp import API_KEY, SKU, GCPServer, _sku

KEY = GCPCredentials(api_key=SecretStr(API_KEY))

# https://cloud.google.com/compute/vm-instance-pricing, on demand, Iowa; parts times their prices.
IOWA = {
    "n1-standard-1": "0.04749975",
    "n1-standard-4": "0.189999",
    "n1-highmem-8": "0.473212",
    "e2-standard-2": "0.06701142",
    "e2-micro": "0.0083764275",
    "n2-standard-4": "0.194236",
    "c2-standard-8": "0.41744",
    "a2-highgpu-1g": "3.673385",
    "g2-standard-4": "0.706788",
    "t2d-standard-1": "0.042246",
}


@pytest.fixture
def server() -> Iterator[GCPServer]:
    with GCPServer() as running:
        yield running


def ask(server: GCPServer, **options: Any) -> PriceList:
    defaults: dict[str, Any] = {"credentials": KEY, "deadline": 20, "regions": ["us-central1"]}
    return fetch_prices(endpoint=f"{server.url}/v1", **{**defaults, **options})


def amounts(listed: PriceList, option: PurchaseOption = PurchaseOption.ON_DEMAND) -> dict[str, str]:
    return {
        price.instance_type: f"{price.hourly.normalize():f}"
        for price in listed.prices
        if price.purchase_option is option
    }


def test_machines_are_made_of_their_parts(server: GCPServer) -> None:
    found = amounts(ask(server))
    assert {name: found[name] for name in IOWA} == IOWA


def test_local_ssd_is_paid_by_the_month(server: GCPServer) -> None:
    # 12 x 0.031611 + 170 x 0.004237 + 3.92 + 375 x 0.08 / 730
    price = next(p for p in ask(server).prices if p.instance_type == "a2-ultragpu-1g")
    assert round(price.hourly, 12) == Decimal("5.060717890411")


def test_one_accelerator_has_two_names(server: GCPServer) -> None:
    # "H100 80GB Plus" is the H100 Mega: 208 x 0.026924 + 1872 x 0.002344 + 8 x 10.344276, and disks
    price = next(p for p in ask(server).prices if p.instance_type == "a3-megagpu-8g")
    assert price.gpu_model == "Nvidia H100 80GB Mega"
    assert round(price.hourly, 6) == Decimal("93.399902")


def test_a_spot_price_that_is_filed_under_on_demand_stays_one(server: GCPServer) -> None:
    everything = {price.key: price.hourly for price in ask(server).prices}

    def misfiled(sku: SKU) -> SKU:
        if sku["category"]["resourceGroup"] in ("LocalSSD", "GPU"):
            sku["category"]["usageType"] = "OnDemand"
        return sku

    server.edit = misfiled
    assert {price.key: price.hourly for price in ask(server).prices} == everything


def test_an_on_demand_price_that_is_filed_under_spot_is_none(server: GCPServer) -> None:
    def misfiled(sku: SKU) -> SKU:
        if sku["description"].startswith("N2 Instance Core running"):
            sku["category"]["usageType"] = "Preemptible"
        return sku

    server.edit = misfiled
    listed = ask(server)
    assert n2(listed) == []
    reason = "a spot price whose description is not as documented"
    assert listed.fetch.skipped[reason] == 3  # one in each place


def test_spot_prices_come_with_the_others(server: GCPServer) -> None:
    spot = amounts(ask(server), PurchaseOption.SPOT)
    # 0.0094833 + 3.75 x 0.0012711
    assert spot["n1-standard-1"] == "0.014249925"
    # 12 x 0.0094833 + 85 x 0.0012711 + 0.8801724
    assert spot["a2-highgpu-1g"] == "1.1020155"
    assert amounts(ask(server, spot=False), PurchaseOption.SPOT) == {}


def test_all_that_the_source_says_of_a_price(server: GCPServer) -> None:
    price = next(p for p in ask(server).prices if p.instance_type == "a2-highgpu-1g")
    assert price == Price(
        provider="gcp",
        region="us-central1",
        instance_type="a2-highgpu-1g",
        family="a2",
        operating_system=None,
        licence=None,
        tenancy=None,
        purchase_option=PurchaseOption.ON_DEMAND,
        hourly=Decimal("3.673385"),
        currency="USD",
        amount=Decimal("3.673385"),
        unit="h",
        vcpus=Decimal(12),
        memory_gib=Decimal(85),
        gpu_count=1,
        gpu_model="Nvidia Tesla A100",
        gpu_memory_gib=Decimal(40),
        effective=datetime(2025, 11, 1, 7, tzinfo=timezone.utc),
        published_at=None,
        source=f"{server.url}/v1/services/6F81-5844-456A/skus",
        fetched_at=price.fetched_at,
    )


def test_one_price_for_each_key(server: GCPServer) -> None:
    listed = ask(server, regions=None)
    assert {p.region for p in listed.prices} == {
        "europe-west3",
        "europe-west4",
        "us-central1",
        "us-east1",
        "us-west1",
    }
    assert len({price.key for price in listed.prices}) == len(listed.prices)
    assert not listed.fetch.skipped


def test_what_looks_like_a_part_and_is_not_has_no_effect(server: GCPServer) -> None:
    def alone(sku: SKU) -> SKU | None:
        alike = ("Custom", "Sole Tenancy", "Commitment", "Reserved", "DWS", "Balanced")
        return None if any(word in sku["description"] for word in alike) else sku

    everything = {price.key: price.hourly for price in ask(server).prices}
    server.edit = alone
    assert {price.key: price.hourly for price in ask(server).prices} == everything


def test_the_facts_of_the_fetch(server: GCPServer) -> None:
    server.largest_page = 200
    listed = ask(server)
    fetch = listed.fetch
    assert fetch.rows == len(server.skus()) > 500
    assert fetch.pages == fetch.requests == -(-fetch.rows // 200)
    assert (fetch.retries, fetch.authentication) == (0, "api key")
    assert "committed use discounts" in fetch.not_covered
    assert fetch.received > 300_000
    tokens = [request.query.get("pageToken", "") for request in server.requests]
    assert len(set(tokens)) == len(tokens)
    assert {request.query["pageSize"] for request in server.requests} == {"5000"}


def test_a_key_is_never_in_the_url(server: GCPServer) -> None:
    ask(server)
    assert server.requests[0].header("X-Goog-Api-Key") == API_KEY
    assert "key" not in server.requests[0].query


def test_a_service_account_exchanges_its_key_for_a_token(server: GCPServer) -> None:
    account = GCPCredentials(service_account=SecretStr(server.service_account()))
    listed = ask(server, credentials=account)
    assert amounts(listed)["n1-standard-1"] == "0.04749975"
    assert listed.fetch.authentication == "service account"
    assert [request.path for request in server.requests] == [
        "/token",
        "/v1/services/6F81-5844-456A/skus",
    ]
    assert server.requests[1].header("Authorization") == "Bearer ya29.c.EXAMPLE-1"


def test_google_auth_finds_credentials_itself(
    server: GCPServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "key.json").write_text(server.service_account())
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "key.json"))
    assert amounts(ask(server, credentials=None))["n1-standard-1"] == "0.04749975"


def accounts(server: GCPServer) -> dict[str, str]:
    good = json.loads(server.service_account())
    with GCPServer() as other:
        foreign = json.loads(other.service_account())["private_key"]
    return {
        "another's key": json.dumps({**good, "private_key": foreign}),
        "no key": json.dumps({**good, "private_key": "-----BEGIN NONSENSE-----"}),
        "no JSON": "hunter2",
        "deleted": json.dumps({**good, "client_email": "gone@example.com"}),
    }


@pytest.mark.parametrize("which", ["another's key", "no key", "no JSON", "deleted"])
def test_a_wrong_service_account(server: GCPServer, which: str) -> None:
    account = GCPCredentials(service_account=SecretStr(accounts(server)[which]))
    with pytest.raises(PricingUnauthorised) as caught:
        ask(server, credentials=account)
    seen = "".join(f"{error!r}" for error in (caught.value, caught.value.__cause__))
    assert "BEGIN" not in seen
    assert "hunter2" not in seen


def test_a_token_endpoint_that_cannot_be_reached(server: GCPServer) -> None:
    account = json.loads(server.service_account()) | {"token_uri": "https://localhost:1/token"}
    credentials = GCPCredentials(service_account=SecretStr(json.dumps(account)))
    with pytest.raises(PricingUnreachable):
        ask(server, credentials=credentials)


def test_a_wrong_key_is_unauthorised_though_google_says_400(server: GCPServer) -> None:
    with pytest.raises(PricingUnauthorised, match="400"):
        ask(server, credentials=GCPCredentials(api_key=SecretStr("AIzaWRONG")))
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("fault", "kind", "says"),
    [
        (Fault.HTML_502, PricingUnreachable, "502"),
        (Fault.HTML_200, PricingMalformed, "not JSON"),
        (Fault.RESET, PricingUnreachable, "cannot be reached"),
        (Fault.TRUNCATED_BODY, PricingIncomplete, "broke off"),
        (Fault.EXPIRED_TOKEN, PricingUnauthorised, "400"),
        (Fault.FORBIDDEN, PricingForbidden, "403"),
        (Fault.ALWAYS_429, PricingThrottled, "429"),
        (Fault.LOOP, PricingIncomplete, "again and again"),
        (Fault.LOOP_CHANGING_TOKENS, PricingIncomplete, "again and again"),
        (Fault.OBJECTS, PricingMalformed, "not a list"),
        (Fault.RENAMED_KEY, PricingMalformed, "without skus"),
    ],
)
def test_a_fault_has_its_failure(
    server: GCPServer, fault: Fault, kind: type[PricingError], says: str
) -> None:
    server.fault = fault
    with pytest.raises(kind, match=says) as caught:
        ask(server)
    assert type(caught.value) is kind
    assert caught.value.provider == "gcp"
    assert API_KEY not in f"{caught.value!s}{caught.value.fetch!r}"


def test_an_answer_that_drips_ends_at_the_deadline(server: GCPServer) -> None:
    server.fault = Fault.SLOW_BODY
    began = time.monotonic()
    with pytest.raises(PricingUnreachable, match="not done within 1 s"):
        ask(server, deadline=1)
    assert time.monotonic() - began < 10


def test_a_burst_of_throttling_is_waited_out(server: GCPServer) -> None:
    server.fault = Fault.BURST_429
    listed = ask(server)
    assert amounts(listed)["n1-standard-1"] == "0.04749975"
    assert (listed.fetch.throttled, listed.fetch.retries, listed.fetch.requests) == (3, 3, 4)


def n2(listed: PriceList) -> list[str]:
    return [
        f"{p.hourly.normalize():f} {p.currency}"
        for p in listed.prices
        if p.instance_type == "n2-standard-2" and p.purchase_option is PurchaseOption.ON_DEMAND
    ]


@pytest.mark.parametrize(
    ("fault", "prices", "skipped"),
    [
        (None, ["0.097118 USD"], {}),
        (Fault.OTHER_CURRENCY, ["0.097118 EUR"], {}),
        # A part that costs nothing makes no cheap machine, but one that nobody can believe.
        (Fault.ZERO_PRICE, ["0 USD"], {}),
        (Fault.DUPLICATE_IDS, ["0.097118 USD", "0.16034 USD"], {}),
        (
            Fault.MISSING_PRICE,
            [],
            # 29 types of N2, and the SKU itself
            {"no price": 1, "the price of n2's cores in us-central1 is missing (on-demand)": 29},
        ),
    ],
)
def test_what_is_wrong_with_a_part_is_seen_in_the_machine(
    server: GCPServer, fault: Fault | None, prices: list[str], skipped: dict[str, int]
) -> None:
    server.fault = fault
    listed = ask(server)
    assert n2(listed) == prices
    assert listed.fetch.skipped == skipped


def test_a_unit_that_is_not_documented_is_not_taken_for_an_hour(server: GCPServer) -> None:
    def monthly(sku: SKU) -> SKU:
        if sku["description"] == "N2 Instance Core running in Americas":
            sku["pricingInfo"][0]["pricingExpression"]["usageUnit"] = "mo"
        return sku

    server.edit = monthly
    listed = ask(server)
    assert n2(listed) == []
    assert listed.fetch.skipped["the unit is 'mo', not 'h'"] == 1


def test_an_empty_catalog_is_incomplete(server: GCPServer) -> None:
    server.edit = lambda _: None
    with pytest.raises(PricingIncomplete, match="empty list"):
        ask(server)


def test_the_table_of_machine_types() -> None:
    """Against Google's documents, and against itself."""
    table = {machine.name: machine for machine in machine_types()}
    assert len(table) == len(machine_types()) == 487

    def shape(name: str) -> tuple[str, str, int, str]:
        machine = table[name]
        return str(machine.vcpus), str(machine.memory_gib), machine.gpus, str(machine.local_ssd_gib)

    assert shape("n1-standard-1") == ("1", "3.75", 0, "0")
    assert shape("n2-highmem-128") == ("128", "864", 0, "0")
    assert shape("c4-standard-2") == ("2", "7", 0, "0")
    assert shape("c3-standard-88-lssd") == ("88", "352", 0, "6000")
    assert shape("a2-megagpu-16g") == ("96", "1360", 16, "0")
    assert shape("a3-highgpu-8g") == ("208", "1872", 8, "6000")
    assert shape("g2-standard-24") == ("24", "96", 2, "0")
    assert shape("m1-megamem-96") == ("96", "1433.6", 0, "0")
    for machine in machine_types():
        vcpus = machine.name.removesuffix("-lssd").rpartition("-")[2]
        if vcpus.isdigit():
            assert machine.vcpus == int(vcpus), machine
        assert bool(machine.gpus) == bool(machine.gpu) == (machine.name[0] in "ag"), machine


def selling(*skus: tuple[str, str, str]) -> GCPServer:
    """A server that sells these besides, in Iowa: description, unit, amount."""
    more = [
        _sku(
            f"{description} in Iowa",
            "CPU",
            "Preemptible" if "Spot" in description else "OnDemand",
            ["us-central1"],
            Decimal(amount),
            unit.replace("GBy", "GiBy"),
        )
        for description, unit, amount in skus
    ]
    for sku, (_, unit, _) in zip(more, skus, strict=True):
        sku["pricingInfo"][0]["pricingExpression"]["usageUnit"] = unit

    class Selling(GCPServer):
        def skus(self) -> list[SKU]:
            return [*super().skus(), *more]

    return Selling()


# The amounts are Iowa's of September 2026.
def test_new_series_and_what_they_are_made_of() -> None:
    with selling(
        ("N4D Instance Core running", "h", "0.028"),
        ("N4D Instance Ram running", "GiBy.h", "0.0032"),
        ("G4 Instance Core running", "h", "0.04891"),
        ("G4 Instance Ram running", "GiBy.h", "0.00587"),
        ("RTX 6000 96GB running", "h", "1.09565"),
        ("C4D Instance Core running", "h", "0.03"),
        ("C4D Instance Ram running", "GBy.h", "0.0034"),
        ("C4D Instance Local SSD running", "GiBy.mo", "0.16"),
        ("Z3 Instance Core running", "h", "0.05"),
        ("Z3 Instance Ram running", "GiBy.h", "0.0067"),
    ) as server:
        listed = ask(server, spot=False)
    found = {price.instance_type: price for price in listed.prices}
    assert found["n4d-standard-96"].hourly == 96 * Decimal("0.028") + 384 * Decimal("0.0032")
    g4 = found["g4-standard-48"]
    assert g4.hourly == Decimal("4.49993")
    assert (g4.gpu_count, g4.gpu_model, g4.gpu_memory_gib) == (1, "Nvidia RTX PRO 6000", 96)
    # RAM by the decimal gigabyte; disks at the price of their series, not at that of all.
    ram = 31 * Decimal("0.0034") * 2**30 / 10**9
    disks = 375 * Decimal("0.16") / 730
    expected = 8 * Decimal("0.03") + ram + disks
    assert round(found["c4d-standard-8-lssd"].hourly, 12) == round(expected, 12)
    # Of Z3 the disks have no price here: not listed without them, and told of.
    assert not any(name.startswith("z3") for name in found)
    told = "z3 with local disks in us-central1, on-demand (6 prices)"
    assert told in listed.fetch.not_covered


def test_series_that_no_table_has_are_told_of_by_name_and_count() -> None:
    with selling(
        ("X9 Instance Core running", "h", "0.1"),
        ("X9 Instance Ram running", "GiBy.h", "0.01"),
        ("Spot Preemptible X9 Instance Core running", "h", "0.03"),
        ("X9 Custom Instance Core running", "h", "0.2"),
        ("Commitment v1: X9 Core running", "h", "0.2"),
    ) as server:
        listed = ask(server)
    extra = set(listed.fetch.not_covered) - set(NOT_COVERED)
    assert extra == {"X9 Instance (3 SKUs)"}


def test_a_part_without_a_price_is_told_by_series_and_region(server: GCPServer) -> None:
    def without(sku: SKU) -> SKU | None:
        return None if sku["description"] == "N2 Instance Ram running in Americas" else sku

    server.edit = without
    skipped = ask(server, spot=False).fetch.skipped
    assert list(skipped) == ["the price of n2's RAM in us-central1 is missing (on-demand)"]


def test_no_key_is_told_from_a_wrong_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    with pytest.raises(PricingUnauthorised, match="No key for Google was given") as caught:
        fetch_prices(regions=["us-central1"], deadline=30)
    assert "gcloud auth" in caught.value.remedy

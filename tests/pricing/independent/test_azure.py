"""Azure's server and ours, held against azure-mgmt-compute, gpuhunt and Microsoft's examples."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import gpuhunt.providers.azure as gpuhunt_azure
import httpx
import pytest
from azure.identity import ClientSecretCredential
from azure.mgmt.compute import ComputeManagementClient
from azure.mgmt.compute.models import ResourceSku

from clustrix_prefect.pricing.price import Commitment, PurchaseOption
from clustrix_prefect.pricing.providers import azure
from tests.pricing.servers.azure import (
    CLIENT,
    REGIONS,
    SECRET,
    SUBSCRIPTION,
    TENANT,
    AzureServer,
)
from tests.pricing.servers.faults import Fault
from tests.pricing.servers.tls import Reply, Request

# From https://learn.microsoft.com/rest/api/cost-management/retail-prices/azure-retail-prices,
# "Response examples".
DOCUMENTED_SPOT: dict[str, Any] = {
    "currencyCode": "USD",
    "tierMinimumUnits": 0.0,
    "retailPrice": 0.176346,
    "unitPrice": 0.176346,
    "armRegionName": "westeurope",
    "location": "EU West",
    "effectiveStartDate": "2020-08-01T00:00:00Z",
    "meterId": "000a794b-bdb0-58be-a0cd-0c3a0f222923",
    "meterName": "F16s Spot",
    "productId": "DZH318Z0BQPS",
    "skuId": "DZH318Z0BQPS/00TG",
    "productName": "Virtual Machines FS Series Windows",
    "skuName": "F16s Spot",
    "serviceName": "Virtual Machines",
    "serviceId": "DZH313Z7MMC8",
    "serviceFamily": "Compute",
    "unitOfMeasure": "1 Hour",
    "type": "DevTestConsumption",
    "isPrimaryMeterRegion": True,
    "armSkuName": "Standard_F16s",
}
DOCUMENTED_RESERVATION: dict[str, Any] = {
    "currencyCode": "USD",
    "tierMinimumUnits": 0.0,
    "reservationTerm": "1 Year",
    "retailPrice": 25007.0,
    "unitPrice": 25007.0,
    "armRegionName": "southcentralus",
    "location": "US South Central",
    "effectiveStartDate": "2020-08-01T00:00:00Z",
    "meterId": "0016083a-928f-56fd-8eeb-39287dcf676d",
    "meterName": "E64 v4",
    "productId": "DZH318Z0D1L7",
    "skuId": "DZH318Z0D1L7/018J",
    "productName": "Virtual Machines Ev4 Series",
    "skuName": "E64 v4",
    "serviceName": "Virtual Machines",
    "serviceId": "DZH313Z7MMC8",
    "serviceFamily": "Compute",
    "unitOfMeasure": "1 Hour",
    "type": "Reservation",
    "isPrimaryMeterRegion": True,
    "armSkuName": "Standard_E64_v4",
}

# What the servers sell on demand and as spot, for Linux; see the table in the server.
LINUX_EASTUS = {
    ("Standard_D2s_v3", False): "0.096",
    ("Standard_D2s_v3", True): "0.0188",
    ("Standard_D4s_v3", False): "0.192",
    ("Standard_D4s_v3", True): "0.0376",
    ("Standard_D8s_v3", False): "0.384",
    ("Standard_D8s_v3", True): "0.0752",
    ("Standard_E2s_v5", False): "0.126",
    ("Standard_E2s_v5", True): "0.0252",
    ("Standard_E4s_v5", False): "0.252",
    ("Standard_E4s_v5", True): "0.0504",
    ("Standard_E8s_v5", False): "0.504",
    ("Standard_E8s_v5", True): "0.1008",
    ("Standard_E4-2s_v5", False): "0.252",
    ("Standard_E4-2s_v5", True): "0.0504",
    ("Standard_NC6s_v3", False): "3.06",
    ("Standard_NC6s_v3", True): "0.612",
    ("Standard_NC24ads_A100_v4", False): "3.673",
    ("Standard_NC24ads_A100_v4", True): "0.6796",
    ("Standard_NC40ads_H100_v5", False): "6.98",
    ("Standard_NC40ads_H100_v5", True): "1.396",
}


@pytest.fixture
def server() -> Iterator[AzureServer]:
    with AzureServer() as running:
        yield running


def compute_client(server: AzureServer) -> ComputeManagementClient:
    credential = ClientSecretCredential(
        TENANT, CLIENT, SECRET, authority=server.url, disable_instance_discovery=True
    )
    return ComputeManagementClient(credential, SUBSCRIPTION, base_url=server.url, retry_total=0)


# --- azure-mgmt-compute ---------------------------------------------------------------------


def sizes_agree(server: AzureServer) -> None:
    """Microsoft's client reads the list of sizes, and its models know every name in it."""
    skus = list(compute_client(server).resource_skus.list(filter="location eq 'eastus'"))
    machines = {sku.name: sku for sku in skus if sku.resource_type == "virtualMachines"}
    assert len(machines) == 10
    for sku in skus:
        unknown = set(sku) - {
            field._rest_name
            for field in ResourceSku._attr_to_rest_field.values()  # type: ignore[misc]
        }
        assert not unknown, unknown
        assert sku.locations == ["eastus"]
    capabilities = machines["Standard_NC24ads_A100_v4"].capabilities
    said = {pair.name: pair.value for pair in capabilities or ()}
    assert said == {"vCPUs": "24", "MemoryGB": "220", "vCPUsAvailable": "24", "GPUs": "1"}


def test_the_list_of_sizes_is_read_by_microsofts_client(server: AzureServer) -> None:
    sizes_agree(server)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        (b'"capabilities"', b'"capability"'),
        (b'"resourceType"', b'"resource_type"'),
        (b'"value": [', b'"skus": ['),
        (b'"nextLink"', b'"NextPageLink"'),
        (b'"locations": ["eastus"]', b'"locations": "eastus"'),
    ],
)
def test_a_wrong_list_of_sizes_is_found(right: bytes, wrong: bytes) -> None:
    with Changed(right, wrong, "/skus") as server, pytest.raises((AssertionError, TypeError)):
        sizes_agree(server)


# --- gpuhunt --------------------------------------------------------------------------------


def gpuhunt_agrees(server: AzureServer) -> None:
    """gpuhunt, which collects from the same APIs, finds the prices of the table."""
    provider = gpuhunt_azure.AzureProvider(SUBSCRIPTION, credential=object())
    provider.client = compute_client(server)
    offers = provider.get()
    assert {offer.location for offer in offers} == set(REGIONS)
    for region, factor in (("eastus", Decimal(1)), ("westeurope", Decimal("1.25"))):
        found: dict[tuple[str, bool], list[Decimal]] = {}
        for offer in offers:
            if offer.location == region:
                key = (offer.instance_name, bool(offer.spot))
                found.setdefault(key, []).append(Decimal(str(offer.price)))
        # It takes " Win" and Cloud Services for Linux, and they are always dearer.
        assert {key: min(prices) for key, prices in found.items()} == {
            key: Decimal(price) * factor for key, price in LINUX_EASTUS.items()
        }
        doubtful = {key for key, prices in found.items() if len(prices) > 1}
        assert doubtful == {
            ("Standard_NC40ads_H100_v5", False),
            ("Standard_NC40ads_H100_v5", True),
            ("Standard_D2s_v3", False),
        }
    (a100,) = (
        offer
        for offer in offers
        if (offer.instance_name, offer.location, offer.spot)
        == ("Standard_NC24ads_A100_v4", "eastus", False)
    )
    assert (a100.cpu, a100.memory, a100.gpu_count, a100.gpu_name) == (24, 220.0, 1, "A100")


def test_gpuhunt_finds_the_same_prices(
    server: AzureServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpuhunt_azure, "prices_url", server.prices_url)
    gpuhunt_agrees(server)
    # And so does ours, which tells the doubtful ones apart.
    ours = azure.fetch_prices(regions=["eastus"], endpoint=server.prices_url)
    assert {
        (price.instance_type, price.purchase_option is PurchaseOption.SPOT): price.hourly
        for price in ours.prices
        if price.operating_system == "Linux"
    } == {key: Decimal(price) for key, price in LINUX_EASTUS.items()}


@pytest.mark.parametrize(
    "fault",
    [
        Fault.RENAMED_KEY,
        Fault.OBJECTS,
        Fault.MISSING_PRICE,
        Fault.ZERO_PRICE,
        Fault.INFLATED,
        Fault.WINDOWS_AS_LINUX,
        Fault.SPOT_SWAPPED,
        Fault.WRONG_UNIT,
        Fault.CHEAP_GPU,
        Fault.REGION_DROPPED,
        Fault.TYPE_DROPPED,
        Fault.DUPLICATE_IDS,
        Fault.TRUNCATED_PAGE,
    ],
)
def test_a_wrong_list_of_prices_is_found(
    server: AzureServer, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpuhunt_azure, "prices_url", server.prices_url)
    server.fault = fault
    with pytest.raises((AssertionError, LookupError, TypeError)):
        gpuhunt_agrees(server)


# --- Microsoft's examples -------------------------------------------------------------------


def test_our_client_reads_microsofts_examples() -> None:
    consumption = {**DOCUMENTED_SPOT, "type": "Consumption"}
    with AzureServer([DOCUMENTED_SPOT, DOCUMENTED_RESERVATION, consumption]) as server:
        prices = azure.fetch_prices(
            regions=["westeurope", "southcentralus"],
            endpoint=server.prices_url,
            reservations=True,
        ).prices
    # The example as it stands is for subscriptions of developers: no price for all.
    spot, reserved = prices
    assert (spot.instance_type, spot.operating_system) == ("Standard_F16s", "Windows")
    assert (spot.hourly, spot.purchase_option) == (Decimal("0.176346"), PurchaseOption.SPOT)
    assert (reserved.instance_type, reserved.commitment) == (
        "Standard_E64_v4",
        Commitment.ONE_YEAR,
    )
    # 64 processors for less than 4 dollars: 25,007 is no price for an hour.
    assert Decimal("2.85") < reserved.hourly < Decimal("2.86")


def test_the_servers_rows_have_the_names_of_the_examples(server: AzureServer) -> None:
    example = set(DOCUMENTED_SPOT)
    for found in server.rows:
        assert set(found) - {"reservationTerm"} == example
        assert all(type(found[name]) in (type(DOCUMENTED_SPOT[name]), int) for name in example)


def test_filters_that_azure_refuses(server: AzureServer) -> None:
    def status(wanted: str) -> int:
        return httpx.get(
            server.prices_url, params={"$filter": wanted}, verify=ssl.create_default_context()
        ).status_code

    name = "armSkuName eq 'Standard_D2s_v3'"
    assert status(name) == 200
    assert status("contains(productName, 'Windows') eq false") == 200
    assert status("armSkuName in ('a', 'b')") == 400
    assert status("not contains(productName, 'Windows')") == 400
    assert status(" or ".join(["type eq 'a'"] * 20)) == 200
    assert status(" or ".join(["type eq 'a'"] * 21)) == 400
    assert status(" or ".join([f"armSkuName eq '{'x' * 150}'"] * 15)) == 404


def test_values_are_case_sensitive_and_primary_meters_leave_linux_out(
    server: AzureServer,
) -> None:
    def count(**params: str) -> int:
        answer = httpx.get(
            server.prices_url, params=params, verify=ssl.create_default_context()
        ).json()
        return int(answer["Count"])

    size = "armRegionName eq 'eastus' and armSkuName eq 'Standard_D2s_v3' and type eq 'Consumption'"
    assert count(**{"$filter": size + " and serviceName eq 'Virtual Machines'"}) == 7
    assert count(**{"$filter": size + " and serviceName eq 'virtual machines'"}) == 0
    only = size + " and contains(productName, 'Virtual')"
    assert count(**{"$filter": only}) == 6
    assert count(**{"$filter": only, "meterRegion": "'primary'"}) == 3  # those of Windows


class Changed(AzureServer):
    """Replaces a piece of its answers."""

    def __init__(self, right: bytes, wrong: bytes, path: str) -> None:
        super().__init__()
        self._change: Callable[[bytes], bytes] = lambda body: body.replace(right, wrong)
        self._path = path

    def answer(self, request: Request) -> Reply:
        reply = super().answer(request)
        if request.path.endswith(self._path):
            assert isinstance(reply.body, bytes)
            changed = self._change(reply.body)
            assert changed != reply.body or b"nextLink" not in reply.body
            reply.body = changed
        return reply

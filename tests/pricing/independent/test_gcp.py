"""Google's server and ours, held against google-cloud-billing and gpuhunt."""

from __future__ import annotations

import importlib.resources
import json
import tempfile
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from google.api_core.exceptions import BadRequest, Forbidden, TooManyRequests, Unauthorized
from google.auth.credentials import AnonymousCredentials
from google.cloud import billing_v1
from google.protobuf import json_format
from pydantic import SecretStr

from clustrix_prefect.pricing.price import PurchaseOption
from clustrix_prefect.pricing.providers.gcp import GCPCredentials, fetch_prices
from clustrix_prefect.pricing.providers.gcp_machines import machine_types
from tests.pricing.servers.faults import Fault
from tests.pricing.servers.gcp import API_KEY, SKU, GCPServer

COMPUTE_ENGINE = "services/6F81-5844-456A"


@pytest.fixture
def server() -> Iterator[GCPServer]:
    with GCPServer(largest_page=150) as running:
        yield running


def catalog(server: GCPServer, key: str = API_KEY) -> billing_v1.CloudCatalogClient:
    host = server.url.removeprefix("https://")
    return billing_v1.CloudCatalogClient(
        transport="rest", client_options={"api_endpoint": host, "api_key": key}
    )


def skus(server: GCPServer) -> list[Any]:
    """What Google's own client reads, page by page."""
    return list(catalog(server).list_skus(parent=COMPUTE_ENGINE, retry=None))


def test_googles_client_reads_every_sku(server: GCPServer) -> None:
    found = {sku.description: sku for sku in skus(server)}
    assert len(found) == len(server.skus()) > 500
    core = found["N1 Predefined Instance Core running in Americas"]
    assert core.category.resource_group == "N1Standard"
    assert core.category.usage_type == "OnDemand"
    assert list(core.service_regions) == ["us-central1", "us-east1", "us-west1"]
    (info,) = core.pricing_info
    assert info.pricing_expression.usage_unit == "h"
    (tier,) = info.pricing_expression.tiered_rates
    # https://cloud.google.com/compute/vm-instance-pricing: $0.031611 an hour
    assert (tier.unit_price.currency_code, tier.unit_price.units) == ("USD", 0)
    assert tier.unit_price.nanos == 31_611_000
    assert info.effective_time.isoformat().startswith("2025-11-01T07:00:00")
    assert len(server.requests) == -(-len(found) // 150)


def test_every_sku_fits_googles_message_types(server: GCPServer) -> None:
    """Strictly: a name that the message does not have is an error here."""
    message = billing_v1.types.Sku.pb()
    for sku in server.skus():
        json_format.ParseDict(sku, message())


def spoil(sku: SKU, how: str) -> SKU:
    expression = sku["pricingInfo"][0]["pricingExpression"]
    if how == "renamed":
        sku["regions"] = sku.pop("serviceRegions")
    elif how == "nanos":
        expression["tieredRates"][0]["unitPrice"]["nanos"] = "0.0316"
    elif how == "tiers":
        expression["tieredRates"] = {"unitPrice": 1}
    else:
        sku["pricingInfo"][0]["effectiveTime"] = "yesterday"
    return sku


@pytest.mark.parametrize("how", ["renamed", "nanos", "tiers", "time"])
def test_a_wrong_sku_does_not_fit(server: GCPServer, how: str) -> None:
    message = billing_v1.types.Sku.pb()
    for sku in server.skus()[:20]:
        with pytest.raises(json_format.ParseError):
            json_format.ParseDict(spoil(json.loads(json.dumps(sku)), how), message())


def test_a_renamed_list_is_nothing_to_googles_client(server: GCPServer) -> None:
    server.fault = Fault.RENAMED_KEY
    page = catalog(server).list_skus(parent=COMPUTE_ENGINE, retry=None)
    assert list(next(iter(page.pages)).skus) == []


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault.EXPIRED_TOKEN, BadRequest),
        (Fault.FORBIDDEN, Forbidden),
        (Fault.ALWAYS_429, TooManyRequests),
    ],
)
def test_googles_client_knows_the_errors(
    server: GCPServer, fault: Fault, error: type[Exception]
) -> None:
    server.fault = fault
    with pytest.raises(error):
        skus(server)


def test_nobody_is_refused_as_google_does(server: GCPServer) -> None:
    host = server.url.removeprefix("https://")
    client = billing_v1.CloudCatalogClient(
        credentials=AnonymousCredentials(), transport="rest", client_options={"api_endpoint": host}
    )
    with pytest.raises((Forbidden, Unauthorized)):
        list(client.list_skus(parent=COMPUTE_ENGINE, retry=None))


# --- gpuhunt, which puts machines together from the same SKUs -----------------------------------

_ACCELERATORS = {
    "Nvidia Tesla A100": "nvidia-tesla-a100",
    "Nvidia Tesla A100 80GB": "nvidia-a100-80gb",
    "Nvidia H100 80GB Mega": "nvidia-h100-mega-80gb",
    "Nvidia L4": "nvidia-l4",
}


def import_gpuhunt() -> Any:
    """Import its reader of Google's prices, which takes as long as all other tests' modules."""
    with tempfile.TemporaryDirectory() as directory:
        # gpuhunt 0.1.34 reads a table of TPU prices that its own wheel lacks; none is asked for.
        Path(directory, "tpu_pricing.json").write_text("{}")
        with mock.patch.object(importlib.resources, "files", return_value=Path(directory)):
            import gpuhunt.providers.gcp
    return gpuhunt.providers.gcp


def hunted(server: GCPServer) -> dict[tuple[str | None, str, PurchaseOption], float]:
    """gpuhunt's prices of all machine types that the table and the server have."""
    gpuhunt_gcp = import_gpuhunt()
    options = {
        PurchaseOption.ON_DEMAND: gpuhunt_gcp.CapacityType.ON_DEMAND,
        PurchaseOption.SPOT: gpuhunt_gcp.CapacityType.SPOT,
    }
    prices = gpuhunt_gcp.Prices()
    # gpuhunt 0.1.34 takes accelerators of Defined Duration for those on demand, if they come last.
    prices.add_skus(sku for sku in skus(server) if "Defined Duration" not in sku.description)
    found: dict[tuple[str | None, str, PurchaseOption], float] = {}
    for machine in machine_types():
        if machine.vcpus != machine.vcpus.to_integral_value():
            continue  # gpuhunt leaves out the shared cores
        kind = gpuhunt_gcp._MachineType(
            instance_name=machine.name,
            location="us-central1-a",
            cpu=int(machine.vcpus),
            memory=float(machine.memory_gib),
            gpu_count=machine.gpus,
            gpu_name=_ACCELERATORS.get(machine.gpu),
            gpu_memory=None,
        )
        for region in ("us-central1", "europe-west3"):
            for option, capacity in options.items():
                kind.location = f"{region}-a"
                price = prices.get_instance_price(kind, capacity)
                if price is not None:
                    found[region, machine.name, option] = price
    return found


def ours(server: GCPServer) -> dict[tuple[str | None, str, PurchaseOption], Decimal]:
    listed = fetch_prices(
        regions=["us-central1", "europe-west3"],
        credentials=GCPCredentials(api_key=SecretStr(API_KEY)),
        endpoint=f"{server.url}/v1",
        deadline=30,
    )
    return {
        (p.region, p.instance_type, p.purchase_option): p.hourly
        for p in listed.prices
        if p.vcpus == (p.vcpus or Decimal()).to_integral_value() and p.instance_type != "e2-medium"
    }


def test_gpuhunt_puts_the_same_machines_together(server: GCPServer) -> None:
    theirs = hunted(server)
    mine = ours(server)
    theirs = {key: price for key, price in theirs.items() if key[1] != "e2-medium"}
    assert set(theirs) == set(mine)
    assert len(mine) == 704
    apart = {
        key: (theirs[key], mine[key]) for key in mine if abs(float(mine[key]) - theirs[key]) > 1e-6
    }
    assert apart == {}
    assert round(theirs["us-central1", "n1-standard-1", PurchaseOption.ON_DEMAND], 6) == 0.0475
    assert round(theirs["us-central1", "a2-highgpu-1g", PurchaseOption.ON_DEMAND], 6) == 3.673385


@pytest.mark.parametrize(
    "fault", [Fault.SPOT_SWAPPED, Fault.TYPE_DROPPED, Fault.CHEAP_GPU, Fault.REGION_DROPPED]
)
def test_gpuhunt_notices_a_wrong_list(server: GCPServer, fault: Fault) -> None:
    good = hunted(server)
    server.fault = fault
    assert hunted(server) != good

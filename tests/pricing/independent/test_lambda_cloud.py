"""Lambda's server and ours, held against gpuhunt and a client made from its OpenAPI document."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import gpuhunt.providers.lambdalabs as gpuhunt_lambda
import pytest
from lambda_ai_cloud_api_client.errors import UnexpectedStatus
from pydantic import SecretStr
from requests import HTTPError

from clustrix_prefect.pricing.providers import lambda_cloud
from tests.pricing.servers.faults import Fault
from tests.pricing.servers.lambda_cloud import KEY, LambdaServer

DOLLARS = {
    "gpu_1x_a10": "0.75",
    "gpu_1x_a6000": "1.09",
    "gpu_2x_a6000": "2.18",
    "gpu_4x_a6000": "4.36",
    "gpu_1x_a100_sxm4": "1.48",
    "gpu_8x_a100_80gb_sxm4": "15.92",
    "gpu_1x_h100_pcie": "2.49",
    "gpu_1x_h100_sxm5": "3.29",
    "gpu_8x_h100_sxm5": "23.92",
    "gpu_1x_gh200": "1.49",
    "gpu_8x_b200_sxm6": "39.92",
}
# What a client raises over a document or an answer that is not the documented one.
_FINDINGS = (
    AssertionError,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
    UnexpectedStatus,
    HTTPError,
)
EXPECTED = {name: Decimal(dollars) for name, dollars in DOLLARS.items()}


def generated_client_agrees(server: LambdaServer) -> None:
    """The generated models take the document, and leave nothing over."""
    # Hundreds of modules, which no other test needs.
    from lambda_ai_cloud_api_client.api.instances import list_instance_types
    from lambda_ai_cloud_api_client.client import AuthenticatedClient
    from lambda_ai_cloud_api_client.models.list_instance_types_response_200 import (
        ListInstanceTypesResponse200,
    )

    client = AuthenticatedClient(
        base_url=server.url,
        token=KEY,
        verify_ssl=ssl.create_default_context(),
        raise_on_unexpected_status=True,
    )
    answer = list_instance_types.sync(client=client)
    assert isinstance(answer, ListInstanceTypesResponse200)
    found = {}
    for name, entry in answer.data.additional_properties.items():
        described = entry.instance_type
        assert not entry.additional_properties
        assert not described.additional_properties
        assert not described.specs.additional_properties
        assert described.name == name
        assert all(region.name for region in entry.regions_with_capacity_available)
        found[described.name] = Decimal(described.price_cents_per_hour) / 100
    assert found == EXPECTED


def gpuhunt_agrees(server: LambdaServer) -> None:
    """gpuhunt finds the same, in each of the regions."""
    offers = gpuhunt_lambda.LambdaLabsProvider(KEY).get()
    found: dict[str, set[Decimal]] = {}
    for offer in offers:
        found.setdefault(offer.instance_name, set()).add(Decimal(str(offer.price)))
    assert found == {name: {price} for name, price in EXPECTED.items()}
    assert len(offers) == 2 * len(EXPECTED)
    (h100,) = {
        (offer.cpu, offer.gpu_count, offer.gpu_name, offer.gpu_memory)
        for offer in offers
        if offer.instance_name == "gpu_8x_h100_sxm5"
    }
    assert h100 == (208, 8, "H100", 80.0)


@pytest.fixture
def agrees(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Callable[[LambdaServer], None]:
    def ask(server: LambdaServer) -> None:
        monkeypatch.setattr(
            gpuhunt_lambda, "INSTANCE_TYPES_URL", f"{server.endpoint}/instance-types"
        )
        monkeypatch.setattr(gpuhunt_lambda, "IMAGES_URL", f"{server.endpoint}/images")
        request.param(server)

    return ask


both = pytest.mark.parametrize("agrees", [generated_client_agrees, gpuhunt_agrees], indirect=True)


@both
def test_other_clients_find_the_same_prices(agrees: Callable[[LambdaServer], None]) -> None:
    with LambdaServer(interval=0) as server:  # gpuhunt knows no limit
        agrees(server)
        ours = lambda_cloud.fetch_prices(
            endpoint=server.endpoint,
            credentials=lambda_cloud.LambdaCredentials(SecretStr(KEY)),
        )
    assert {price.instance_type: price.hourly for price in ours.prices} == EXPECTED


@both
@pytest.mark.parametrize(
    "fault",
    [
        Fault.EXPIRED_TOKEN,
        Fault.FORBIDDEN,
        Fault.OBJECTS,
        Fault.RENAMED_KEY,
        Fault.DUPLICATE_IDS,
        Fault.MISSING_PRICE,
        Fault.ZERO_PRICE,
        Fault.WRONG_UNIT,
        Fault.CHEAP_GPU,
        Fault.TYPE_DROPPED,
        Fault.TRUNCATED_PAGE,
    ],
)
def test_a_wrong_document_is_found(agrees: Callable[[LambdaServer], None], fault: Fault) -> None:
    with LambdaServer(interval=0) as server:
        server.fault = fault
        with pytest.raises(_FINDINGS):
            agrees(server)


@pytest.mark.parametrize("name", ["specs", "gpu_description", "regions_with_capacity_available"])
def test_a_renamed_member_is_found(name: str) -> None:
    class Renamed(LambdaServer):
        def answer(self, request: Any) -> Any:
            reply: Any = super().answer(request)
            reply.body = reply.body.replace(f'"{name}"'.encode(), f'"{name}s"'.encode())
            return reply

    with Renamed(interval=0) as server, pytest.raises((AssertionError, KeyError)):
        generated_client_agrees(server)

"""Hugging Face's server and ours, held against huggingface_hub."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError

from clustrix_prefect.pricing.providers import huggingface
from tests.pricing.servers.faults import Fault
from tests.pricing.servers.huggingface import HuggingFaceServer

# https://huggingface.co/docs/hub/jobs-pricing, dollars an hour; two are free in Spaces.
JOBS = {
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
SPACES = {**JOBS, "cpu-basic": "0", "zero-a10g": "0"}


def hub_agrees(server: HuggingFaceServer) -> None:
    """The Hub's own client reads both lists."""
    hub = HfApi(endpoint=server.url, token=False)
    for listed, expected in (
        (hub.list_jobs_hardware(), JOBS),
        (hub.list_spaces_hardware(), SPACES),
    ):
        assert [hardware.name for hardware in listed] == list(expected)
        for hardware in listed:
            assert hardware.unit_label == "minute"
            hourly = Decimal(hardware.unit_cost_micro_usd) * 60 / 1_000_000
            assert abs(hourly - Decimal(expected[hardware.name])) <= Decimal("0.00003")
            assert abs(hardware.unit_cost_usd * 1_000_000 - hardware.unit_cost_micro_usd) < 0.5
        (l4x4,) = (hardware for hardware in listed if hardware.name == "l4x4")
        assert (l4x4.cpu, l4x4.ram) == ("48 vCPU", "186 GB")
        assert l4x4.accelerator is not None
        assert (l4x4.accelerator.quantity, l4x4.accelerator.vram) == ("4", "96 GB")


def test_the_hubs_own_client_finds_the_same_prices() -> None:
    with HuggingFaceServer() as server:
        hub_agrees(server)
        ours = huggingface.fetch_prices(endpoint=server.url)
    assert len(ours.prices) == len(JOBS) + len(SPACES)
    for price in ours.prices:
        expected = (JOBS if price.licence == "Jobs" else SPACES)[price.instance_type]
        assert abs(price.hourly - Decimal(expected)) <= huggingface.TOLERANCE


@pytest.mark.parametrize(
    "fault",
    [
        Fault.OBJECTS,
        Fault.RENAMED_KEY,
        Fault.DUPLICATE_IDS,
        Fault.MISSING_PRICE,
        Fault.ZERO_PRICE,
        Fault.INFLATED,
        Fault.WRONG_UNIT,
        Fault.CHEAP_GPU,
        Fault.TYPE_DROPPED,
        Fault.TRUNCATED_PAGE,
    ],
)
def test_a_wrong_document_is_found(fault: Fault) -> None:
    with HuggingFaceServer() as server:
        server.fault = fault
        with pytest.raises((AssertionError, KeyError, TypeError)):
            hub_agrees(server)


@pytest.mark.parametrize("name", ["cpu", "ram", "quantity", "vram", "unitLabel"])
def test_a_renamed_member_is_found(name: str) -> None:
    class Renamed(HuggingFaceServer):
        def answer(self, request: Any) -> Any:
            reply: Any = super().answer(request)
            reply.body = reply.body.replace(f'"{name}"'.encode(), f'"{name}s"'.encode())
            return reply

    with Renamed() as server, pytest.raises(KeyError):
        hub_agrees(server)


def test_a_token_that_is_not_good_is_refused_as_the_hub_does() -> None:
    with HuggingFaceServer() as server, pytest.raises(HfHubHTTPError) as raised:
        HfApi(endpoint=server.url, token="hf_expired").list_jobs_hardware()
    assert raised.value.response.status_code == 401

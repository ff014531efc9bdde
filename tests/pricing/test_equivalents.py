"""Machines that are alike, regions that are near, and the command that shows both."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

import pytest

from clustrix_prefect.cli.main import main
from clustrix_prefect.errors import ConfigurationError
from clustrix_prefect.pricing.equivalents.machines import Machine, machine_of, model_of
from clustrix_prefect.pricing.equivalents.regions import AREAS, area_of
from clustrix_prefect.pricing.price import Price, PurchaseOption
from clustrix_prefect.pricing.providers.aws_machines import machine_price
from tests.pricing.servers.aws import ACCESS_KEY, SECRET_KEY, AWSServer
from tests.pricing.servers.azure import CLIENT, SECRET, SUBSCRIPTION, TENANT, AzureServer
from tests.pricing.servers.azure import row as azure_row
from tests.pricing.servers.faults import Fault
from tests.pricing.servers.gcp import API_KEY, GCPServer
from tests.pricing.servers.huggingface import HuggingFaceServer
from tests.pricing.servers.lambda_cloud import KEY, LambdaServer


def priced(provider: str, name: str, **fields: Any) -> Price:
    return Price(
        provider=provider,
        region=None,
        instance_type=name,
        purchase_option=PurchaseOption.ON_DEMAND,
        hourly=Decimal(1),
        currency="USD",
        amount=Decimal(1),
        unit="hour",
        source="https://example.com",
        fetched_at=datetime.now(timezone.utc),
        **fields,
    )


def machine(
    vcpus: str, memory: str, gpus: int = 0, model: str | None = None, gib: str = "0"
) -> Machine:
    return Machine(
        Decimal(vcpus), Decimal(memory), gpus, model, Decimal(gib) if Decimal(gib) else None
    )


# --- machines -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        (machine("2", "8"), machine("2", "8"), True),
        (machine("2", "8"), machine("2", "7.5"), True),  # n1-standard-2
        (machine("2", "8"), machine("2", "7.2"), True),
        (machine("2", "8"), machine("2", "7.1"), False),
        (machine("2", "8"), machine("4", "8"), False),
        (machine("8", "61", 1, "V100", "16"), machine("8", "61"), False),
        (machine("8", "61", 1, "V100", "16"), machine("8", "61", 1, "V100", "16"), True),
        (machine("8", "61", 1, "V100", "16"), machine("8", "61", 2, "V100", "16"), False),
        (machine("8", "61", 1, "A100", "40"), machine("8", "61", 1, "A100", "80"), False),
        (machine("8", "61", 1, "A100", "40"), machine("8", "61", 1, "A100"), True),
        (machine("8", "61", 1, "T4"), machine("8", "61", 1, "L4"), False),
        # Which GPU nobody says: like no other.
        (machine("8", "61", 1), machine("8", "61", 1), False),
    ],
)
def test_what_makes_machines_alike(one: Machine, other: Machine, alike: bool) -> None:
    assert one.is_like(other) is alike
    assert other.is_like(one) is alike


@pytest.mark.parametrize(
    ("text", "model"),
    [
        ("NVIDIA Tesla A100 80GB", "A100"),
        ("Nvidia Tesla V100 GPU", "V100"),
        ("nvidia-tesla-t4", "T4"),
        ("H100", "H100"),
        ("A10G", "A10G"),
        ("RTX PRO 6000", "RTXPRO6000"),
        ("", None),
        (None, None),
    ],
)
def test_models_of_gpus(text: str | None, model: str | None) -> None:
    assert model_of(text) == model


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ("Standard_D2s_v3", machine("2", "8")),
        ("Standard_D16ads_v5", machine("16", "64")),
        ("Standard_D4lds_v5", machine("4", "8")),
        ("Standard_E8s_v5", machine("8", "64")),
        ("Standard_F4s_v2", machine("4", "8")),
        ("Standard_F4as_v6", machine("4", "16")),
        ("Standard_F4als_v6", machine("4", "8")),
        ("Standard_F4ams_v6", machine("4", "32")),
        ("Standard_NC24ads_A100_v4", machine("24", "220", 1, "A100", "80")),
        ("Standard_E4-2s_v5", None),  # constrained
        ("Standard_E96s_v5", None),  # has 672 GiB, not 768
        ("Standard_D2_v2", None),
        ("Standard_B1ls", None),
        ("Standard_DC2s_v3", None),
    ],
)
def test_sizes_as_azure_documents_them(size: str, expected: Machine | None) -> None:
    found = machine_of(priced("azure", size))
    if expected is None:
        assert found is None
    else:
        assert found is not None
        assert found.is_documented
        assert str(found) == str(expected)


def test_what_the_price_says_goes_before_what_documents_say() -> None:
    said = {"vcpus": Decimal(2), "memory_gib": Decimal(9), "gpu_count": 0}
    found = machine_of(priced("azure", "Standard_D2s_v3", **said))
    assert found == machine("2", "9")


def test_aws_says_how_many_gpus_and_its_documents_which() -> None:
    said = {"vcpus": Decimal(8), "memory_gib": Decimal(61), "gpu_count": 1, "family": "p3"}
    assert str(machine_of(priced("aws", "p3.2xlarge", **said))) == (
        "8 vCPUs, 61 GiB, 1 x V100 of 16 GiB"
    )
    assert machine_of(priced("aws", "m5.large", family="m5")) is None


@pytest.mark.parametrize(
    ("kind", "gpus", "told"),
    [
        ("g6f.large", "0.125", "1/8 x L4 of 24 GiB"),
        ("gr6f.4xlarge", "0.5", "1/2 x L4 of 24 GiB"),
        ("g7.2xlarge", "1", "1 x RTXPRO4500 of 32 GiB"),
        ("g7e.48xlarge", "8", "8 x RTXPRO6000 of 96 GiB"),
        ("p6-b300.48xlarge", "8", "8 x B300 of 288 GiB"),
        ("inf2.xlarge", None, "1 x INFERENTIA2 of 32 GiB"),
        ("trn1.2xlarge", None, "1 x TRAINIUM of 32 GiB"),
        ("f2.12xlarge", "NA", "2 x VU47PFPGA of 16 GiB"),
        ("trn9.8xlarge", None, "GPU: trn9, as its provider names it"),
        ("g99.xlarge", "2", "2 x GPU: g99, as its provider names it"),
        ("m5.large", None, "no GPU"),
    ],
)
def test_accelerators_of_aws_are_never_none(kind: str, gpus: str | None, told: str) -> None:
    attributes = {"instanceType": kind, "regionCode": "us-east-1", "vcpu": "2", "memory": "8 GiB"}
    if gpus is not None:
        attributes["gpu"] = gpus
    price = machine_price(
        attributes,
        amount="1.0",
        currency="USD",
        unit="Hrs",
        effective=None,
        published_at=None,
        source="",
        fetched_at=datetime.now(timezone.utc),
    )
    assert isinstance(price, Price)
    found = machine_of(price)
    assert found is not None
    assert str(found) == f"2 vCPUs, 8 GiB, {told}"
    assert found.is_like(machine("2", "8")) is (told == "no GPU")


@pytest.mark.parametrize(
    ("size", "told"),
    [
        ("Standard_NV6ads_A10_v5", "6 vCPUs, 55 GiB, 1/6 x A10 of 24 GiB"),
        ("Standard_ND96isr_H100_v5", "96 vCPUs, 1900 GiB, 8 x H100 of 80 GiB"),
        ("Standard_ND96is_flex_H100_v5", "96 vCPUs, 1900 GiB, 8 x H100 of 80 GiB"),
        ("Standard_NC24rs_v3", "24 vCPUs, 448 GiB, 4 x V100 of 16 GiB"),
        ("Standard_NP20s", "20 vCPUs, 336 GiB, 2 x U250FPGA of 64 GiB"),
        ("Standard_NC36lds_xl_RTXPRO6000BSE_v6", "36 vCPUs, 72 GiB, 1/4 x RTXPRO6000 of 96 GiB"),
        (
            "Standard_NC128ds_xl_RTXPRO6000BSE_v6",
            "128 vCPUs, memory not said, GPU: RTXPRO6000BSE, as its provider names it",
        ),
        (
            "Standard_NM16ads_MA35D",
            "16 vCPUs, memory not said, GPU: MA35D, as its provider names it",
        ),
    ],
)
def test_azures_sizes_with_accelerators(size: str, told: str) -> None:
    assert str(machine_of(priced("azure", size))) == told


def test_azure_counts_a_part_of_a_gpu_as_one() -> None:
    said = {"vcpus": Decimal(6), "memory_gib": Decimal(55), "gpu_count": 1}
    found = machine_of(priced("azure", "Standard_NV6ads_A10_v5", **said))
    assert str(found) == "6 vCPUs, 55 GiB, 1/6 x A10 of 24 GiB"


# --- regions --------------------------------------------------------------------------------


def test_the_table_names_each_region_once_and_each_place_has_two_providers() -> None:
    regions = [region for area in AREAS for region in area.aws + area.gcp + area.azure]
    assert [region for region, count in Counter(regions).items() if count > 1] == []
    for area in AREAS:
        assert sum(map(bool, (area.aws, area.gcp, area.azure))) >= 2, area
        assert all(re.fullmatch(r"[a-z]{2}-[a-z]+-\d", region) for region in area.aws)
        assert all(re.fullmatch(r"[a-z]+-[a-z]+\d+", region) for region in area.gcp)
        assert all(re.fullmatch(r"[a-z]+\d?", region) for region in area.azure)


def test_near_regions() -> None:
    virginia = area_of("us-east-1")
    assert [virginia.region_of(name) for name in ("aws", "gcp", "azure", "lambda_cloud")] == [
        "us-east-1",
        "us-east4",
        "eastus",
        None,
    ]
    # Where a provider has two, the one that was named.
    assert area_of("eastus2").region_of("azure") == "eastus2"
    assert area_of("eastus2").region_of("aws") == "us-east-1"
    assert area_of("westeurope").region_of("aws") is None
    with pytest.raises(ConfigurationError):
        area_of("mars-north-1")


@pytest.mark.parametrize(
    ("region", "name"),
    [
        ("ap-southeast-5", "Malaysia"),
        ("newzealandnorth", "New Zealand"),
        ("europe-west10", "Berlin"),
        ("europe-west1", "Belgium"),
    ],
)
def test_places_where_two_have_come_to_lately(region: str, name: str) -> None:
    assert area_of(region).name == name


# --- the command ----------------------------------------------------------------------------


@dataclass
class World:
    """The sources on loopback, and the command that asks them."""

    aws: AWSServer
    gcp: GCPServer
    azure: AzureServer
    lambda_cloud: LambdaServer
    huggingface: HuggingFaceServer

    def prices(self, *arguments: str) -> int:
        endpoints = {
            "aws": self.aws.url,
            "aws.bulk_endpoint": self.aws.url,
            "gcp": f"{self.gcp.url}/v1",
            "azure": self.azure.prices_url,
            "azure.compute_endpoint": self.azure.url,
            "azure.authority": self.azure.url,
            "lambda_cloud": self.lambda_cloud.endpoint,
            "huggingface": self.huggingface.url,
        }
        given = [
            part for name, url in endpoints.items() for part in ("--endpoint", f"{name}={url}")
        ]
        # Google's source knows other places than the others.
        providers = ["aws", "azure", "lambda_cloud", "huggingface"]
        asked = [] if "--providers" in arguments else ["--providers", *providers]
        return main(["prices", *asked, "--deadline", "20", *given, *arguments])


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    monkeypatch.setenv("GOOGLE_API_KEY", API_KEY)
    monkeypatch.setenv("LAMBDA_API_KEY", KEY)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with (
        AWSServer() as aws,
        GCPServer() as gcp,
        AzureServer() as azure,
        LambdaServer() as lambda_cloud,
        HuggingFaceServer() as huggingface,
    ):
        yield World(aws, gcp, azure, lambda_cloud, huggingface)


@pytest.fixture
def offers(world: World, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    def ask(*arguments: str, status: int = 0) -> Any:
        assert world.prices(*arguments, "--json") == status
        return json.loads(capsys.readouterr().out)

    return ask


def amounts(report: Any) -> list[tuple[str, str, Decimal]]:
    return [
        (offer["provider"], offer["instance_type"], Decimal(offer["hourly"]))
        for offer in report["offers"]
    ]


def test_a_machine_and_its_like_cheapest_first(world: World, offers: Callable[..., Any]) -> None:
    report = offers("m5.large", "--region", "us-east-1")
    assert amounts(report) == [
        ("aws", "m5.large", Decimal("0.096")),
        ("azure", "Standard_D2s_v3", Decimal("0.096")),
    ]
    assert report["place"] == "Virginia"
    assert report["machine"]["memory_gib"] == "8"
    assert report["complete"] is True
    (aws, azure) = report["offers"]
    assert (aws["region"], azure["region"]) == ("us-east-1", "eastus")
    assert (aws["machine_from_documents"], azure["machine_from_documents"]) == (False, True)
    assert azure["source"] == world.azure.prices_url
    assert all(datetime.fromisoformat(offer["fetched_at"]) for offer in report["offers"])
    # Spot and Windows are cheaper or dearer, and another thing.
    assert Decimal("0.188") not in [amount for _, _, amount in amounts(report)]


def test_it_works_from_any_providers_machine_and_region(offers: Callable[..., Any]) -> None:
    assert amounts(offers("Standard_D4s_v3", "--region", "eastus")) == [
        ("aws", "m5.xlarge", Decimal("0.192")),
        ("azure", "Standard_D4s_v3", Decimal("0.192")),
    ]
    assert amounts(offers("t4-small", "--region", "us-east-1")) == [
        ("huggingface", "t4-small", Decimal("0.40002")),
        ("huggingface", "t4-small", Decimal("0.40002")),
        # 16 GiB to 15, and a T4 by AWS's documents.
        ("aws", "g4dn.xlarge", Decimal("0.526")),
    ]


def test_machines_of_google_are_made_of_parts(offers: Callable[..., Any]) -> None:
    asked = ("--region", "eu-central-1", "--providers", "aws", "gcp")
    found = amounts(offers("m5.large", *asked))
    # 2 x 0.028093327 + 8 x 0.003765506: each part is told in nanodollars.
    assert found[0] == ("gcp", "e2-standard-2", Decimal("0.086310702"))
    assert ("aws", "m5.large", Decimal("0.1104")) in found
    # 7.5 GiB are near enough to 8.
    assert "n1-standard-2" in [name for _, name, _ in found]
    assert [amount for *_, amount in found] == sorted(amount for *_, amount in found)


def test_gpus_count(offers: Callable[..., Any]) -> None:
    report = offers("gpu_8x_h100_sxm5", "--region", "us-east-1")
    assert amounts(report) == [("lambda_cloud", "gpu_8x_h100_sxm5", Decimal("23.92"))]
    assert report["machine"]["gpu_model"] == "H100"
    assert report["offers"][0]["region"] is None


@pytest.mark.parametrize(
    ("size", "described"),
    [
        (
            "Standard_NC16ads_A10_v4",
            "16 vCPUs, memory not said, GPU: A10, as its provider names it",
        ),
        ("Standard_M128s", "nobody says what machine it is"),
    ],
)
def test_a_machine_that_nobody_describes_is_listed_itself(
    world: World, capsys: pytest.CaptureFixture[str], size: str, described: str
) -> None:
    world.azure.rows.append(azure_row("eastus", size, "Virtual Machines X Series", "X", 2.64))
    assert world.prices(size, "--region", "eastus") == 0
    shown = capsys.readouterr().out
    assert f"{size} in Virginia: {described}" in shown
    assert "2.6400 USD" in shown
    assert "no GPU" not in shown
    # Who is not listed is named.
    assert "azure: 1 types left out" in shown
    assert "Standard_E4-2s_v5" in shown
    assert world.prices(size, "--region", "eastus", "--json") == 0
    (offer,) = json.loads(capsys.readouterr().out)["offers"]
    assert (offer["instance_type"], offer["memory_gib"]) == (size, None)


def test_azures_sizes_with_credentials(
    world: World, offers: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert offers("m5.large", "--region", "us-east-1")["unknown_machines"] == {"azure": 1}
    monkeypatch.setenv("AZURE_SUBSCRIPTION_ID", SUBSCRIPTION)
    monkeypatch.setenv("AZURE_TENANT_ID", TENANT)
    monkeypatch.setenv("AZURE_CLIENT_ID", CLIENT)
    # A reference does as well.
    monkeypatch.setenv("THE_SECRET", SECRET)
    monkeypatch.setenv("AZURE_CLIENT_SECRET", "env:THE_SECRET")
    report = offers("m5.large", "--region", "us-east-1")
    assert report["unknown_machines"] == {}
    assert [offer["machine_from_documents"] for offer in report["offers"]] == [False, False]


def test_without_a_key_aws_is_asked_for_its_public_files(
    world: World, offers: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    report = offers("m5.large", "--region", "us-east-1")
    assert len(report["offers"]) == 2
    assert {request.method for request in world.aws.requests} == {"GET"}


def test_who_cannot_be_asked_is_listed_and_the_status_says_so(
    world: World, offers: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    world.azure.fault = Fault.HTML_200
    monkeypatch.delenv("LAMBDA_API_KEY")
    report = offers("m5.large", "--region", "us-east-1", status=3)
    assert amounts(report) == [("aws", "m5.large", Decimal("0.096"))]
    assert report["complete"] is False
    assert {failure["provider"]: failure["kind"] for failure in report["unavailable"]} == {
        "azure": "malformed",
        "lambda_cloud": "unauthorised",
    }


def test_no_fallback(world: World, offers: Callable[..., Any]) -> None:
    world.aws.fault = Fault.EXPIRED_TOKEN
    report = offers("m5.large", "--region", "us-east-1", status=1)
    assert report["offers"] == []
    assert report["machine"] is None
    assert [failure["provider"] for failure in report["unavailable"]] == ["aws"]


def test_who_has_no_region_there_is_not_unavailable(
    world: World, offers: Callable[..., Any]
) -> None:
    report = offers("Standard_D2s_v3", "--region", "westeurope")
    assert report["no_region_there"] == ["aws"]
    assert amounts(report) == [("azure", "Standard_D2s_v3", Decimal("0.12"))]
    assert world.aws.requests == []


def test_a_table_for_people(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.lambda_cloud.fault = Fault.FORBIDDEN
    assert world.prices("m5.large", "--region", "us-east-1") == 3
    shown = capsys.readouterr().out
    lines = shown.splitlines()
    assert lines[0] == "m5.large in Virginia: 2 vCPUs, 8 GiB, no GPU"
    assert re.split(r"\s{2,}", lines[2]) == [
        "PROVIDER",
        "TYPE",
        "REGION",
        "AN HOUR",
        "MACHINE",
        "AGE",
        "SOURCE",
    ]
    first = re.split(r"\s{2,}", lines[3])
    assert first[:5] == ["aws", "m5.large", "us-east-1", "0.0960 USD", "2 vCPUs, 8 GiB, no GPU"]
    assert first[5] == "published 5 hours ago"
    assert first[6] == world.aws.url
    second = re.split(r"\s{2,}", lines[4])
    assert second[4] == "2 vCPUs, 8 GiB, no GPU *"
    assert re.fullmatch(r"read (now|a second ago|\d+ seconds ago)", second[5])
    assert "from the provider's documents" in shown
    assert "unavailable: lambda_cloud, forbidden." in shown


def test_nobody_can_be_asked(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LAMBDA_API_KEY")
    asked = ("--region", "us-east-1", "--providers", "lambda_cloud")
    assert world.prices("m5.large", *asked) == 3
    assert "Nobody could be asked about m5.large in Virginia." in capsys.readouterr().out


def test_what_is_not_sold_there(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert world.prices("m99.large", "--region", "us-east-1") == 1
    assert "Nobody sells m99.large in Virginia" in capsys.readouterr().out


@pytest.mark.parametrize("endpoint", ["acme=https://x", "aws", "aws.key=https://x"])
def test_endpoints_that_are_none(endpoint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prices", "m5.large", "--region", "us-east-1", "--endpoint", endpoint]) == 2
    assert "PROVIDER=URL" in capsys.readouterr().err

"""AWS's server and ours, held against botocore's models and examples, and gpuhunt."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import boto3
import botocore.session
import gpuhunt.providers.aws as gpuhunt_aws
import httpx
import pytest
from botocore.loaders import Loader
from botocore.model import ListShape, ServiceModel, Shape, StructureShape
from botocore.validate import ParamValidator
from pydantic import SecretStr

from clustrix_prefect.pricing.errors import PricingMalformed
from clustrix_prefect.pricing.price import PurchaseOption
from clustrix_prefect.pricing.providers.aws import fetch_prices
from clustrix_prefect.pricing.providers.aws_account import AWSCredentials
from tests.pricing.servers.aws import ACCESS_KEY, SECRET_KEY, AWSServer
from tests.pricing.servers.faults import Fault
from tests.pricing.servers.tls import AUTHORITY, Reply, Request

KEY = AWSCredentials(SecretStr(ACCESS_KEY), SecretStr(SECRET_KEY))
PRICING: ServiceModel = botocore.session.get_session().get_service_model("pricing")
EXAMPLE: dict[str, Any] = Loader(include_default_search_paths=True).load_service_model(
    "pricing", "examples-1"
)["examples"]["GetProducts"][0]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[AWSServer]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with AWSServer() as running:
        yield running


def misfits(shape: Shape, document: Any, where: str = "") -> list[str]:
    """How a JSON document differs from the shape that botocore's model gives it."""
    if isinstance(shape, StructureShape):
        if not isinstance(document, dict):
            return [f"{where} is no structure"]
        unknown = [
            f"{where}.{name} is not in the model" for name in set(document) - set(shape.members)
        ]
        return unknown + [
            misfit
            for name, member in shape.members.items()
            if name in document
            for misfit in misfits(member, document[name], f"{where}.{name}")
        ]
    if isinstance(shape, ListShape):
        if not isinstance(document, list):
            return [f"{where} is no list"]
        return [m for one in document for m in misfits(shape.member, one, f"{where}[]")]
    if shape.serialization.get("jsonvalue"):
        try:
            json.loads(document)
        except (TypeError, ValueError):
            return [f"{where} is no JSON text"]
        return []
    return [] if isinstance(document, str) else [f"{where} is no text"]


def raw_answer(server: AWSServer) -> Any:
    """The bytes of an answer, before boto3 leaves out what it does not know."""
    seen: list[Any] = []
    client = boto3.client("pricing", endpoint_url=server.url, verify=AUTHORITY.file)
    client.meta.events.register(
        "before-parse", lambda response_dict, **_: seen.append(json.loads(response_dict["body"]))
    )
    client.get_products(ServiceCode="AmazonEC2")
    return seen[0]


def outline(document: Any) -> Any:
    """The names and types in a document; of names that are identities, one stands for all."""
    if isinstance(document, dict):
        inside = {
            "*" if "." in name else name: outline(value)
            for name, value in document.items()
            if name != "attributes"
        }
        return {**inside, "attributes": {}} if "attributes" in document else inside
    return [] if isinstance(document, list) else type(document).__name__


def products(answer: Any) -> Iterator[Any]:
    for text in answer["PriceList"]:
        row = json.loads(text)
        row["terms"].pop("Reserved", None)  # storage, the example's product, has none
        yield row


def test_the_answer_fits_botocores_model(server: AWSServer) -> None:
    answer = raw_answer(server)
    shape = PRICING.operation_model("GetProducts").output_shape
    assert shape is not None
    assert misfits(shape, answer) == []
    assert len(answer["PriceList"]) == 100
    assert set(answer) == {"FormatVersion", "PriceList", "NextToken"}


@pytest.mark.parametrize("fault", [Fault.RENAMED_KEY, Fault.OBJECTS])
def test_a_wrong_answer_does_not_fit(server: AWSServer, fault: Fault) -> None:
    server.fault = fault
    shape = PRICING.operation_model("GetProducts").output_shape
    assert shape is not None
    assert misfits(shape, raw_answer(server)) != []


def test_a_product_is_built_as_botocores_example(server: AWSServer) -> None:
    (example,) = products(EXAMPLE["output"])
    for row in products(raw_answer(server)):
        assert outline(row) == outline(example)


@pytest.mark.parametrize("wrong", ["sku", "terms", "publicationDate", "unit", "number"])
def test_a_wrong_product_is_not(server: AWSServer, wrong: str) -> None:
    def spoiled(_: str, row: dict[str, Any]) -> dict[str, Any]:
        (term,) = row["terms"]["OnDemand"].values()
        (dimension,) = term["priceDimensions"].values()
        if wrong == "sku":
            row["product"]["id"] = row["product"].pop("sku")
        elif wrong == "unit":
            dimension.pop("unit")
        elif wrong == "number":
            dimension["pricePerUnit"] = {"USD": 0.096}
        else:
            row[wrong.upper()] = row.pop(wrong)
            row.setdefault("terms", {})
        return row

    server.edit = spoiled
    (example,) = products(EXAMPLE["output"])
    assert all(outline(row) != outline(example) for row in products(raw_answer(server)))


def test_our_request_fits_botocores_model(server: AWSServer) -> None:
    fetch_prices(regions=["us-east-1"], credentials=KEY, endpoint=server.url, deadline=20)
    shape: Any = PRICING.operation_model("GetProducts").input_shape
    for request in server.requests:
        report = ParamValidator().validate(request.document, shape)
        assert not report.has_errors(), report.generate_report()
        types = shape.members["Filters"].member.members["Type"].enum
        assert {one["Type"] for one in request.document["Filters"]} <= set(types)


@pytest.mark.parametrize(
    ("fault", "name"),
    [(Fault.ALWAYS_429, "ThrottlingException"), (Fault.FORBIDDEN, "AccessDeniedException")],
)
def test_the_errors_are_those_of_the_model(server: AWSServer, fault: Fault, name: str) -> None:
    server.fault = fault
    client = boto3.client("pricing", endpoint_url=server.url, verify=AUTHORITY.file)
    assert name in {shape.name for shape in PRICING.operation_model("GetProducts").error_shapes}
    with pytest.raises(getattr(client.exceptions, name)):
        client.get_products(ServiceCode="AmazonEC2")


class Example(AWSServer):
    """Answers with botocore's example document."""

    def answer(self, request: Request) -> Reply:
        output = {k: v for k, v in EXAMPLE["output"].items() if k != "NextToken"}
        return Reply.json(output)


def test_botocores_example_is_storage_and_no_machine() -> None:
    with Example() as server, pytest.raises(PricingMalformed, match="no instance type") as caught:
        fetch_prices(regions=["ca-central-1"], credentials=KEY, endpoint=server.url, deadline=20)
    assert caught.value.fetch.rows == 2  # one for each product family that is asked
    assert caught.value.fetch.published_at is not None
    assert caught.value.fetch.published_at.isoformat() == "2017-09-01T18:22:01+00:00"


def test_spot_prices_fill_every_field_of_ec2s_model(server: AWSServer) -> None:
    client = boto3.client("ec2", endpoint_url=server.url, verify=AUTHORITY.file)
    items = client.describe_spot_price_history(ProductDescriptions=["Linux/UNIX"])[
        "SpotPriceHistory"
    ]
    assert len(items) == 38
    named = {"AvailabilityZone", "InstanceType", "ProductDescription", "SpotPrice", "Timestamp"}
    assert all(set(item) == named for item in items)


# --- gpuhunt, which reads the public file ------------------------------------------------------

# Shared Linux in us-east-1, from AWS's price pages; gpuhunt leaves out p3, which is being retired.
HUNTED = {
    "m5.large": (0.096, 2, 8.0, 0, None, None),
    "m5.metal": (4.608, 96, 384.0, 0, None, None),
    "c5.large": (0.085, 2, 4.0, 0, None, None),
    "t3.micro": (0.0104, 2, 1.0, 0, None, None),
    "g4dn.xlarge": (0.526, 4, 16.0, 1, "T4", 16.0),
    "g5.xlarge": (1.006, 4, 16.0, 1, "A10G", 24.0),
}


def hunted(server: AWSServer, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    monkeypatch.setenv("AWS_ENDPOINT_URL_EC2", server.url)
    file = f"{server.url}/offers/v1.0/aws/AmazonEC2/current/index.csv"
    monkeypatch.setattr(gpuhunt_aws, "EC2_PRICING_URL", file)
    # gpuhunt reads "2 GiB" and not AWS's "2,048 GiB".
    server.machines = tuple(m for m in server.machines if "," not in m.memory)
    return gpuhunt_aws.AWSProvider().get()


def test_gpuhunt_reads_the_same_prices(server: AWSServer, monkeypatch: pytest.MonkeyPatch) -> None:
    offers = hunted(server, monkeypatch)
    virginia = {
        o.instance_name: (o.price, o.cpu, o.memory, o.gpu_count, o.gpu_name, o.gpu_memory)
        for o in offers
        if o.location == "us-east-1" and not o.spot
    }
    assert len(virginia) == 16
    assert {name: virginia[name] for name in HUNTED} == HUNTED

    ours = fetch_prices(
        regions=list(server.regions),
        credentials=KEY,
        bulk_endpoint=server.url,
        compute_endpoint=server.url,
        source="bulk",
        spot=True,
        deadline=30,
    )
    listed = {
        (p.region, p.instance_type): float(p.hourly)
        for p in ours.prices
        if p.purchase_option is PurchaseOption.ON_DEMAND and p.family != "p3"
    }
    assert listed == {(o.location, o.instance_name): o.price for o in offers if not o.spot}
    # gpuhunt gives a region's cheapest zone.
    spots: dict[tuple[str | None, str], float] = {}
    for price in ours.prices:
        if price.purchase_option is PurchaseOption.SPOT and price.family != "p3":
            key = (price.region, price.instance_type)
            spots[key] = min(spots.get(key, 1e9), float(price.hourly))
    assert spots == {(o.location, o.instance_name): o.price for o in offers if o.spot}
    assert len(spots) == 48


def test_gpuhunt_cannot_read_a_wrong_file(
    server: AWSServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.fault = Fault.RENAMED_KEY
    with pytest.raises(KeyError, match="PricePerUnit"):
        hunted(server, monkeypatch)


def test_gpuhunt_shows_wrong_prices(server: AWSServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.fault = Fault.WINDOWS_AS_LINUX
    prices = {
        o.instance_name: o.price
        for o in hunted(server, monkeypatch)
        if o.location == "us-east-1" and not o.spot
    }
    assert prices["m5.large"] == 0.096
    assert prices["m5.xlarge"] == 0.376


def test_the_index_leads_to_the_files(server: AWSServer) -> None:
    """As https://docs.aws.amazon.com/awsaccountbilling/latest/aboutv2/using-price-list-query-api.html."""
    with httpx.Client(base_url=server.url, verify=True) as client:
        offers = client.get("/offers/v1.0/aws/index.json").json()
        assert {"formatVersion", "disclaimer", "publicationDate", "offers"} == set(offers)
        index = client.get(offers["offers"]["AmazonEC2"]["currentRegionIndexUrl"]).json()
        url = index["regions"]["us-east-1"]["currentVersionUrl"]
        text = client.get(url.replace(".json", ".csv")).text
    assert [line.split(",")[0] for line in text.split("\n")[:6]] == [
        '"FormatVersion"',
        '"Disclaimer"',
        '"Publication Date"',
        '"Version"',
        '"OfferCode"',
        '"SKU"',
    ]

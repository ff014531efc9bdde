"""AWS: boto3 against a server that verifies signatures and speaks the documented formats."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
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
from clustrix_prefect.pricing.providers.aws import fetch_prices
from clustrix_prefect.pricing.providers.aws_account import AWSCredentials
from clustrix_prefect.pricing.providers.aws_bulk import fetch_bulk_prices
from clustrix_prefect.pricing.providers.aws_spot import fetch_spot_prices
from tests.pricing.servers.aws import (
    ACCESS_KEY,
    REGIONS,
    SECRET_KEY,
    AWSServer,
    Row,
    generated_machines,
)
from tests.pricing.servers.faults import Fault
from tests.pricing.servers.tls import Reply, Request

KEY = AWSCredentials(SecretStr(ACCESS_KEY), SecretStr(SECRET_KEY))

# https://aws.amazon.com/ec2/pricing/on-demand/, Linux, US East (N. Virginia)
VIRGINIA = {
    "t3.micro": "0.0104",
    "t3.small": "0.0208",
    "t3.medium": "0.0416",
    "m5.large": "0.096",
    "m5.xlarge": "0.192",
    "m5.2xlarge": "0.384",
    "m5.4xlarge": "0.768",
    "m5.metal": "4.608",
    "c5.large": "0.085",
    "c5.xlarge": "0.17",
    "c5.2xlarge": "0.34",
    "r5.large": "0.126",
    "r5.xlarge": "0.252",
    "r5.2xlarge": "0.504",
    "g4dn.xlarge": "0.526",
    "g5.xlarge": "1.006",
    "p3.2xlarge": "3.06",
    "p3.8xlarge": "12.24",
    "p5.48xlarge": "55.04",
}


@pytest.fixture
def server() -> Iterator[AWSServer]:
    with AWSServer() as running:
        yield running


def ask(server: AWSServer, **options: Any) -> PriceList:
    defaults: dict[str, Any] = {"regions": ["us-east-1"], "credentials": KEY, "deadline": 20}
    endpoints = dict.fromkeys(("endpoint", "bulk_endpoint", "compute_endpoint"), server.url)
    return fetch_prices(**{**defaults, **endpoints, **options})


def amounts(listed: PriceList) -> dict[str, str]:
    return {price.instance_type: f"{price.hourly.normalize():f}" for price in listed.prices}


@pytest.mark.parametrize("source", ["api", "bulk"])
def test_one_price_for_each_type(server: AWSServer, source: str) -> None:
    listed = ask(server, source=source)
    assert amounts(listed) == VIRGINIA
    assert len(listed.prices) == 19


def test_all_that_the_source_says_of_a_price(server: AWSServer) -> None:
    price = next(p for p in ask(server).prices if p.instance_type == "p5.48xlarge")
    assert price == Price(
        provider="aws",
        region="us-east-1",
        zone=None,
        instance_type="p5.48xlarge",
        family="p5",
        operating_system="Linux",
        licence=None,
        tenancy="Shared",
        purchase_option=PurchaseOption.ON_DEMAND,
        commitment=Commitment.NONE,
        hourly=Decimal("55.04"),
        currency="USD",
        amount=Decimal("55.04"),
        unit="Hrs",
        vcpus=Decimal(192),
        memory_gib=Decimal(2048),
        gpu_count=8,
        gpu_model=None,
        gpu_memory_gib=None,
        effective=datetime(2024, 11, 1, tzinfo=timezone.utc),
        published_at=price.published_at,
        source=server.url,
        fetched_at=price.fetched_at,
    )
    assert str(price.amount) == "55.0400000000"
    published = price.published_at
    assert published is not None
    assert timedelta(hours=5) <= datetime.now(timezone.utc) - published < timedelta(hours=6)


def test_the_two_sources_agree(server: AWSServer) -> None:
    def facts(source: str) -> dict[object, object]:
        regions = list(REGIONS)
        return {
            p.key: (p.hourly, p.vcpus, p.memory_gib, p.gpu_count, p.effective, p.published_at)
            for p in ask(server, source=source, regions=regions).prices
        }

    assert facts("api") == facts("bulk")
    assert len(facts("api")) == 57


def test_the_facts_of_the_fetch(server: AWSServer) -> None:
    server.machines = tuple(generated_machines(250))
    fetch = ask(server).fetch
    assert (fetch.provider, fetch.authentication, fetch.source) == ("aws", "sigv4", server.url)
    assert (fetch.rows, fetch.pages, fetch.requests, fetch.retries) == (250, 4, 4, 0)
    assert fetch.regions == ("us-east-1",)
    assert fetch.received > 250_000
    assert 0 < fetch.slowest <= fetch.seconds < 20
    assert fetch.http_date is not None
    assert "savings plans" in fetch.not_covered
    targets = {request.header("X-Amz-Target") for request in server.requests}
    assert targets == {"AWSPriceListService.GetProducts"}
    assert {request.document["MaxResults"] for request in server.requests} == {100}


def test_the_bulk_files_need_no_credentials(server: AWSServer) -> None:
    fetch = fetch_bulk_prices(endpoint=server.url, deadline=20).fetch
    assert (fetch.authentication, fetch.regions) == ("none", ("us-east-1",))
    assert (fetch.requests, fetch.rows) == (3, 608)  # 19 types, 8 rows of each, 3 reserved to each
    assert not any(request.header("Authorization") for request in server.requests)


def test_spot_prices_have_zones(server: AWSServer) -> None:
    listed = ask(server, spot=True)
    spot = {
        (p.instance_type, p.zone): (str(p.hourly), p.operating_system, p.currency)
        for p in listed.prices
        if p.purchase_option is PurchaseOption.SPOT
    }
    assert len(spot) == 38
    assert spot["m5.large", "us-east-1a"] == ("0.033600", "Linux", "USD")
    assert spot["m5.large", "us-east-1b"] == ("0.034700", "Linux", "USD")
    assert len(listed.prices) == 57
    assert listed.fetch.requests == 3
    assert len({price.key for price in listed.prices}) == 57


def test_of_a_history_the_latest_spot_price_counts(server: AWSServer) -> None:
    server.past_spot_price = "9.900000"
    prices = ask(server, spot=True).prices
    spot = [p.hourly for p in prices if p.purchase_option is PurchaseOption.SPOT]
    assert len(spot) == 38
    assert Decimal("9.9") not in spot


@pytest.mark.parametrize(
    ("fault", "kind", "says"),
    [
        (Fault.HTML_502, PricingUnreachable, "502"),
        (Fault.TRUNCATED_BODY, PricingIncomplete, "Connection was closed"),
        (Fault.EXPIRED_TOKEN, PricingUnauthorised, "RequestExpired"),
        (Fault.FORBIDDEN, PricingForbidden, "UnauthorizedOperation"),
        (Fault.ALWAYS_429, PricingThrottled, "RequestLimitExceeded"),
        (Fault.LOOP_CHANGING_TOKENS, PricingIncomplete, "again and again"),
        (Fault.RENAMED_KEY, PricingMalformed, "without a spotPriceHistorySet"),
    ],
)
def test_a_fault_of_ec2_has_its_failure(
    server: AWSServer, fault: Fault, kind: type[PricingError], says: str
) -> None:
    server.fault = fault
    with pytest.raises(kind, match=says) as caught:
        fetch_spot_prices(regions=["us-east-1"], credentials=KEY, endpoint=server.url, deadline=20)
    assert type(caught.value) is kind


def test_ec2_knows_a_wrong_key(server: AWSServer) -> None:
    wrong = AWSCredentials(SecretStr("AKIAI44QH8DHBEXAMPLE"), SecretStr(SECRET_KEY))
    with pytest.raises(PricingUnauthorised, match="AuthFailure"):
        fetch_spot_prices(regions=["us-east-1"], credentials=wrong, endpoint=server.url)


@pytest.mark.parametrize(
    ("fault", "kind", "says"),
    [
        (Fault.HTML_502, PricingUnreachable, "502"),
        (Fault.HTML_200, PricingMalformed, "without a PriceList"),
        (Fault.RESET, PricingUnreachable, "Connection was closed"),
        (Fault.TRUNCATED_BODY, PricingIncomplete, "Connection was closed"),
        (Fault.EXPIRED_TOKEN, PricingUnauthorised, "ExpiredTokenException"),
        (Fault.FORBIDDEN, PricingForbidden, "AccessDeniedException"),
        (Fault.ALWAYS_429, PricingThrottled, "ThrottlingException"),
        (Fault.LOOP, PricingIncomplete, "again and again"),
        (Fault.LOOP_CHANGING_TOKENS, PricingIncomplete, "again and again"),
        (Fault.OBJECTS, PricingMalformed, "not one of JSON texts"),
        (Fault.RENAMED_KEY, PricingMalformed, "without a PriceList"),
    ],
)
def test_a_fault_of_the_api_has_its_failure(
    server: AWSServer, fault: Fault, kind: type[PricingError], says: str
) -> None:
    server.fault = fault
    with pytest.raises(kind, match=says) as caught:
        ask(server)
    assert type(caught.value) is kind
    assert caught.value.provider == "aws"
    assert caught.value.fetch.requests == len(server.requests) > 0
    assert SECRET_KEY not in f"{caught.value!s}{caught.value.fetch!r}"


@pytest.mark.parametrize(
    ("fault", "kind", "says"),
    [
        (Fault.HTML_200, PricingMalformed, "not JSON"),
        (Fault.TRUNCATED_BODY, PricingIncomplete, "broke off"),
        (Fault.ALWAYS_429, PricingThrottled, "503"),
        (Fault.RENAMED_KEY, PricingMalformed, "no column 'PricePerUnit'"),
    ],
)
def test_a_fault_of_the_files_has_its_failure(
    server: AWSServer, fault: Fault, kind: type[PricingError], says: str
) -> None:
    server.fault = fault
    with pytest.raises(kind, match=says):
        ask(server, source="bulk")


class Stuck(AWSServer):
    """Other products on every page, and the same token after each."""

    def answer(self, request: Request) -> Reply:
        document = json.loads(super().answer(request).body)  # type: ignore[arg-type]
        return Reply.json({**document, "NextToken": "MTAwOjA6RVhBTVBMRQ=="})


def test_the_same_token_again_is_boto3s_own_finding() -> None:
    with Stuck(generated_machines(300)) as server, pytest.raises(PricingIncomplete, match="token"):
        ask(server)


def test_empty_pages_without_end_are_a_loop(server: AWSServer) -> None:
    server.machines = ()
    server.fault = Fault.LOOP_CHANGING_TOKENS
    with pytest.raises(PricingIncomplete, match="again and again"):
        ask(server)
    assert len(server.requests) == 4


@pytest.mark.parametrize("source", ["api", "bulk"])
def test_an_answer_that_drips_ends_at_the_deadline(server: AWSServer, source: str) -> None:
    server.fault = Fault.SLOW_BODY
    began = time.monotonic()
    with pytest.raises(PricingUnreachable, match="not done within 1 s"):
        ask(server, deadline=1, source=source)
    assert time.monotonic() - began < 10


def test_a_burst_of_throttling_is_waited_out(server: AWSServer) -> None:
    server.fault = Fault.BURST_429
    listed = ask(server)
    assert amounts(listed) == VIRGINIA
    assert (listed.fetch.throttled, listed.fetch.retries, listed.fetch.requests) == (3, 3, 5)


@pytest.mark.parametrize(
    "credentials",
    [
        AWSCredentials(SecretStr("AKIAI44QH8DHBEXAMPLE"), SecretStr(SECRET_KEY)),
        AWSCredentials(
            SecretStr(ACCESS_KEY), SecretStr("je7MtGbClwBF/2Zp9Utk/h3yCo8nvbEXAMPLEKEY")
        ),
        None,
    ],
    ids=["unknown key", "wrong secret", "none"],
)
def test_wrong_credentials(
    server: AWSServer,
    credentials: AWSCredentials | None,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Any,
) -> None:
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(PricingUnauthorised):
        ask(server, credentials=credentials)


def test_boto3_finds_credentials_and_the_endpoint_itself(
    server: AWSServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    monkeypatch.setenv("AWS_ENDPOINT_URL_PRICING", server.url)
    listed = fetch_prices(regions=["us-east-1"], deadline=20)
    assert amounts(listed) == VIRGINIA
    assert listed.fetch.source == server.url


def change(row: Row, **changes: object) -> Row:
    (term,) = row["terms"]["OnDemand"].values()
    (dimension,) = term["priceDimensions"].values()
    dimension.update(changes)
    return row


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"pricePerUnit": {}}, "no price"),
        ({"pricePerUnit": {"USD": ""}}, "no price"),
        ({"pricePerUnit": {"USD": "NaN"}}, "no price"),
        ({"pricePerUnit": {"USD": 0.096}}, "no price"),
        ({"unit": "Mo"}, "the unit is 'Mo'"),
        ({"pricePerUnit": None}, "not a product with a price, as documented"),
    ],
)
def test_what_gives_no_price_is_counted_and_never_guessed(
    server: AWSServer, changes: dict[str, object], reason: str
) -> None:
    server.edit = lambda _, row: (
        change(row, **changes)
        if row["product"]["attributes"]["instanceType"] == "m5.large"
        else row
    )
    listed = ask(server)
    assert amounts(listed) == {k: v for k, v in VIRGINIA.items() if k != "m5.large"}
    assert listed.fetch.skipped == {reason: 1}


def test_a_currency_is_not_converted(server: AWSServer) -> None:
    server.fault = Fault.OTHER_CURRENCY
    prices = {p.instance_type: p for p in ask(server).prices}
    assert (prices["m5.xlarge"].currency, prices["m5.xlarge"].hourly) == ("CNY", Decimal("0.192"))
    assert prices["m5.large"].currency == "USD"


def test_both_prices_of_a_duplicate_come_out(server: AWSServer) -> None:
    server.fault = Fault.DUPLICATE_IDS
    found = [str(p.hourly) for p in ask(server).prices if p.instance_type == "m5.xlarge"]
    assert found == ["0.1920000000", "0.3840000000"]


def test_a_region_that_nobody_knows_gives_no_list(server: AWSServer) -> None:
    with pytest.raises(PricingIncomplete, match="empty list"):
        ask(server, regions=["mars-north-1"])
    with pytest.raises(PricingIncomplete, match="empty list"):
        ask(server, regions=["mars-north-1"], source="bulk")


def test_a_damaged_row_of_a_file_is_noticed(server: AWSServer) -> None:
    pieces = server.csv_pieces

    def cut(*regions: str) -> Iterator[bytes]:
        yield b"".join(pieces(*regions))[:-40]

    server.csv_pieces = cut  # type: ignore[method-assign]
    with pytest.raises(PricingIncomplete, match="columns"):
        ask(server, source="bulk")


_WITHOUT_BOTO3 = """
import sys
sys.modules["boto3"] = sys.modules["botocore"] = None
from clustrix_prefect.errors import ConfigurationError
from clustrix_prefect.pricing.providers.aws import fetch_prices
listed = fetch_prices(source="bulk", bulk_endpoint=sys.argv[1], deadline=20)
try:
    fetch_prices(regions=["us-east-1"])
except ConfigurationError as error:
    print(len(listed.prices), error)
"""


def test_the_bulk_files_need_no_boto3(server: AWSServer) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT_BOTO3, server.url],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[0] == (
        "19 Asking AWS for prices needs boto3, which is not installed. "
        "Install it with `pip install 'clustrix-prefect[aws]'`."
    )

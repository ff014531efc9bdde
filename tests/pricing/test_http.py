"""The polite client, against a real server over TLS."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from email.utils import format_datetime

import pytest

from clustrix_prefect.pricing.errors import (
    PricingError,
    PricingForbidden,
    PricingIncomplete,
    PricingMalformed,
    PricingThrottled,
    PricingUnauthorised,
    PricingUnreachable,
)
from clustrix_prefect.pricing.fetch import Fetch
from clustrix_prefect.pricing.http import Answer, Client
from tests.pricing.servers.faults import Fault
from tests.pricing.servers.tls import Reply, Request, TLSServer


class Source(TLSServer):
    """Answers what a test put in."""

    def __init__(self) -> None:
        super().__init__()
        self.replies: list[Reply] = []

    def answer(self, request: Request) -> Reply:
        return self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]


@pytest.fixture
def source() -> Iterator[Source]:
    with Source() as server:
        server.replies = [Reply.json({"price": 1})]
        yield server


@pytest.fixture
def fetch() -> Fetch:
    return Fetch(
        provider="acme",
        source="https://localhost/",
        authentication="none",
        started_at=datetime.now(timezone.utc),
    )


def ask(source: Source, fetch: Fetch, *, deadline: float = 60, **options: object) -> object:
    with Client(fetch, deadline=deadline, first_delay=0.01, **options) as client:  # type: ignore[arg-type]
        return client.get_json(f"{source.url}/prices", {"page": "1"})


def test_an_answer_is_read_and_counted(source: Source, fetch: Fetch) -> None:
    source.replies = [Reply(body=b'{"price": 0.10000000000000000001}')]
    assert ask(source, fetch) == {"price": Decimal("0.10000000000000000001")}
    assert (fetch.requests, fetch.retries, fetch.received) == (1, 0, 33)
    assert fetch.http_date is not None
    assert abs(fetch.http_date - datetime.now(timezone.utc)) < timedelta(seconds=10)
    assert 0 < fetch.slowest <= fetch.seconds
    assert (source.requests[0].path, source.requests[0].query) == ("/prices", {"page": "1"})


@pytest.mark.parametrize(
    ("fault", "kind", "requests"),
    [
        (Fault.HTML_502, PricingUnreachable, 5),
        (Fault.RESET, PricingUnreachable, 5),
        (Fault.HTML_200, PricingMalformed, 1),
        (Fault.TRUNCATED_BODY, PricingIncomplete, 5),
    ],
)
def test_a_fault_of_the_connection_has_its_failure(
    source: Source, fetch: Fetch, fault: Fault, kind: type[PricingError], requests: int
) -> None:
    source.fault = fault
    with pytest.raises(kind) as caught:
        ask(source, fetch)
    assert type(caught.value) is kind
    assert caught.value.provider == "acme"
    assert caught.value.fetch is fetch
    assert (fetch.requests, len(source.requests)) == (requests, requests)


def test_an_answer_that_drips_ends_at_the_deadline(source: Source, fetch: Fetch) -> None:
    source.replies = [Reply(body=b" " * 1000 + b"{}")]
    source.fault = Fault.SLOW_BODY
    began = time.monotonic()
    with pytest.raises(PricingUnreachable, match=r"not done within 0\.5 s"):
        ask(source, fetch, deadline=0.5)
    assert time.monotonic() - began < 8


def test_a_burst_of_429_is_waited_out(source: Source, fetch: Fetch) -> None:
    source.fault = Fault.BURST_429
    began = time.monotonic()
    assert ask(source, fetch) == {"price": 1}
    assert time.monotonic() - began > 2.9  # three times Retry-After: 1
    assert (fetch.throttled, fetch.retries, fetch.requests) == (3, 3, 4)


def test_to_wait_longer_than_the_deadline_is_to_give_up(source: Source, fetch: Fetch) -> None:
    source.replies = [Reply.json({}, 429, Retry_After="3600")]
    with pytest.raises(PricingThrottled):
        ask(source, fetch)
    assert fetch.requests == 1


@pytest.mark.parametrize("header", ["Retry-After", "RateLimit"])
def test_it_waits_as_long_as_it_is_told(source: Source, fetch: Fetch, header: str) -> None:
    soon = datetime.now(timezone.utc) + timedelta(seconds=2)
    told = {"Retry-After": format_datetime(soon, usegmt=True), "RateLimit": '"api";r=0;t=1'}
    source.replies = [Reply.json({}, 429, **{header: told[header]}), Reply.json([])]
    began = time.monotonic()
    assert ask(source, fetch) == []
    assert time.monotonic() - began > 0.9


def test_the_quota_is_noted(source: Source, fetch: Fetch) -> None:
    quota = {
        "RateLimit": '"api";r=498;t=212',
        "RateLimit-Policy": '"fixed window";"api";q=500;w=300',
    }
    source.replies = [Reply.json([], 200, **quota)]
    ask(source, fetch)
    assert (fetch.quota_remaining, fetch.quota_limit) == (498, 500)


def test_requests_keep_their_distance(source: Source, fetch: Fetch) -> None:
    with Client(fetch, deadline=10, interval=0.3) as client:
        began = time.monotonic()
        for _ in range(3):
            client.get_json(source.url)
    assert 0.6 <= time.monotonic() - began < 2


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, PricingUnauthorised),
        (403, PricingForbidden),
        (404, PricingMalformed),
        (302, PricingMalformed),
    ],
)
def test_a_status_that_stays_is_not_asked_again(
    source: Source, fetch: Fetch, status: int, kind: type[PricingError]
) -> None:
    source.replies = [Reply.json({"secret": "body"}, status, Location="https://localhost:1/")]
    with pytest.raises(kind) as caught:
        ask(source, fetch)
    assert type(caught.value) is kind
    assert str(status) in str(caught.value)
    assert "body" not in str(caught.value)
    assert fetch.requests == 1


def test_a_provider_may_know_better(source: Source, fetch: Fetch) -> None:
    def judge(answer: Answer) -> type[PricingError] | None:
        return PricingUnauthorised if b"API_KEY_INVALID" in answer.body else None

    source.replies = [Reply.json({"reason": "API_KEY_INVALID"}, 400)]
    with pytest.raises(PricingUnauthorised):
        ask(source, fetch, judge=judge)


@pytest.mark.parametrize(
    "body", [b'{"a": 1, "a": 2}', b'{"a": NaN}', b'{"a": 1', b"\xff\xfe\x00", b""]
)
def test_json_that_means_no_one_thing_is_malformed(
    source: Source, fetch: Fetch, body: bytes
) -> None:
    source.replies = [Reply(body=body)]
    with pytest.raises(PricingMalformed, match="not JSON"):
        ask(source, fetch)


def test_an_endless_page_is_refused(source: Source, fetch: Fetch) -> None:
    source.replies = [Reply(body=(b" " * 2**20 for _ in range(1000)))]
    with pytest.raises(PricingMalformed, match="more than 67108864 bytes"):
        ask(source, fetch)


def test_a_certificate_of_a_stranger_is_refused_at_once(
    source: Source, fetch: Fetch, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "AWS_CA_BUNDLE"):
        monkeypatch.delenv(name)
    with pytest.raises(PricingUnreachable, match=r"certificate .* not trusted"):
        ask(source, fetch)
    assert fetch.requests == 1
    assert source.requests == []


@pytest.mark.parametrize("url", ["https://localhost:1/prices", "no url", "https://[::1"])
def test_nobody_there(fetch: Fetch, url: str) -> None:
    with Client(fetch, deadline=10, first_delay=0.01) as client, pytest.raises(PricingUnreachable):
        client.get_json(url)


def test_secrets_are_not_shown(source: Source, fetch: Fetch) -> None:
    source.fault = Fault.HTML_502
    url = source.url.replace("https://", "https://user:hunter2@") + "/x?key=hunter2#hunter2"
    with (
        Client(
            fetch, deadline=10, first_delay=0.01, headers={"Authorization": "hunter2"}
        ) as client,
        pytest.raises(PricingUnreachable) as caught,
    ):
        client.get_json(url)
    assert "hunter2" not in f"{caught.value!s} {caught.value!r} {client!r} {fetch!r}"


class Files(TLSServer):
    """One big file; the connection ends after each of `breaks` bytes."""

    body = bytes(range(256)) * 8192  # 2 MiB

    def __init__(self) -> None:
        super().__init__()
        self.breaks: list[int] = []
        self.version = '"1"'

    def answer(self, request: Request) -> Reply:
        wanted = request.header("Range")
        same = request.header("If-Range") == self.version
        first = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and same else 0
        rest = self.body[first:]
        headers = {"ETag": self.version, "Content-Length": str(len(rest))}
        if first:
            headers["Content-Range"] = f"bytes {first}-{len(self.body) - 1}/{len(self.body)}"
        if self.breaks:
            rest = rest[: self.breaks.pop(0)]
        return Reply(206 if first else 200, rest, headers, "text/csv")


@pytest.fixture
def files() -> Iterator[Files]:
    with Files() as server:
        yield server


def test_a_download_is_taken_up_where_it_broke(files: Files, fetch: Fetch) -> None:
    files.breaks = [700_000, 300_000]
    with Client(fetch, deadline=20, first_delay=0.01) as client:
        got = b"".join(client.stream(f"{files.url}/offers.csv"))
    assert hashlib.sha256(got).hexdigest() == hashlib.sha256(Files.body).hexdigest()
    assert (fetch.requests, fetch.retries, fetch.received) == (3, 2, 2_097_152)


def test_a_download_that_changes_under_way_is_incomplete(files: Files, fetch: Fetch) -> None:
    files.breaks = [700_000]
    with Client(fetch, deadline=20, first_delay=0.01) as client:
        pieces = client.stream(f"{files.url}/offers.csv")
        next(pieces)
        files.version = '"2"'
        with pytest.raises(PricingIncomplete, match="cannot be taken up"):
            list(pieces)

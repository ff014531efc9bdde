"""Asking a price source over HTTPS: politely, for a limited time, with one set of failures.

Every provider that is plain HTTP is asked through `Client`. It keeps the source's rate limit,
waits as long as the source says when it is told to slow down, sends again what is worth sending
again, gives up at the deadline, and writes down what happened in a `Fetch`.
"""

from __future__ import annotations

import json
import os
import random
import re
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from decimal import Decimal
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import httpx

from clustrix_prefect.credentials import http_bodies
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

ATTEMPTS = 5
"""How often one request is sent before its failure counts."""

FIRST_DELAY = 0.25
"""Seconds before the second attempt; doubled for each one after it."""

LARGEST_BODY = 64 * 2**20
"""A page bigger than this is no price page, and could fill the memory."""

_SILENCE = 30.0  # no byte for so many seconds: the connection is dead
_WORTH_REPEATING = frozenset({408, 425, 500, 502, 503, 504})
_MEMBER = re.compile(r"\b([a-z])\s*=\s*(\d+)")  # of RateLimit: `"api";r=499;t=300`


@dataclass(frozen=True, slots=True)
class Answer:
    """A source's answer to one request, whole.

    Attributes:
        status: The HTTP status.
        headers: The headers; names in any case.
        body: The body, unpacked.
        url: What was asked, without its query.
    """

    status: int
    headers: httpx.Headers
    body: bytes
    url: str


Judge = Callable[[Answer], "type[PricingError] | None"]
"""A provider's own view of an answer that is not 2xx; `None` leaves it to the usual one."""


def ca_bundle() -> str | None:
    """The certificates to trust instead of the usual ones, if the environment names a file."""
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "AWS_CA_BUNDLE"):
        if path := os.environ.get(name):
            return path
    return None


def without_secrets(url: str) -> str:
    """`url` without user, query and fragment: what may be shown."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "(not a URL)"
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{host}{port}{parts.path}"


def parse_json(body: bytes | str) -> Any:
    """JSON with its numbers exact: fractions as `Decimal`, no NaN, no name given twice.

    Raises:
        ValueError: It is not JSON, or not JSON that means one thing.
    """
    return json.loads(
        body, parse_float=Decimal, parse_constant=_no_number, object_pairs_hook=_unambiguous
    )


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is not a number")


def _unambiguous(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the name {twice!r} is given twice")
    return result


class Client:
    """Asks one source, and writes down in a `Fetch` how that went.

    Args:
        fetch: Filled while asking; its `provider` is named in every failure.
        deadline: Seconds for all requests together, waiting included.
        interval: Seconds that must lie between two requests (the source's rate limit).
        headers: Sent with every request; this is where a secret belongs, never in the URL.
        judge: The provider's own view of answers that are not 2xx.
        attempts: How often one request is sent.
        first_delay: Seconds before the second attempt.

    Example:
        with Client(fetch, deadline=300) as client:
            page = client.get_json("https://prices.example.com/v1", {"page": "1"})
    """

    def __init__(
        self,
        fetch: Fetch,
        *,
        deadline: float,
        interval: float = 0.0,
        headers: Mapping[str, str] | None = None,
        judge: Judge | None = None,
        attempts: int = ATTEMPTS,
        first_delay: float = FIRST_DELAY,
    ) -> None:
        self.fetch = fetch
        self._started = time.monotonic()
        self._deadline = deadline
        self._interval = interval
        self._judge = judge
        self._attempts = attempts
        self._first_delay = first_delay
        self._next_request = 0.0
        bundle = ca_bundle()
        self._http = httpx.Client(
            # The certificates of httpx unless the environment says otherwise; never none at all.
            verify=ssl.create_default_context(cafile=bundle) if bundle else True,
            headers={
                "Accept": "application/json",
                "Accept-Encoding": http_bodies.TAKEN,
                "User-Agent": "clustrix-prefect",
                **(headers or {}),
            },
        )

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._http.close()
        self.fetch.seconds = time.monotonic() - self._started

    @property
    def remaining(self) -> float:
        """Seconds until the deadline; negative after it."""
        return self._started + self._deadline - time.monotonic()

    def get_json(self, url: str, params: Mapping[str, str] | None = None) -> Any:
        """Return the JSON document at `url`, its fractions as `Decimal`.

        Raises:
            PricingError: One of its subclasses, by what went wrong.
        """
        answer = self.get(url, params)
        try:
            return parse_json(answer.body)
        except (ValueError, RecursionError) as error:
            kind = answer.headers.get("Content-Type", "something")
            raise self.failure(
                PricingMalformed,
                f"{answer.url} answered with {kind} that is not JSON: {error}.",
                "Look whether a proxy or a gateway answers in the source's place.",
            ) from error

    def get(self, url: str, params: Mapping[str, str] | None = None) -> Answer:
        """Return the answer to a GET, sent again while that is worth it.

        Raises:
            PricingError: One of its subclasses, by what went wrong.
        """
        failed = 0
        while True:
            try:
                with self._sent(url, params) as response:
                    answer = self._whole(response)
                self._refuse_unless_good(answer)
                return answer
            except _Repeat as again:
                failed += 1
                self._wait(failed, again)

    def stream(self, url: str) -> Iterator[bytes]:
        """Yield the bytes at `url`, piece by piece, for files too big to hold.

        A download that breaks off is taken up where it broke, if the file is still the same.

        Raises:
            PricingError: One of its subclasses, by what went wrong.
        """
        done, version, failed = 0, "", 0
        while True:
            # What is counted must be what the server counts, so nothing packed.
            headers = {"Accept": "*/*", "Accept-Encoding": "identity"}
            if done:
                headers |= {"Range": f"bytes={done}-", "If-Range": version}
            try:
                with self._sent(url, headers=headers) as response:
                    if not response.is_success:
                        self._refuse_unless_good(self._whole(response))
                    if done and response.status_code != 206:
                        raise self.failure(
                            PricingIncomplete,
                            f"{without_secrets(url)} broke off after {done} bytes, "
                            "and cannot be taken up there.",
                            "Try again.",
                        )
                    version = response.headers.get("ETag", "")
                    for piece in self._pieces(response):
                        done += len(piece)
                        yield piece
                return
            except _Repeat as again:
                failed += 1
                self._wait(failed, again)

    def failure(self, kind: type[PricingError], what: str, remedy: str = "") -> PricingError:
        """Return an error of this source, with the facts of the asking so far."""
        self.fetch.seconds = time.monotonic() - self._started
        return kind(what, remedy, provider=self.fetch.provider, fetch=self.fetch)

    # --- one request ------------------------------------------------------------------------

    @contextmanager
    def _sent(
        self,
        url: str,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Iterator[httpx.Response]:
        """One request, sent when the rate limit allows it; its body is yet to be read."""
        self._keep_the_pace()
        self.fetch.requests += 1
        shown = without_secrets(url)
        began = time.monotonic()
        answered = False
        try:
            with self._http.stream(
                "GET",
                url,
                params=params,
                headers=headers,
                timeout=max(0.05, min(_SILENCE, self.remaining)),
            ) as response:
                answered = True
                self._note(response.headers)
                yield response
        except httpx.InvalidURL as error:
            raise self.failure(
                PricingUnreachable, f"{shown} is not a URL: {error}.", "Correct the endpoint."
            ) from error
        except http_bodies.Overpacked as error:
            raise self.failure(
                PricingMalformed,
                f"{shown} was not read: {error}.",
                "Look whether the endpoint is the documented one.",
            ) from error
        except httpx.HTTPError as error:
            if isinstance(error, httpx.TimeoutException):
                self._refuse_if_late(error)  # the silence was cut short by the deadline
            if answered and not isinstance(error, httpx.TimeoutException):
                raise _Repeat(
                    self.failure(
                        PricingIncomplete,
                        f"The answer of {shown} broke off: {str(error) or type(error).__name__}.",
                        "Try again later; if it stays so, look for a proxy that cuts answers.",
                    )
                ) from error
            if "CERTIFICATE_VERIFY_FAILED" in str(error):
                raise self.failure(
                    PricingUnreachable,
                    f"The certificate of {shown} is not trusted: {error}.",
                    "If a proxy of yours signs it, name its authority's file in SSL_CERT_FILE.",
                ) from error
            raise _Repeat(
                self.failure(
                    PricingUnreachable,
                    f"{shown} cannot be reached: {str(error) or type(error).__name__}.",
                    "Check the network, the proxy and the endpoint.",
                )
            ) from error
        finally:
            ended = time.monotonic()
            self.fetch.slowest = max(self.fetch.slowest, ended - began)
            # From its end: how long a request takes to arrive is not ours to know.
            self._next_request = ended + self._interval

    def _whole(self, response: httpx.Response) -> Answer:
        url = without_secrets(str(response.url))
        body = bytearray()
        for piece in self._pieces(response):
            body += piece
            if len(body) > LARGEST_BODY:
                raise self.failure(
                    PricingMalformed,
                    f"{url} answered with more than {LARGEST_BODY} bytes.",
                    "Look whether the endpoint is the documented one.",
                )
        return Answer(response.status_code, response.headers, bytes(body), url)

    def _pieces(self, response: httpx.Response) -> Iterator[bytes]:
        before = 0
        for piece in http_bodies.pieces(response):
            self.fetch.received += response.num_bytes_downloaded - before
            before = response.num_bytes_downloaded
            yield piece
            # httpx ends a silence; an answer that drips is for the deadline to end.
            self._refuse_if_late()

    def _note(self, headers: httpx.Headers) -> None:
        if self.fetch.http_date is None:
            self.fetch.http_date = http_date(headers.get("Date"))
        limit = dict(_MEMBER.findall(headers.get("RateLimit", "")))
        policy = dict(_MEMBER.findall(headers.get("RateLimit-Policy", "")))
        if "r" in limit:
            self.fetch.quota_remaining = int(limit["r"])
        if "q" in policy:
            self.fetch.quota_limit = int(policy["q"])

    def _refuse_unless_good(self, answer: Answer) -> None:
        if 200 <= answer.status < 300:
            return
        kind = self._judge(answer) if self._judge else None
        if kind is None:
            kind = _KINDS.get(answer.status)
        if kind is None:
            kind = PricingUnreachable if answer.status >= 500 else PricingMalformed
        failure = self.failure(
            kind, f"{answer.url} answered HTTP {answer.status}.", _REMEDIES[kind]
        )
        if kind is PricingThrottled:
            self.fetch.throttled += 1
        if kind is PricingThrottled or answer.status in _WORTH_REPEATING:
            raise _Repeat(failure, told=_told_to_wait(answer.headers))
        raise failure

    def _refuse_if_late(self, cause: Exception | None = None) -> None:
        if self.remaining <= 0:
            raise self.failure(
                PricingUnreachable,
                f"{self.fetch.provider} was not done within {self._deadline:g} s.",
                "Try again later, or allow a longer deadline.",
            ) from cause

    # --- when -------------------------------------------------------------------------------

    def _keep_the_pace(self) -> None:
        wait = self._next_request - time.monotonic()
        if wait > 0:
            time.sleep(max(0.0, min(wait, self.remaining)))
        self._refuse_if_late()

    def _wait(self, failed: int, again: _Repeat) -> None:
        """Wait before the next attempt, or give up: too many failed, or the deadline is nearer."""
        # Spread, so that many clients do not come back all at once.
        delay = self._first_delay * 2 ** (failed - 1) * random.uniform(0.5, 1.0)  # noqa: S311
        delay = max(delay, again.told, self._next_request - time.monotonic())
        if failed >= self._attempts or delay >= self.remaining:
            raise again.failure from again.__cause__
        time.sleep(delay)
        self.fetch.retries += 1


class _Repeat(Exception):
    """An attempt failed in a way that another one may not.

    Args:
        failure: What to raise if there is no other one.
        told: For how many seconds the source said to wait.
    """

    def __init__(self, failure: PricingError, told: float = 0.0) -> None:
        super().__init__(failure)
        self.failure = failure
        self.told = told


_KINDS: Mapping[int, type[PricingError]] = {
    401: PricingUnauthorised,
    403: PricingForbidden,
    429: PricingThrottled,
}

_REMEDIES: Mapping[type[PricingError], str] = {
    PricingUnauthorised: "Check the credentials: they are missing, wrong or expired.",
    PricingForbidden: "Ask for the permission to read prices with these credentials.",
    PricingThrottled: "Ask less often, or raise the quota.",
    PricingUnreachable: "The source is out of order: try again later.",
    PricingMalformed: "Look whether the endpoint is the documented one.",
    PricingIncomplete: "Try again.",
}


def http_date(text: str | None) -> datetime | None:
    """Return the moment that an HTTP date names, in UTC; `None` if it names none."""
    try:
        return parsedate_to_datetime(text or "").astimezone(timezone.utc)
    except ValueError:
        return None


def _told_to_wait(headers: httpx.Headers) -> float:
    """For how long the source says to wait: Retry-After, or the end of the RateLimit window."""
    told = headers.get("Retry-After", "").strip()
    if told.isdigit():
        return float(told)
    if (moment := http_date(told)) is not None:
        return max(0.0, (moment - datetime.now(timezone.utc)).total_seconds())
    limit = dict(_MEMBER.findall(headers.get("RateLimit", "")))
    return float(limit.get("t", 0.0))

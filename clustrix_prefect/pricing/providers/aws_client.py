"""boto3, with a deadline, a count of what it does, and our names for its failures."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from clustrix_prefect.errors import ConfigurationError
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
from clustrix_prefect.pricing.http import LARGEST_BODY, ca_bundle, http_date, without_secrets
from clustrix_prefect.pricing.providers.aws_account import AWSCredentials

try:
    import boto3
    from botocore import exceptions as boto
    from botocore.awsrequest import AWSResponse
    from botocore.config import Config
    from botocore.parsers import ResponseParserError
except ImportError as error:  # pragma: no cover - a matter of what is installed
    raise ConfigurationError(
        "Asking AWS for prices needs boto3, which is not installed.",
        "Install it with `pip install 'clustrix-prefect[aws]'`.",
    ) from error

if TYPE_CHECKING:
    from botocore.awsrequest import AWSPreparedRequest

ATTEMPTS = 4
"""How often boto3 sends one request."""

_SILENCE = 30.0
_USER = re.compile(r"//[^/@\s]*@")  # in a URL that boto3 quotes
_UNAUTHORISED = frozenset(
    {
        "AuthFailure",
        "ExpiredToken",
        "ExpiredTokenException",
        "IncompleteSignature",
        "IncompleteSignatureException",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "MissingAuthenticationToken",
        "MissingAuthenticationTokenException",
        "RequestExpired",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)
_FORBIDDEN = frozenset(
    {"AccessDenied", "AccessDeniedException", "OptInRequired", "UnauthorizedOperation"}
)
_THROTTLED = frozenset(
    {
        "LimitExceededException",
        "RequestLimitExceeded",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
        "429",
    }
)
_LOST_ITS_PLACE = frozenset({"ExpiredNextTokenException", "InvalidNextTokenException"})


class Asking:
    """Makes boto3's clients for one fetch.

    Args:
        fetch: Filled while the clients are used.
        credentials: The access key, or `None` for boto3's own search.
        deadline: Seconds for all that is asked.
    """

    def __init__(
        self, fetch: Fetch, credentials: AWSCredentials | None, *, deadline: float
    ) -> None:
        self.fetch = fetch
        self._credentials = credentials
        self._deadline = deadline
        self._started = time.monotonic()
        self._throttled = False

    def client(self, service: str, region: str, endpoint: str | None) -> Any:
        """Return a client of `service`; of boto3's own endpoint if `endpoint` is `None`."""
        with self.failures(endpoint or service):
            key: dict[str, Any] = {}
            if self._credentials is not None:
                token = self._credentials.session_token
                key = {
                    "aws_access_key_id": self._credentials.access_key_id.get_secret_value(),
                    "aws_secret_access_key": self._credentials.secret_access_key.get_secret_value(),
                    "aws_session_token": token.get_secret_value() if token else None,
                }
            session: Any = boto3.Session(region_name=region, **key)
            wait = max(0.05, min(_SILENCE, self.remaining))
            client = session.client(
                service,
                endpoint_url=endpoint,
                verify=ca_bundle(),
                config=Config(
                    connect_timeout=wait,
                    read_timeout=wait,
                    retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
                ),
            )
        connection = client._endpoint.http_session
        client.meta.events.register(
            "before-send", lambda request, **_: self._send(connection, request)
        )
        client.meta.events.register("response-received", self._note)
        return client

    def pages(self, client: Any, operation: str, **arguments: Any) -> Iterator[Any]:
        """Yield the pages of `operation`, as boto3's paginator asks for them."""
        pages = iter(client.get_paginator(operation).paginate(**arguments))
        while True:
            with self.failures(client.meta.endpoint_url):
                page = next(pages, None)
            if page is None:
                return
            yield page

    @property
    def remaining(self) -> float:
        """Seconds until the deadline; negative after it."""
        return self._started + self._deadline - time.monotonic()

    @contextmanager
    def failures(self, source: str) -> Iterator[None]:
        """Raise what boto3 raises as a `PricingError` that names `source`."""
        shown = without_secrets(source) if "://" in source else source
        try:
            yield
        except (boto.BotoCoreError, boto.ClientError, ResponseParserError, _Late) as error:
            kind, why = self._judged(error)
            raise self.failure(kind, f"{shown}: {why}", _REMEDIES[kind]) from error
        finally:
            self.fetch.seconds = time.monotonic() - self._started

    def failure(self, kind: type[PricingError], what: str, remedy: str = "") -> PricingError:
        """Return an error of AWS, with the facts of the asking so far."""
        self.fetch.seconds = time.monotonic() - self._started
        return kind(what, remedy, provider=self.fetch.provider, fetch=self.fetch)

    # --- what boto3 tells while it works ----------------------------------------------------

    def _send(self, connection: Any, request: AWSPreparedRequest) -> AWSResponse:
        """Send in boto3's place, to end an answer that drips at the deadline.

        boto3's time-outs end a silence; it has no limit for all of an answer.
        """
        if self.remaining <= 0:
            raise _Late
        self.fetch.requests += 1
        # "attempt=2; max=4": boto3 counts for the server's sake.
        self.fetch.retries += "attempt=1;" not in _text(request.headers.get("amz-sdk-request"))
        request.stream_output = True
        began = time.monotonic()
        try:
            response = connection.send(request)
            body = bytearray()
            # read1 gives what has come; read and stream would wait for all that was asked.
            while piece := response.raw.read1(65536):
                body += piece
                if self.remaining <= 0:
                    raise _Late
                if len(body) > LARGEST_BODY:
                    raise ResponseParserError(f"more than {LARGEST_BODY} bytes")
            promised = response.headers.get("Content-Length")
            if promised is not None and int(promised) != response.raw.tell():
                raise EOFError(f"{response.raw.tell()} of {promised} bytes came")
        except (boto.BotoCoreError, ResponseParserError, _Late):
            raise
        except Exception as error:
            # urllib3's, while reading; in these clothes boto3 sends the request again.
            raise _BrokeOff(endpoint_url=without_secrets(request.url), error=error) from error
        finally:
            self.fetch.slowest = max(self.fetch.slowest, time.monotonic() - began)
        self.fetch.received += len(body)
        if self.fetch.http_date is None:
            self.fetch.http_date = http_date(response.headers.get("Date"))
        return AWSResponse(request.url, response.status_code, response.headers, _Body(bytes(body)))

    def _note(self, parsed_response: Mapping[str, Any] | None, **_: Any) -> None:
        error = (parsed_response or {}).get("Error", {})
        self._throttled = str(error.get("Code")) in _THROTTLED
        self.fetch.throttled += self._throttled

    def _judged(self, error: Exception) -> tuple[type[PricingError], str]:
        if isinstance(error, _Late):
            late = PricingThrottled if self._throttled else PricingUnreachable
            return late, f"not done within {self._deadline:g} s."
        if isinstance(error, boto.ClientError):
            code = str(error.response.get("Error", {}).get("Code", ""))
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            return _kind_of(code, status), f"{code} (HTTP {status})."
        for types, kind in _KINDS:
            if isinstance(error, types):
                return kind, _USER.sub("//", str(error))
        return PricingUnreachable, _USER.sub("//", str(error))


def _text(header: str | bytes | None) -> str:
    return header.decode() if isinstance(header, bytes) else header or "attempt=1;"


class _Late(Exception):
    """The deadline has passed."""


class _BrokeOff(boto.ConnectionClosedError):
    """An answer ended in its middle."""


class _Body:
    """A body that was read, in the form that boto3 reads."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def stream(self, *_: Any, **__: Any) -> Iterator[bytes]:
        yield self._body


_KINDS: tuple[tuple[tuple[type[Exception], ...], type[PricingError]], ...] = (
    (
        (
            boto.NoCredentialsError,
            boto.PartialCredentialsError,
            boto.CredentialRetrievalError,
            boto.TokenRetrievalError,
            boto.UnauthorizedSSOTokenError,
            boto.SSOError,
            boto.ProfileNotFound,
        ),
        PricingUnauthorised,
    ),
    ((_BrokeOff, boto.PaginationError, boto.IncompleteReadError), PricingIncomplete),
    ((ResponseParserError,), PricingMalformed),
)

_REMEDIES: Mapping[type[PricingError], str] = {
    PricingUnauthorised: "Check the access key: it is missing, wrong or expired.",
    PricingForbidden: "Allow pricing:GetProducts (and ec2:DescribeSpotPriceHistory) to the key.",
    PricingThrottled: "Ask less often, or allow a longer deadline.",
    PricingUnreachable: "Check the network, the proxy, the region and the endpoint.",
    PricingMalformed: "Look whether the endpoint is AWS's own.",
    PricingIncomplete: "Try again.",
}


def _kind_of(code: str, status: int) -> type[PricingError]:
    if code in _UNAUTHORISED:
        return PricingUnauthorised
    if code in _FORBIDDEN:
        return PricingForbidden
    if code in _THROTTLED or status == 429:
        return PricingThrottled
    if code in _LOST_ITS_PLACE:
        return PricingIncomplete
    if status >= 500:
        return PricingUnreachable
    return {401: PricingUnauthorised, 403: PricingForbidden}.get(status, PricingMalformed)

"""The ways in which a provider gives no prices."""

from __future__ import annotations

from typing import ClassVar

from clustrix_prefect.errors import ClustrixError
from clustrix_prefect.pricing.fetch import Fetch


class PricingError(ClustrixError):
    """A provider gave no prices. There is no fallback: it is unavailable.

    Attributes:
        provider: Whom was asked.
        kind: The class of the failure, in one word.
        fetch: The facts of the asking, as far as it came.
    """

    kind: ClassVar[str] = "unavailable"

    def __init__(self, what: str, remedy: str = "", *, provider: str, fetch: Fetch) -> None:
        super().__init__(what, remedy)
        self.provider = provider
        self.fetch = fetch


class PricingUnauthorised(PricingError):
    """The credentials are missing, wrong or expired."""

    kind = "unauthorised"


class PricingForbidden(PricingError):
    """The credentials are good, and may not read prices."""

    kind = "forbidden"


class PricingThrottled(PricingError):
    """The provider said to slow down until our patience ended."""

    kind = "throttled"


class PricingUnreachable(PricingError):
    """No answer: no route, a reset connection, a server's failure, a deadline passed."""

    kind = "unreachable"


class PricingMalformed(PricingError):
    """An answer that is not what the provider documents."""

    kind = "malformed"


class PricingIncomplete(PricingError):
    """The answers ended before the list did: a truncated page, a loop of pages."""

    kind = "incomplete"

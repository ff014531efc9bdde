"""What came of asking a provider: its prices, and the facts of the asking."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime

from clustrix_prefect.pricing.price import Price


@dataclass(kw_only=True)
class Fetch:
    """The facts of asking one source once; filled while it is being asked.

    Attributes:
        provider: Whom was asked.
        source: The endpoint's URL, without secrets.
        authentication: `none`, `api key`, `service account`, `bearer`, `sigv4`.
        regions: The regions that were asked for; empty if the source has no regions.
        currency: The currency that was asked for, where one can be.
        started_at: When the asking began (UTC).
        seconds: How long all of it took.
        requests: Requests sent, retries among them.
        retries: Requests that were sent again.
        throttled: Answers that said to slow down.
        pages: Pages read.
        rows: Rows in the answers.
        received: Bytes of the answers' bodies.
        slowest: The slowest request, in seconds.
        http_date: The `Date` header of the first answer: is a cache serving yesterday's data?
        published_at: When the source says that it published the list.
        quota_remaining: What is left of the API's quota, where the source says so.
        quota_limit: The quota, where the source says so.
        skipped: Rows that gave no price, counted by the reason.
        not_covered: What the source sells and we do not list, such as savings plans.
    """

    provider: str
    source: str
    authentication: str
    started_at: datetime
    regions: tuple[str, ...] = ()
    currency: str | None = None
    seconds: float = 0.0
    requests: int = 0
    retries: int = 0
    throttled: int = 0
    pages: int = 0
    rows: int = 0
    received: int = 0
    slowest: float = 0.0
    http_date: datetime | None = None
    published_at: datetime | None = None
    quota_remaining: int | None = None
    quota_limit: int | None = None
    skipped: Counter[str] = field(default_factory=Counter)
    not_covered: tuple[str, ...] = ()

    def include(self, part: Fetch) -> None:
        """Count what was asked at the same time, by another connection, as part of this."""
        self.requests += part.requests
        self.retries += part.retries
        self.throttled += part.throttled
        self.pages += part.pages
        self.rows += part.rows
        self.received += part.received
        self.slowest = max(self.slowest, part.slowest)
        self.skipped.update(part.skipped)
        dates = [date for date in (self.http_date, part.http_date) if date is not None]
        self.http_date = min(dates, default=None)


@dataclass(frozen=True, slots=True)
class PriceList:
    """The prices of one provider, and how they were got."""

    prices: tuple[Price, ...]
    fetch: Fetch

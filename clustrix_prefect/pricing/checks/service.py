"""The asking itself: did it work, how long did it take, what is left, how old is what came?"""

from __future__ import annotations

from datetime import timedelta

from clustrix_prefect.errors import ClustrixError, CredentialError
from clustrix_prefect.pricing.checks.finding import Evidence, Finding, Level
from clustrix_prefect.pricing.errors import PricingError
from clustrix_prefect.pricing.fetch import Fetch, PriceList
from clustrix_prefect.pricing.thresholds import Thresholds

_CHECK_OF_KIND = {
    "unauthorised": "authentication",
    "forbidden": "authentication",
    "throttled": "quota",
    "unreachable": "availability",
    "malformed": "schema",
    "incomplete": "coverage",
}


def failed(provider: str, error: BaseException) -> Finding:
    """Return what it means for the checks that a provider gave no prices."""
    if isinstance(error, PricingError):
        # A server's own words may be in the chain of causes, never in the message.
        message = f"unavailable ({error.kind}): {error.message}"
        return Finding(
            Level.FAILURE, _CHECK_OF_KIND.get(error.kind, "availability"), provider, message
        )
    if isinstance(error, CredentialError):
        return Finding(Level.FAILURE, "authentication", provider, f"unavailable: {error.message}")
    if isinstance(error, ClustrixError):
        return Finding(Level.FAILURE, "availability", provider, f"unavailable: {error.message}")
    return Finding(
        Level.FAILURE,
        "availability",
        provider,
        f"unavailable: asking it ended with {type(error).__name__}.",
    )


def authentication(fetch: Fetch) -> Finding:
    """Return the provider took the credentials, or needs none."""
    how = (
        "needs no credentials"
        if fetch.authentication == "none"
        else f"{fetch.authentication} accepted"
    )
    return Finding(Level.OK, "authentication", fetch.provider, how)


def latency(fetch: Fetch, limits: Thresholds) -> Finding:
    """Return how long it took, in all and at most for one request."""
    took = f"{fetch.seconds:.1f} s for {fetch.requests} requests, {fetch.slowest:.1f} s the slowest"
    slow = fetch.slowest > limits.slow_request or fetch.seconds > limits.slow_fetch
    return Finding(Level.WARNING if slow else Level.OK, "latency", fetch.provider, took)


def quota(fetch: Fetch, limits: Thresholds) -> Finding:
    """Return what is left of the API's quota; being told to slow down is a warning too."""
    if fetch.throttled:
        return Finding(
            Level.WARNING,
            "quota",
            fetch.provider,
            f"told to slow down {fetch.throttled} times in {fetch.requests} requests",
        )
    if fetch.quota_remaining is None or not fetch.quota_limit:
        return Finding(Level.OK, "quota", fetch.provider, "not told to slow down")
    left = fetch.quota_remaining / fetch.quota_limit
    return Finding(
        Level.WARNING if left < limits.quota_left else Level.OK,
        "quota",
        fetch.provider,
        f"{fetch.quota_remaining} of {fetch.quota_limit} requests left",
    )


def freshness(prices: PriceList, limits: Thresholds) -> Finding:
    """Return when the source published, or answered; never since when a price holds."""
    fetch = prices.fetch
    provider = fetch.provider
    evidence = []
    if fetch.http_date is not None:
        age = fetch.started_at - fetch.http_date
        if age > limits.oldest_answer:
            evidence.append(Evidence(text=f"the answer is {_ago(age)} old by its Date"))
        elif -age > limits.clock_skew + timedelta(seconds=fetch.seconds):
            evidence.append(Evidence(text=f"the answer's Date is {_ago(-age)} in the future"))
    published = [price.published_at for price in prices.prices if price.published_at is not None]
    if fetch.published_at is not None:
        published.append(fetch.published_at)
    if published:
        age = fetch.started_at - min(published)
        if age > limits.oldest_publication:
            evidence.append(Evidence(text=f"the list was published {_ago(age)} ago"))
    if evidence:
        text = "; ".join(str(item) for item in evidence)
        return Finding(Level.FAILURE, "freshness", provider, f"{text}.", tuple(evidence))
    if fetch.http_date is None and not published:
        return Finding(Level.OK, "freshness", provider, "the source does not say when it answered")
    return Finding(Level.OK, "freshness", provider, "the answers are of today")


def _ago(age: timedelta) -> str:
    hours = age.total_seconds() / 3600
    return f"{hours:.0f} hours" if hours < 72 else f"{hours / 24:.0f} days"

"""What has been seen to go wrong with price sources; each server can do what applies to it."""

from __future__ import annotations

from enum import Enum


class Fault(str, Enum):
    """One thing that a server does wrong while its `fault` is set to it.

    Those of the first group are the connection's and work with every `TLSServer`. Each server
    lists the others that it can do in its `FAULTS`, and says in `NOT_APPLICABLE` why it cannot
    do the rest.
    """

    # The connection and HTTP itself.
    HTML_502 = "every answer is a gateway's HTML page, with status 502"
    HTML_200 = "every answer is an HTML page (a captive portal), with status 200"
    RESET = "the connection is reset in place of an answer"
    SLOW_BODY = "the body drips, a byte at a time"
    TRUNCATED_BODY = "the connection ends in the middle of the body"
    BURST_429 = "the first three requests are told to slow down"
    ALWAYS_429 = "every request is told to slow down"
    STALE = "the answers are yesterday's, from a cache"

    # Who asks.
    EXPIRED_TOKEN = "the credentials have expired"
    FORBIDDEN = "the credentials may not read prices"

    # The pages.
    TRUNCATED_PAGE = "a page lacks its second half, and says nothing of it"
    LOOP = "the next page is the first one, again and again"
    LOOP_CHANGING_TOKENS = "the next page is the first one, under a new token each time"
    OBJECTS = "the rows are of another type than documented (objects for strings, or the reverse)"
    RENAMED_KEY = "the key that holds the rows has another name"
    DUPLICATE_IDS = "rows come twice with the same identity and other prices"

    # The numbers.
    ZERO_PRICE = "some prices are 0"
    MISSING_PRICE = "some prices are missing"
    INFLATED = "some prices are 1.10 times what they are (dedicated tenancy mixed in)"
    WINDOWS_AS_LINUX = "some Linux rows carry the price of Windows"
    SPOT_SWAPPED = "spot and on-demand prices are swapped"
    WRONG_UNIT = "some prices are for another time than documented (a month, a minute)"
    OTHER_CURRENCY = "some prices are in another currency"
    CHEAP_GPU = "a machine with accelerators costs $0.01"

    # What is there.
    REGION_DROPPED = "a region is not there any more"
    TYPE_DROPPED = "a machine type is not there any more"


CONNECTION_FAULTS = frozenset(
    {
        Fault.HTML_502,
        Fault.HTML_200,
        Fault.RESET,
        Fault.SLOW_BODY,
        Fault.TRUNCATED_BODY,
        Fault.BURST_429,
        Fault.ALWAYS_429,
        Fault.STALE,
    }
)
"""What every `TLSServer` can do."""

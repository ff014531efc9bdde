"""AWS's Local Zones: parts of a region in other places, with prices of their own.

https://docs.aws.amazon.com/local-zones/latest/ug/available-local-zones.html: `us-west-2-lax-1a` is
in `us-west-2-lax-1`, whose on-demand prices are listed under that name; EC2 answers for its spot
prices in `us-west-2`. A Wavelength Zone (`us-east-1-wl1-bos-wlz-1`) is by itself. The zones of a
region have only a letter more than its name.
"""

from __future__ import annotations

import re

_LOCAL = re.compile(
    r"(?P<group>(?P<region>[a-z]+(?:-[a-z]+)+-\d+)-(?:wl\d+-)?[a-z]+-(?:wlz-)?\d+)[a-z]?\Z"
)


def local_zone_of(zone: str | None) -> str | None:
    """What on-demand prices call the Local Zone that a zone is in; `None` for other zones."""
    match = _LOCAL.match(zone or "")
    return match["group"] if match else None


def region_around(region: str) -> str:
    """Return the region that a Local Zone belongs to; a region itself."""
    match = _LOCAL.match(region)
    return match["region"] if match else region

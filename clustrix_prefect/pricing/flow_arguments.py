"""The command line that the price flows have in common."""

from __future__ import annotations

import argparse
from typing import Any

from clustrix_prefect.pricing.providers import PROVIDERS


def flow_parser(description: str) -> argparse.ArgumentParser:
    """Return a parser of what all of them take."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "--provider", action="append", choices=list(PROVIDERS), help="whom to ask; may be repeated"
    )
    parser.add_argument(
        "--region",
        action="append",
        default=[],
        type=_region,
        metavar="PROVIDER=REGION",
        help="such as aws=us-east-1; may be repeated",
    )
    parser.add_argument(
        "--endpoint",
        action="append",
        default=[],
        type=_endpoint,
        metavar="PROVIDER=URL",
        help="ask a gateway; also PROVIDER.compute_endpoint=URL and the like",
    )
    parser.add_argument("--credentials", metavar="BLOCK", help="a PricingCredentials block")
    parser.add_argument(
        "--baseline", default="approved", metavar="BLOCK", help="a PricingBaseline block"
    )
    return parser


def flow_parameters(options: argparse.Namespace) -> dict[str, Any]:
    """Return the flows' parameters, from what was parsed."""
    regions: dict[str, list[str]] = {}
    for provider, region in options.region:
        regions.setdefault(provider, []).append(region)
    endpoints: dict[str, dict[str, str]] = {}
    for provider, keyword, url in options.endpoint:
        endpoints.setdefault(provider, {})[keyword] = url
    return {
        "providers": options.provider,
        "regions": regions or None,
        "options": endpoints or None,
        "credentials": options.credentials,
        "baseline": options.baseline,
    }


def _region(text: str) -> tuple[str, str]:
    provider, _, region = text.partition("=")
    if provider not in PROVIDERS or not region:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form PROVIDER=REGION")
    return provider, region


def _endpoint(text: str) -> tuple[str, str, str]:
    whose, _, url = text.partition("=")
    provider, _, keyword = whose.partition(".")
    keyword = keyword or "endpoint"
    if provider not in PROVIDERS or not url or not keyword.endswith(("endpoint", "authority")):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form PROVIDER=URL")
    return provider, keyword, url

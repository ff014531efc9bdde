"""What command lines about prices take: providers, and texts that belong to one of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from cyclopts import Parameter, Token

from clustrix_prefect.pricing.providers import PROVIDERS, Provider


def regions_of(texts: Sequence[str]) -> dict[str, list[str]]:
    """Return each provider's regions, from texts such as "aws=us-east-1".

    Raises:
        ValueError: A text is not of that form.
    """
    regions: dict[str, list[str]] = {}
    for text in texts:
        provider, _, region = text.partition("=")
        if provider not in PROVIDERS or not region:
            raise ValueError(_told(text, "PROVIDER=REGION"))
        regions.setdefault(provider, []).append(region)
    return regions


def endpoints_of(texts: Sequence[str]) -> dict[str, dict[str, str]]:
    """Return arguments of each provider's `fetch_prices`, from texts such as "aws=https://host".

    Raises:
        ValueError: A text is not of that form.
    """
    endpoints: dict[str, dict[str, str]] = {}
    for text in texts:
        whose, _, url = text.partition("=")
        provider, _, keyword = whose.partition(".")
        keyword = keyword or "endpoint"
        is_known = keyword == "authority" or keyword.endswith("endpoint")
        if provider not in PROVIDERS or not is_known or not url:
            raise ValueError(_told(text, "PROVIDER=URL"))
        endpoints.setdefault(provider, {})[keyword] = url
    return endpoints


def flow_parameters(
    provider: Sequence[Provider], region: Sequence[str], endpoint: Sequence[str]
) -> dict[str, Any]:
    """Return the parameters of a price flow that say whom it asks for what."""
    return {
        "providers": list(provider) or None,
        "regions": regions_of(region) or None,
        "options": endpoints_of(endpoint) or None,
    }


def _told(text: str, form: str) -> str:
    return f"{text} is not of the form {form}; the providers are {', '.join(PROVIDERS)}."


def _verified(parse: Callable[[Sequence[str]], object]) -> Parameter:
    """Return what refuses texts that cannot be parsed, while the command line is read."""

    def convert(_: object, tokens: Sequence[Token]) -> tuple[str, ...]:
        texts = tuple(token.value for token in tokens)
        parse(texts)
        return texts

    return Parameter(converter=convert)


AskedProviders = Annotated[
    tuple[Provider, ...], Parameter(help="whom to ask; may be repeated; by default all that answer")
]
Regions = Annotated[
    tuple[str, ...],
    _verified(regions_of),
    Parameter(help="PROVIDER=REGION, such as aws=us-east-1; may be repeated"),
]
Endpoints = Annotated[
    tuple[str, ...],
    _verified(endpoints_of),
    Parameter(
        help="PROVIDER=URL: ask a gateway; also PROVIDER.compute_endpoint=URL and the like; may be"
        " repeated"
    ),
]
CredentialsBlock = Annotated[
    str | None,
    Parameter(help="a PricingCredentials block; by default the environment's credentials"),
]
BaselineBlock = Annotated[str, Parameter(help="a PricingBaseline block; by default approved")]


@Parameter(name="*", help="whom to ask for what, and beside which prices")
@dataclass(frozen=True)
class PriceQuestion:
    """What the command lines of both price flows take: whom to ask for what, and beside which."""

    provider: AskedProviders = ()
    region: Regions = ()
    endpoint: Endpoints = ()
    credentials: CredentialsBlock = None
    baseline: BaselineBlock = "approved"

    def parameters(self) -> dict[str, Any]:
        """Return the parameters of the flow."""
        return {
            **flow_parameters(self.provider, self.region, self.endpoint),
            "credentials": self.credentials,
            "baseline": self.baseline,
        }

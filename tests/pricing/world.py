"""A world of price sources on loopback: a server for each provider, and how to ask it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import SecretStr

from clustrix_prefect.pricing.asking import Question, ask
from clustrix_prefect.pricing.blocks import PricingCredentials
from clustrix_prefect.pricing.checks import Asked
from tests.pricing.servers import aws, azure, gcp, huggingface, lambda_cloud
from tests.pricing.servers.aws import AWSServer
from tests.pricing.servers.azure import AzureServer
from tests.pricing.servers.faults import Fault
from tests.pricing.servers.gcp import GCPServer
from tests.pricing.servers.huggingface import HuggingFaceServer
from tests.pricing.servers.lambda_cloud import LambdaServer
from tests.pricing.servers.tls import TLSServer

CREDENTIALS = PricingCredentials(
    aws_access_key_id=SecretStr(aws.ACCESS_KEY),
    aws_secret_access_key=SecretStr(aws.SECRET_KEY),
    gcp_api_key=SecretStr(gcp.API_KEY),
    azure_subscription_id=azure.SUBSCRIPTION,
    azure_tenant_id=azure.TENANT,
    azure_client_id=azure.CLIENT,
    azure_client_secret=SecretStr(azure.SECRET),
    lambda_api_key=SecretStr(lambda_cloud.KEY),
    huggingface_token=SecretStr(huggingface.TOKEN),
)
"""What the servers want to see."""


@dataclass(frozen=True)
class Source:
    """One provider in this world.

    Attributes:
        kind: Its server.
        options: How to ask that: arguments of `fetch_prices`.
        regions: Which regions to ask for.
        settings: The server's.
    """

    kind: type[TLSServer]
    options: Callable[[Any], dict[str, Any]]
    regions: tuple[str, ...] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    def server(self) -> TLSServer:
        """A server that is not started yet."""
        return self.kind(**self.settings)

    @property
    def faults(self) -> frozenset[Fault]:
        """What it can do wrong."""
        return self.kind.FAULTS


SOURCES: Mapping[str, Source] = {
    "aws": Source(
        AWSServer,
        lambda server: {
            "endpoint": server.url,
            "bulk_endpoint": server.url,
            "compute_endpoint": server.url,
            # Each region has an endpoint of its own, and takes boto3 a second.
            "spot": server.fault is Fault.SPOT_SWAPPED,
        },
        regions=tuple(aws.REGIONS),
    ),
    "gcp": Source(
        GCPServer,
        lambda server: {"endpoint": f"{server.url}/v1"},
        regions=tuple(region for regions, _ in gcp.PLACES.values() for region in regions),
        settings={"largest_page": 200},  # several pages
    ),
    "azure": Source(
        AzureServer,
        lambda server: {
            "endpoint": server.prices_url,
            "compute_endpoint": server.url,
            "authority": server.url,
        },
        regions=azure.REGIONS,
        settings={"page_size": 20},  # several pages for each region
    ),
    "lambda_cloud": Source(LambdaServer, lambda server: {"endpoint": server.endpoint}),
    "huggingface": Source(HuggingFaceServer, lambda server: {"endpoint": server.url}),
}


def question(provider: str, server: TLSServer, deadline: float = 60.0) -> Question:
    """What to ask a provider's server."""
    source = SOURCES[provider]
    return Question(
        provider=provider,
        regions=source.regions,
        credentials=CREDENTIALS,
        options=source.options(server),
        deadline=deadline,
    )


def answer(provider: str, server: TLSServer, deadline: float = 60.0) -> Asked:
    """What comes of asking it."""
    try:
        return Asked(provider=provider, answer=ask(question(provider, server, deadline)))
    except Exception as error:  # as in the flow, any failure is an answer
        return Asked(provider=provider, answer=error)

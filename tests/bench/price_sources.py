"""Price sources as long as the real ones, in a process of their own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from itertools import product
from multiprocessing.connection import Connection

from tests.pricing.servers import aws, azure, gcp, huggingface, lambda_cloud
from tests.pricing.servers.tls import AUTHORITY

AWS_TYPES = 1400
AWS_REGIONS = 30
# Each price of the file comes with so many others, which makes more than 300 MB.
AWS_FILLER = 45
AZURE_REGIONS = 25
GCP_SKUS = 40_000
GCP_PLACES = 40
_AZURE_SIZES = 550  # four prices each in a region: Linux and Windows, on demand and spot


def serve(connection: Connection) -> None:
    """Start all, say where they are, and stay until the other end of the connection is closed."""
    with ExitStack() as stack:
        listed = aws.AWSServer(
            aws.generated_machines(AWS_TYPES), aws.generated_regions(AWS_REGIONS)
        )
        # How long our server looks for rows is not what is measured.
        listed.variants = listed.variants[:1]
        file = aws.AWSServer(aws.generated_machines(AWS_TYPES), aws.generated_regions(1))
        file.filler = AWS_FILLER
        vms = azure.AzureServer(list(_azure_rows()))
        places = gcp.generated_places(GCP_PLACES)
        machines = len(gcp.GCPServer(more=0, places=places).skus())
        skus = gcp.GCPServer(more=GCP_SKUS - machines, places=places)
        gpus = lambda_cloud.LambdaServer()
        hub = huggingface.HuggingFaceServer()
        for server in (listed, file, vms, skus, gpus, hub):
            stack.enter_context(server)
        connection.send(
            {
                "environment": AUTHORITY.environment(),
                "options": {
                    "aws": {"endpoint": listed.url, "bulk_endpoint": file.url},
                    "gcp": {"endpoint": f"{skus.url}/v1"},
                    "azure": {"endpoint": vms.prices_url},
                    "lambda_cloud": {"endpoint": gpus.endpoint},
                    "huggingface": {"endpoint": hub.url},
                },
                "regions": {
                    "aws": list(listed.regions),
                    "azure": [f"made{number}" for number in range(AZURE_REGIONS)],
                },
                "credentials": {
                    "aws_access_key_id": aws.ACCESS_KEY,
                    "aws_secret_access_key": aws.SECRET_KEY,
                    "gcp_api_key": gcp.API_KEY,
                    "lambda_api_key": lambda_cloud.KEY,
                },
            }
        )
        try:
            connection.recv()
        except EOFError:  # measured
            return


def _azure_rows() -> Iterator[azure.Row]:
    """Sizes named and priced as Azure's: in a series, in proportion to the processors."""
    features = ("", "s", "as", "ads", "ds", "ls")
    counts = (2, 4, 8, 16, 20, 32, 48, 64)
    sizes = list(product("DEF", range(3, 7), features, counts))[:_AZURE_SIZES]
    for region in range(AZURE_REGIONS):
        for letter, version, feature, count in sizes:
            name = f"{letter}{count}{feature} v{version}"
            series = f"Virtual Machines {letter}{feature}v{version} Series"
            linux = round((0.04 + version / 1000 + len(feature) / 500) * count, 6)
            windows = round(linux + 0.046 * count, 6)
            for kind, share in (("", 1.0), (" Spot", 0.2), (" Low Priority", 0.3)):
                for system, price in (("", linux), (" Windows", windows)):
                    yield azure.row(
                        f"made{region}",
                        f"Standard_{name.replace(' ', '_')}",
                        series + system,
                        name + kind,
                        round(price * share * (1 + region / 50), 6),
                    )

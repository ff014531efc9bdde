"""One small module per provider, each with one public function, `fetch_prices`.

A module is imported when its provider is asked, so a client library that is not installed
(boto3, google-auth, azure-mgmt-compute) stands in nobody else's way.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

PROVIDERS: Mapping[str, str] = MappingProxyType(
    {
        "aws": "clustrix_prefect.pricing.providers.aws",
        "gcp": "clustrix_prefect.pricing.providers.gcp",
        "azure": "clustrix_prefect.pricing.providers.azure",
        "lambda_cloud": "clustrix_prefect.pricing.providers.lambda_cloud",
        "huggingface": "clustrix_prefect.pricing.providers.huggingface",
    }
)
"""The name of each provider, and the module that asks it."""

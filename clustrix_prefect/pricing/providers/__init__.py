"""One small module per provider, each with one public function, `fetch_prices`.

A module is imported when its provider is asked, so a client library that is not installed
(boto3, google-auth, azure-mgmt-compute) stands in nobody else's way.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, get_args

Provider = Literal["aws", "gcp", "azure", "lambda_cloud", "huggingface"]

PROVIDERS: Mapping[str, str] = MappingProxyType(
    {name: f"{__name__}.{name}" for name in get_args(Provider)}
)
"""The name of each provider, and the module that asks it."""

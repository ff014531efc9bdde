"""With whose credentials providers are asked from the command line: the environment's.

Each variable may hold a reference (`op://...`, `prefect:...`) in place of the secret.

    aws            AWS_ACCESS_KEY_ID and the like, or what else boto3 finds; without, the public
                   files are read, which takes minutes
    gcp            GOOGLE_API_KEY, or what google-auth finds (GOOGLE_APPLICATION_CREDENTIALS)
    azure          none needed; AZURE_SUBSCRIPTION_ID, AZURE_TENANT_ID, AZURE_CLIENT_ID and
                   AZURE_CLIENT_SECRET for what machines the sizes are
    lambda_cloud   LAMBDA_API_KEY
    huggingface    none needed; HF_TOKEN for a larger quota
"""

from __future__ import annotations

import os
from typing import Any

from clustrix_prefect.pricing.blocks import PricingCredentials

_VARIABLES = {
    "AWS_ACCESS_KEY_ID": "aws_access_key_id",
    "AWS_SECRET_ACCESS_KEY": "aws_secret_access_key",
    "AWS_SESSION_TOKEN": "aws_session_token",
    "GOOGLE_API_KEY": "gcp_api_key",
    "AZURE_SUBSCRIPTION_ID": "azure_subscription_id",
    "AZURE_TENANT_ID": "azure_tenant_id",
    "AZURE_CLIENT_ID": "azure_client_id",
    "AZURE_CLIENT_SECRET": "azure_client_secret",
    "LAMBDA_API_KEY": "lambda_api_key",
    "HF_TOKEN": "huggingface_token",
}


def credentials_from_environment() -> PricingCredentials:
    """Return what the environment says, references not yet resolved."""
    given: dict[str, Any] = {
        field: os.environ[name] for name, field in _VARIABLES.items() if os.environ.get(name)
    }
    return PricingCredentials(**given)


def options_from_environment(provider: str) -> dict[str, Any]:
    """More arguments of a provider's `fetch_prices`."""
    if provider != "aws" or os.environ.get("AWS_ACCESS_KEY_ID"):
        return {}
    try:
        import boto3
    except ImportError:
        return {}
    # A profile or a role of the machine: boto3 itself has a key.
    return {"source": "api"} if boto3.Session().get_credentials() is not None else {}

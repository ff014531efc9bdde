"""With whose credentials providers are asked from the command line: the environment's.

Each variable may hold a reference (`op://...`, `prefect:...`) in place of the secret.

    aws            what boto3 finds; without, the public files are read in place of the API
    gcp            GOOGLE_API_KEY, or what google-auth finds (GOOGLE_APPLICATION_CREDENTIALS)
    azure          none needed; AZURE_SUBSCRIPTION_ID, AZURE_TENANT_ID, AZURE_CLIENT_ID and
                   AZURE_CLIENT_SECRET for what machines the sizes are
    lambda_cloud   LAMBDA_API_KEY
    huggingface    none needed; HF_TOKEN for a larger quota
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import SecretStr

from clustrix_prefect.credentials import resolve

_AZURE = (
    "AZURE_SUBSCRIPTION_ID",
    "AZURE_TENANT_ID",
    "AZURE_CLIENT_ID",
    "AZURE_CLIENT_SECRET",
)


def keywords_of(provider: str) -> dict[str, Any]:
    """How the environment says to ask a provider: keywords of its `fetch_prices`.

    Raises:
        CredentialError: A reference does not lead to a secret.
    """
    return _ACCOUNTS[provider]()


def _secret(name: str) -> SecretStr | None:
    value = resolve(os.environ.get(name))
    return SecretStr(value) if value else None


def _aws() -> dict[str, Any]:
    try:
        import boto3
    except ImportError:
        return {"source": "bulk"}
    return {} if boto3.Session().get_credentials() is not None else {"source": "bulk"}


def _gcp() -> dict[str, Any]:
    from clustrix_prefect.pricing.providers.gcp import GCPCredentials

    key = _secret("GOOGLE_API_KEY")
    return {"credentials": GCPCredentials(api_key=key)} if key else {}


def _azure() -> dict[str, Any]:
    from clustrix_prefect.pricing.providers.azure import AzureCredentials

    values = [_secret(name) for name in _AZURE]
    if None in values:
        return {}
    subscription, tenant, client, secret = (value.get_secret_value() for value in values if value)
    return {"credentials": AzureCredentials(subscription, tenant, client, SecretStr(secret))}


def _lambda_cloud() -> dict[str, Any]:
    from clustrix_prefect.pricing.providers.lambda_cloud import LambdaCredentials

    key = _secret("LAMBDA_API_KEY")
    return {"credentials": LambdaCredentials(key)} if key else {}


def _huggingface() -> dict[str, Any]:
    from clustrix_prefect.pricing.providers.huggingface import HuggingFaceCredentials

    token = _secret("HF_TOKEN")
    return {"credentials": HuggingFaceCredentials(token)} if token else {}


_ACCOUNTS: Mapping[str, Callable[[], dict[str, Any]]] = {
    "aws": _aws,
    "gcp": _gcp,
    "azure": _azure,
    "lambda_cloud": _lambda_cloud,
    "huggingface": _huggingface,
}

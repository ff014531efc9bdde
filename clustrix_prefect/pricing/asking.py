"""Asking the providers, each with its own credentials and its own settings."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import SecretStr

from clustrix_prefect.credentials import resolve
from clustrix_prefect.errors import ConfigurationError
from clustrix_prefect.pricing.blocks import PricingCredentials
from clustrix_prefect.pricing.fetch import PriceList
from clustrix_prefect.pricing.providers import PROVIDERS

WITHOUT_CREDENTIALS = ("aws", "azure", "huggingface")
"""Who tells prices to everybody; AWS in its public files."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """What to ask one provider.

    Attributes:
        provider: Whom.
        regions: Its regions; `None` for its usual ones.
        credentials: What it may want to see.
        options: More arguments of its `fetch_prices`, such as endpoints.
        deadline: Seconds for all of it.
        spot: Whether to ask for spot prices where that is another request, with credentials.
    """

    provider: str
    regions: tuple[str, ...] | None = None
    credentials: PricingCredentials | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    deadline: float = 300.0
    spot: bool = False


def questions(
    providers: Sequence[str] | None,
    *,
    regions: Mapping[str, Sequence[str]] | None = None,
    credentials: PricingCredentials | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    deadline: float = 300.0,
    spot: bool = False,
) -> list[Question]:
    """Return what to ask each provider.

    Args:
        providers: Whom; default: who needs no credentials, and whose credentials there are.
        regions: For each provider; default: its usual ones.
        credentials: What they may want to see.
        options: For each provider more arguments of its `fetch_prices`.
        deadline: Seconds for each.
        spot: Whether to ask for spot prices where that is another request, with credentials.

    Raises:
        ConfigurationError: There is no such provider.
    """
    if providers is None:
        providers = [name for name in PROVIDERS if _can_be_asked(name, credentials)]
    for name in (*providers, *(regions or {}), *(options or {})):
        if name not in PROVIDERS:
            raise ConfigurationError(
                f"There is no provider {name!r}.", f"There are {', '.join(PROVIDERS)}."
            )
    return [
        Question(
            provider=name,
            regions=tuple((regions or {}).get(name, ())) or None,
            credentials=credentials,
            options=dict((options or {}).get(name, {})),
            deadline=deadline,
            spot=spot,
        )
        for name in dict.fromkeys(providers)
    ]


def ask(question: Question) -> PriceList:
    """Return the prices of one provider.

    Raises:
        PricingError: It gave none.
        CredentialError: A reference to what it wants to see cannot be resolved.
    """
    module = importlib.import_module(PROVIDERS[question.provider])
    credentials = _credentials(question.provider, question.credentials, module)
    options = dict(question.options)
    if question.provider == "aws":
        # Without a key of ours, the files that are public. `source="api"` says that boto3 has one.
        options.setdefault("source", "bulk" if credentials is None else "api")
        # A gateway for the one API is none for the other.
        reachable = "endpoint" not in options or "compute_endpoint" in options
        options.setdefault("spot", question.spot and reachable and options["source"] == "api")
    prices: PriceList = module.fetch_prices(
        regions=question.regions,
        credentials=credentials,
        deadline=question.deadline,
        **options,
    )
    return prices


def ask_second_source(question: Question) -> PriceList:
    """Return the same prices from another source: AWS's public files.

    Raises:
        PricingError: It gave none.
    """
    from clustrix_prefect.pricing.providers import aws_bulk

    endpoint = question.options.get("bulk_endpoint") or aws_bulk.ENDPOINT
    return aws_bulk.fetch_bulk_prices(
        regions=question.regions, endpoint=endpoint, deadline=question.deadline
    )


def has_second_source(question: Question) -> bool:
    """Return whether the prices are in another source too, which is not the one that is asked."""
    return question.provider == "aws" and (
        _can_be_asked("aws", question.credentials, by_key=True)
        or question.options.get("source") == "api"
    )


def _can_be_asked(
    provider: str, credentials: PricingCredentials | None, *, by_key: bool = False
) -> bool:
    if provider in WITHOUT_CREDENTIALS and not by_key:
        return True
    if credentials is None:
        return False
    given = {
        "aws": credentials.aws_access_key_id,
        "gcp": credentials.gcp_api_key or credentials.gcp_service_account,
        "lambda_cloud": credentials.lambda_api_key,
    }
    return bool(given.get(provider))


def _credentials(provider: str, block: PricingCredentials | None, module: Any) -> Any:
    """Return the provider's own description of its credentials, every reference resolved."""
    if block is None:
        return None

    def secret(value: SecretStr | None) -> SecretStr | None:
        found = resolve(value, store=block.secret_store)
        return SecretStr(found) if found else None

    if provider == "aws":
        key, hidden = secret(block.aws_access_key_id), secret(block.aws_secret_access_key)
        if key is None or hidden is None:
            return None
        return module.AWSCredentials(key, hidden, secret(block.aws_session_token))
    if provider == "gcp":
        api_key, account = secret(block.gcp_api_key), secret(block.gcp_service_account)
        if api_key is None and account is None:
            return None
        return module.GCPCredentials(api_key=api_key, service_account=account)
    if provider == "azure":
        names = (block.azure_subscription_id, block.azure_tenant_id, block.azure_client_id)
        hidden = secret(block.azure_client_secret)
        if hidden is None or not all(names):
            return None
        plain = [resolve(name, store=block.secret_store) for name in names]
        return module.AzureCredentials(*plain, hidden)
    if provider == "lambda_cloud":
        key = secret(block.lambda_api_key)
        return key and module.LambdaCredentials(key)
    token = secret(block.huggingface_token)
    return token and module.HuggingFaceCredentials(token)

"""Prefect blocks of the price flows: the approved baseline, and the providers' credentials."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

from pydantic import ConfigDict, Field, SecretStr, field_validator

from clustrix_prefect.credentials.known_fields import KnownFields
from clustrix_prefect.credentials.onepassword import store_name
from clustrix_prefect.credentials.references import check
from clustrix_prefect.pricing import baseline
from clustrix_prefect.pricing.checks.waivers import Waiver
from clustrix_prefect.pricing.price import PriceKey


class PricingBaseline(KnownFields):
    """Where the approved prices are, who approved them, and what is waived until when.

    `approve_pricing_baseline` saves it. Waivers can be added by hand.
    """

    _block_type_name = "Pricing Baseline"
    _block_type_slug = "pricing-baseline"
    _description = "The prices that somebody approved, by path and digest, and waivers."
    _code_example = """
        ```python
        from clustrix_prefect import PricingBaseline

        amounts = PricingBaseline.load("BLOCK_NAME").amounts()
        ```
    """

    path: str = Field(title="Path", description="File with the amounts: any fsspec path.")
    digest: str = Field(title="Digest", description="The sha256 of the file.")
    approver: str = Field(title="Approver", description="Who approved the prices.")
    approved_at: datetime = Field(title="Approved at", description="When they were approved (UTC).")
    reason: str = Field(title="Reason", description="Why they were approved.")
    waivers: list[Waiver] = Field(
        default_factory=list,
        title="Waivers",
        description="Prices on which a check is silent until a day.",
    )

    @field_validator("digest")
    @classmethod
    def _sha256(cls, value: str) -> str:
        if len(value) != 64 or set(value) - set("0123456789abcdef"):
            raise ValueError("expects a sha256, as 64 hexadecimal digits")
        return value

    def amounts(self) -> dict[PriceKey, Decimal]:
        """Return the approved amounts.

        Raises:
            ConfigurationError: They cannot be read, or are not what was approved.
        """
        return baseline.read(self.path, self.digest)


class PricingCredentials(KnownFields):
    """What the providers want to see before they tell prices.

    Each may be a reference: `op://vault/item/field`, `env:NAME`, `prefect:block-name`. Leave out
    what you do not have: Azure, AWS's public files and Hugging Face need none.
    """

    _block_type_name = "Pricing Credentials"
    _block_type_slug = "pricing-credentials"
    _description = "What the cloud providers want to see before they tell prices."
    _code_example = """
        ```python
        from clustrix_prefect import PricingCredentials

        PricingCredentials(lambda_api_key="op://cloud/lambda/api-key").save("BLOCK_NAME")
        ```
    """

    # A wrong value is not repeated in the error: it may be a secret.
    model_config = ConfigDict(hide_input_in_errors=True)

    aws_access_key_id: SecretStr | None = Field(default=None, title="AWS access key")
    aws_secret_access_key: SecretStr | None = Field(default=None, title="AWS secret key")
    aws_session_token: SecretStr | None = Field(default=None, title="AWS session token")
    gcp_api_key: SecretStr | None = Field(default=None, title="GCP API key")
    gcp_service_account: SecretStr | None = Field(
        default=None,
        title="GCP service account",
        description="The JSON of a service account's key.",
    )
    azure_subscription_id: str | None = Field(default=None, title="Azure subscription")
    azure_tenant_id: str | None = Field(default=None, title="Azure tenant")
    azure_client_id: str | None = Field(default=None, title="Azure client")
    azure_client_secret: SecretStr | None = Field(default=None, title="Azure client secret")
    lambda_api_key: SecretStr | None = Field(default=None, title="Lambda API key")
    huggingface_token: SecretStr | None = Field(default=None, title="Hugging Face token")
    secret_store: str | None = Field(
        default=None,
        title="1Password block",
        description="The block that op:// references are read from, such as "
        "onepassword-connect/team. Default: the only one there is, or the environment's.",
    )

    @field_validator("*", mode="before")
    @classmethod
    def _unset_if_empty(cls, value: Any) -> Any:
        # What the UI's form sends for a field that was cleared.
        return None if isinstance(value, str) and not value.strip() else value

    @field_validator(
        "aws_access_key_id",
        "aws_secret_access_key",
        "aws_session_token",
        "gcp_api_key",
        "gcp_service_account",
        "azure_client_secret",
        "lambda_api_key",
        "huggingface_token",
    )
    @classmethod
    def _secret_or_reference(cls, value: SecretStr | None) -> SecretStr | None:
        return check(value)

    @field_validator("secret_store")
    @classmethod
    def _store(cls, value: str | None) -> str | None:
        return store_name(value)

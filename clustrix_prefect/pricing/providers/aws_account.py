"""Who asks AWS, and where."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import SecretStr

ENDPOINT = "https://api.pricing.us-east-1.amazonaws.com"


@dataclass(frozen=True, slots=True)
class AWSCredentials:
    """An access key. Without one, boto3 looks where it always does.

    Attributes:
        access_key_id: Such as `AKIA...`.
        secret_access_key: The key's secret.
        session_token: For temporary keys.
    """

    access_key_id: SecretStr
    secret_access_key: SecretStr
    session_token: SecretStr | None = None

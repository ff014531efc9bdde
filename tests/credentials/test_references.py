"""Which texts are references, and what is wrong with those that are meant as such."""

from __future__ import annotations

import pytest

from clustrix_prefect.credentials import is_reference, resolve
from clustrix_prefect.credentials.references import (
    BlockReference,
    EnvironmentReference,
    OnePasswordReference,
    parse,
)
from clustrix_prefect.errors import CredentialError


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        (
            "op://Clusters/ndoli/password",
            OnePasswordReference("Clusters", "ndoli", None, "password"),
        ),
        (
            "op://My vault/login node/keys/private key",
            OnePasswordReference("My vault", "login node", "keys", "private key"),
        ),
        (" op://v/i/f\n", OnePasswordReference("v", "i", None, "f")),
        ("env:NDOLI_PASSWORD", EnvironmentReference("NDOLI_PASSWORD")),
        ("prefect:ndoli-password", BlockReference("secret", "ndoli-password")),
        ("prefect:gcp-credentials/lab", BlockReference("gcp-credentials", "lab")),
        ("prefect:secret/keys/a/b", BlockReference("secret", "keys", "a/b")),
    ],
)
def test_references(text: str, reference: object) -> None:
    assert is_reference(text)
    assert parse(text) == reference
    assert str(reference) == text.strip()


@pytest.mark.parametrize(
    "secret",
    [
        "correct horse battery staple",
        "-----BEGIN OPENSSH PRIVATE KEY-----\nb3Blbg==\n-----END OPENSSH PRIVATE KEY-----\n",
        "a/op://v/i/f",
        "environment:x",
        "https://user@host/",
        " leading and trailing ",
        "opaque",
    ],
)
def test_everything_else_is_the_secret_itself(secret: str) -> None:
    assert not is_reference(secret)
    assert parse(secret) is None
    assert resolve(secret) == secret


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("op://Clusters/ndoli", "has 2 parts, not 3 or 4"),
        ("op://Clusters", "has 1 part, not 3 or 4"),
        ("op://a/b/c/d/e", "has 5 parts"),
        ("op://a//c", "an empty part"),
        ("op://a/b /c", "spaces around one"),
        ("op://a/b/c?attribute=type", "has a query"),
        ("op://a/b/c?ssh-format=openssh", "has a query"),
        ("op://a/b?attribute=otp", "has 2 parts"),
        ("op:/a/b/c", "begins with neither"),
        ("OP://a/b/c", "begins with neither"),
        ("Env:HOME", "begins with neither"),
        ("env:", "does not name an environment variable"),
        ("env:MY-VAR", "does not name an environment variable"),
        ("env:$HOME", "does not name an environment variable"),
        ("prefect:", "does not name a Prefect block"),
        ("prefect:My_Secret", "does not name a Prefect block"),
        ("prefect:secret/", "does not name a Prefect block"),
        ("prefect:/name", "does not name a Prefect block"),
        ("prefect:a/b/", "does not name a Prefect block"),
    ],
)
def test_malformed_references_are_shown_with_what_is_wrong(text: str, says: str) -> None:
    assert is_reference(text)
    with pytest.raises(CredentialError) as caught:
        parse(text)
    assert says in str(caught.value)
    assert repr(text) in str(caught.value)
    assert caught.value.reference == text


@pytest.mark.parametrize("rest", ["a\nMIIEvQIBADANBg\n", "x" * 5000])
def test_what_only_begins_like_one_is_not_repeated(rest: str) -> None:
    with pytest.raises(CredentialError) as caught:
        parse(f"env:{rest}")
    assert rest.strip() not in str(caught.value)
    assert "'env:...'" in str(caught.value)


def test_the_mask_of_the_api_is_not_a_secret() -> None:
    with pytest.raises(CredentialError, match="in the place of secrets"):
        resolve("********")


@pytest.mark.parametrize("nothing", [None, ""])
def test_nothing_is_nothing(nothing: str | None) -> None:
    assert resolve(nothing) is None

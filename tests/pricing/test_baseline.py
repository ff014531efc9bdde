"""The file of approved prices: the same bytes for the same prices, and no others accepted."""

from __future__ import annotations

import gzip
import hashlib
from decimal import Decimal
from pathlib import Path

import pytest

from clustrix_prefect.errors import ConfigurationError
from clustrix_prefect.pricing import baseline
from clustrix_prefect.pricing.blocks import PricingBaseline
from clustrix_prefect.pricing.price import Commitment, PriceKey, PurchaseOption


def key(name: str, region: str | None = "us-east-1") -> PriceKey:
    return PriceKey(
        "aws",
        region,
        None,
        name,
        "Linux",
        None,
        "Shared",
        PurchaseOption.ON_DEMAND,
        Commitment.NONE,
        "USD",
    )


AMOUNTS = {key("m5.large"): Decimal("0.0960000000"), key("a1.large", None): Decimal("1E-7")}


def test_what_is_in_the_file(tmp_path: Path) -> None:
    path, digest = baseline.write(str(tmp_path / "new" / "folder"), AMOUNTS)
    content = Path(path).read_bytes()
    assert digest == hashlib.sha256(content).hexdigest()
    assert digest[:16] in path
    assert gzip.decompress(content).decode().splitlines()[1:] == [
        "aws\t\t\ta1.large\tLinux\t\tShared\ton-demand\tnone\tUSD\t0.0000001",
        "aws\tus-east-1\t\tm5.large\tLinux\t\tShared\ton-demand\tnone\tUSD\t0.096",
    ]
    assert baseline.read(path, digest) == AMOUNTS
    assert [p.name for p in Path(path).parent.iterdir()] == [Path(path).name]


def test_the_same_prices_make_the_same_file() -> None:
    backwards = dict(reversed(AMOUNTS.items()))
    assert baseline.pack(AMOUNTS) == baseline.pack(backwards)


def test_any_fsspec_path() -> None:
    path, digest = baseline.write("memory://prices", AMOUNTS)
    assert path.startswith("memory://prices/approved-")
    assert baseline.read(path, digest) == AMOUNTS


def test_a_file_that_was_changed(tmp_path: Path) -> None:
    path, digest = baseline.write(str(tmp_path), AMOUNTS)
    Path(path).write_bytes(baseline.pack({key("m5.large"): Decimal("0.01")}))
    with pytest.raises(ConfigurationError, match="not the one that was approved"):
        baseline.read(path, digest)


@pytest.mark.parametrize(
    "content",
    [b"", b"no gzip", gzip.compress(b"another file\n", mtime=0), baseline.pack(AMOUNTS)[:-9]],
)
def test_a_file_that_is_none(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match="cannot be understood"):
        baseline.read(str(path), baseline.digest_of(content))


@pytest.mark.parametrize("path", ["/no/such/file", "nosuchprotocol://prices/file"])
def test_a_path_that_leads_nowhere(path: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        baseline.read(path, "0" * 64)


def test_differences() -> None:
    new = {key("m5.large"): Decimal("0.0538"), key("m6i.large"): Decimal("0.096")}
    found = baseline.differences(AMOUNTS, new)
    assert str(found) == "1 changed, 1 new, 1 gone"
    assert baseline.in_words(*found.changed[0][1:]) == "0.096 → 0.0538 (-44.0 %)"
    assert not baseline.differences(AMOUNTS, dict(AMOUNTS))


def test_a_digest_is_a_digest() -> None:
    with pytest.raises(ValueError, match="64 hexadecimal"):
        PricingBaseline.model_validate(
            {
                "path": "x",
                "digest": "abc",
                "approver": "ana",
                "approved_at": "2026-01-01T00:00:00Z",
                "reason": "first",
            }
        )

"""The prices that somebody approved: a file at any fsspec path, and a digest that vouches for it.

The file is gzip of UTF-8 lines, sorted, tabs between: the parts of the key, then the amount. Its
sha256 is part of its name, so an approval never overwrites the one before it, and `sha256sum`
says whether it is whole.
"""

from __future__ import annotations

import gzip
import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

import fsspec

from clustrix_prefect.errors import ConfigurationError
from clustrix_prefect.pricing.checks.finding import percent, plain
from clustrix_prefect.pricing.price import Commitment, Price, PriceKey, PurchaseOption

Amounts = Mapping[PriceKey, Decimal]

_HEADER = "# approved prices, version 1: " + "\t".join(PriceKey._fields) + "\thourly"
# A digest vouches for the file; this is against a wrong path, such as a disk image's.
_LARGEST = 256 * 2**20


def approved_amounts(prices: Iterable[Price]) -> dict[PriceKey, Decimal]:
    """What of the prices goes into a baseline: all but spot prices, which change by the hour."""
    return {
        price.key: price.hourly
        for price in prices
        if price.purchase_option is not PurchaseOption.SPOT
    }


def pack(amounts: Amounts) -> bytes:
    """Return the file: the same amounts make the same bytes."""
    lines = sorted("\t".join((*_texts(key), plain(amount))) for key, amount in amounts.items())
    text = "\n".join((_HEADER, *lines, ""))
    return gzip.compress(text.encode(), compresslevel=6, mtime=0)


def unpack(content: bytes) -> dict[PriceKey, Decimal]:
    """Return the amounts in a file.

    Raises:
        ValueError: It is no such file.
    """
    try:
        header, *lines = gzip.decompress(content).decode().splitlines()
        if header != _HEADER:
            raise ValueError("it begins otherwise")
        return dict(_entry(line) for line in lines)
    except (OSError, EOFError, IndexError, TypeError, InvalidOperation) as error:
        raise ValueError(f"it is no file of approved prices: {error}") from error


def _texts(key: PriceKey) -> tuple[str, ...]:
    texts = tuple(getattr(part, "value", part) or "" for part in key)
    if any("\t" in text or "\n" in text for text in texts):
        raise ValueError(f"a name of {key.provider}'s has a tab or a line end in it")
    return texts


def _entry(line: str) -> tuple[PriceKey, Decimal]:
    provider, region, zone, kind, system, licence, tenancy, option, commitment, currency, amount = (
        line.split("\t")
    )
    key = PriceKey(
        provider,
        region or None,
        zone or None,
        kind,
        system or None,
        licence or None,
        tenancy or None,
        PurchaseOption(option),
        Commitment(commitment),
        currency,
    )
    return key, Decimal(amount)


def digest_of(content: bytes) -> str:
    """Return the sha256 of a file."""
    return hashlib.sha256(content).hexdigest()


def write(folder: str, amounts: Amounts) -> tuple[str, str]:
    """Put a baseline into a folder.

    Args:
        folder: Any fsspec path: `~/prices`, `s3://bucket/prices`, ...
        amounts: What was approved.

    Returns:
        The file's path and its digest.

    Raises:
        ConfigurationError: It cannot be written.
    """
    content = pack(amounts)
    digest = digest_of(content)
    path = f"{os.path.expanduser(folder).rstrip('/')}/approved-{digest[:16]}.tsv.gz"
    try:
        files, place = fsspec.core.url_to_fs(path)
        files.makedirs(files._parent(place), exist_ok=True)
        # Renamed into place: whoever reads meanwhile sees all of it or nothing.
        if files.protocol == "file" or "file" in files.protocol:
            with files.open(f"{place}.partial", "wb") as file:
                file.write(content)
            files.mv(f"{place}.partial", place)
        else:
            files.pipe_file(place, content)
    except (OSError, ImportError, ValueError) as error:
        raise ConfigurationError(
            f"The baseline cannot be written to {path}: {error}.",
            "Correct the folder, or install the fsspec package of its kind.",
        ) from error
    return path, digest


def read(path: str, digest: str) -> dict[PriceKey, Decimal]:
    """Return the amounts of a baseline.

    Args:
        path: Its file.
        digest: What its sha256 has to be.

    Raises:
        ConfigurationError: It cannot be read, or is not what was approved.
    """
    try:
        with fsspec.open(os.path.expanduser(path), "rb") as file:
            content = file.read(_LARGEST)
    except (OSError, ImportError, ValueError) as error:
        raise ConfigurationError(
            f"The baseline cannot be read from {path}: {error}.",
            "Make it readable where the flow runs, or approve prices again.",
        ) from error
    if digest_of(content) != digest:
        raise ConfigurationError(
            f"The baseline at {path} is not the one that was approved: its sha256 differs.",
            "Put the approved file back, or approve prices again.",
        )
    try:
        return unpack(content)
    except ValueError as error:
        raise ConfigurationError(
            f"The baseline at {path} cannot be understood: {error}.", "Approve prices again."
        ) from error


@dataclass(frozen=True, kw_only=True)
class Differences:
    """What an approval would change.

    Attributes:
        changed: Key, approved amount, new amount; the largest change first.
        new: Keys that have no approved amount.
        gone: Keys that would have none any more.
    """

    changed: tuple[tuple[PriceKey, Decimal, Decimal], ...]
    new: tuple[PriceKey, ...]
    gone: tuple[PriceKey, ...]

    def __bool__(self) -> bool:
        return bool(self.changed or self.new or self.gone)

    def __str__(self) -> str:
        return f"{len(self.changed)} changed, {len(self.new)} new, {len(self.gone)} gone"


def differences(old: Amounts, new: Amounts) -> Differences:
    """Return what differs between two baselines."""
    changed = [
        (key, old[key], amount) for key, amount in new.items() if key in old and old[key] != amount
    ]
    changed.sort(key=lambda change: -abs(share_of(change[1], change[2])))
    return Differences(
        changed=tuple(changed),
        new=tuple(key for key in new if key not in old),
        gone=tuple(key for key in old if key not in new),
    )


def share_of(old: Decimal, new: Decimal) -> float:
    """By what share of the old amount the new one differs."""
    return float(new / old) - 1 if old else float("inf")


def in_words(old: Decimal, new: Decimal) -> str:
    """Return a change, for people."""
    return f"{plain(old)} → {plain(new)} ({percent(share_of(old, new))})"

"""What a check says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from typing import Any

from clustrix_prefect.pricing.price import Price, PriceKey


class Level(str, Enum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    FAILURE = "failure"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """One price, or one thing of its provider's, that a check found wrong.

    Attributes:
        text: What is wrong with it.
        region: Its region, if it has one.
        instance_type: Its machine type; empty if it is no price.
        amount: The amount per hour, as text at full precision.
        currency: Its currency.
    """

    text: str
    region: str | None = None
    instance_type: str = ""
    amount: str = ""
    currency: str = ""

    @classmethod
    def of(cls, price: Price, text: str) -> Evidence:
        """On a price."""
        return cls.of_key(price.key, price.hourly, text)

    @classmethod
    def of_key(cls, key: PriceKey, hourly: Decimal, text: str) -> Evidence:
        """On a price of which only the key is known."""
        return cls(
            text=text,
            region=key.region,
            instance_type=key.instance_type,
            amount=plain(hourly),
            currency=key.currency,
        )

    def __str__(self) -> str:
        where = " in ".join(part for part in (self.instance_type, self.region) if part)
        return f"{where}: {self.text}" if where else self.text


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found at one provider.

    Attributes:
        level: How bad it is.
        check: Which check.
        provider: Whose prices.
        message: One sentence, without secrets and without what a server answered.
        evidence: Everything that it rests on.
    """

    level: Level
    check: str
    provider: str
    message: str
    evidence: tuple[Evidence, ...] = ()

    def __str__(self) -> str:
        return f"{self.provider}: {self.check}: {self.message}"


def found(
    check: str,
    provider: str,
    evidence: Sequence[Evidence],
    *,
    bad: str,
    good: str,
    level: Level = Level.FAILURE,
) -> Finding:
    """Return a finding of `level` if there is evidence, else one that all is well.

    Args:
        check: Which check.
        provider: Whose prices.
        evidence: What is wrong.
        bad: What to say then, after the number of them.
        good: What to say else.
        level: How bad it is.
    """
    if not evidence:
        return Finding(Level.OK, check, provider, good)
    text = f"{len(evidence)} {bad}, such as {evidence[0]}."
    return Finding(level, check, provider, text, tuple(evidence))


def plain(amount: Decimal) -> str:
    """Return an amount at full precision, without exponent and trailing zeros."""
    text = f"{amount:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def percent(share: float) -> str:
    """Return a share with its sign: +10.0 %."""
    return f"{100 * share:+.1f} %"


def jsonable(finding: Finding, most: int) -> dict[str, Any]:
    """Return a finding as plain data, with no more than `most` pieces of evidence."""
    return {
        "provider": finding.provider,
        "check": finding.check,
        "level": finding.level.value,
        "message": finding.message,
        "evidence": [str(evidence) for evidence in finding.evidence[:most]],
    }

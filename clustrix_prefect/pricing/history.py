"""What earlier validations found, read from their artifacts."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import Artifact

# In the metadata of an artifact, whose values are texts.
_RECORD = "validation"
_MOST = 60


@dataclass(frozen=True, kw_only=True)
class Record:
    """What of one validation later ones want to know.

    Attributes:
        at: When it began (ISO 8601, UTC).
        failures: How many checks failed.
        warnings: How many had warnings.
        prices: How many prices there were in all.
        passed: The providers without a failure.
        counts: For each provider, how many prices each region had.
    """

    at: str
    failures: int
    warnings: int
    prices: int
    passed: tuple[str, ...]
    counts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    def as_metadata(self) -> dict[str, str]:
        """For the metadata of an artifact."""
        return {_RECORD: json.dumps(asdict(self), sort_keys=True)}

    @classmethod
    def of_metadata(cls, metadata: Mapping[str, str] | None) -> Record | None:
        """From the metadata of an artifact; `None` if there is no record in it."""
        try:
            found: dict[str, Any] = json.loads((metadata or {})[_RECORD])
            return cls(**{**found, "passed": tuple(found["passed"])})
        except (KeyError, TypeError, ValueError):
            return None


def past_records(client: SyncPrefectClient, key: str) -> list[Record]:
    """Return the records of the artifacts with this key, oldest first."""
    # By hand: `read_artifacts` sends nulls for what is left out, which the server refuses.
    wanted = {"artifacts": {"key": {"any_": [key]}}, "sort": "CREATED_DESC", "limit": _MOST}
    answer = client.request("POST", "/artifacts/filter", json=wanted)
    artifacts = Artifact.model_validate_list(answer.json())
    found = [Record.of_metadata(artifact.metadata_) for artifact in artifacts]
    return [record for record in reversed(found) if record is not None]


def last_passed_counts(records: Sequence[Record]) -> dict[str, Mapping[str, int]]:
    """For each provider, the counts of the last validation in which nothing of it failed."""
    return {
        provider: record.counts[provider]
        for record in records
        for provider in record.passed
        if provider in record.counts
    }


def trend(records: Sequence[Record]) -> str:
    """Return an SVG image of validations as a data URI: a bar each, as high as it had prices."""
    width, height, bar = 600, 90, 600 / max(12, len(records))
    most = max([record.prices for record in records], default=0) or 1
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" font-family="sans-serif" font-size="10">'
    ]
    for number, record in enumerate(records):
        tall = max(2.0, 60 * record.prices / most)
        colour = "#d9534f" if record.failures else "#f0ad4e" if record.warnings else "#3c9d5f"
        parts.append(
            f'<rect x="{number * bar + 1:.1f}" y="{66 - tall:.1f}" width="{bar - 2:.1f}" '
            f'height="{tall:.1f}" fill="{colour}"/>'
        )
    if records:
        parts.append(f'<text x="0" y="84" fill="#777">{records[0].at[:16]}</text>')
        parts.append(
            f'<text x="{width}" y="84" fill="#777" text-anchor="end">{records[-1].at[:16]} UTC'
            "</text>"
        )
    parts.append("</svg>")
    image = base64.b64encode("".join(parts).encode()).decode()
    return f"data:image/svg+xml;base64,{image}"

"""What somebody has looked at, and allows until a day."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from fnmatch import fnmatchcase

from pydantic import BaseModel, Field, field_validator

from clustrix_prefect.pricing.checks.finding import Evidence, Finding, Level


class Waiver(BaseModel):
    """Prices that a check need not tell of, until a day.

    It is for what the check says of single prices: that a provider could not be asked, or that
    a region is missing, cannot be waived.
    """

    provider: str = Field(description="aws, gcp, azure, lambda_cloud or huggingface.")
    check: str = Field(
        default="drift", description="Which check: drift, structure, bounds, agreement or spread."
    )
    instance_type: str = Field(
        description="The machine types; * stands for anything.", examples=["p5.*"]
    )
    region: str = Field(default="*", description="The regions; * stands for anything.")
    reason: str = Field(min_length=1, description="Why it is right.")
    expires: date = Field(description="The last day on which it counts.")

    @field_validator("check")
    @classmethod
    def _can_be_waived(cls, value: str) -> str:
        if value not in _WAIVABLE:
            raise ValueError(f"{value!r} cannot be waived; {', '.join(_WAIVABLE)} can")
        return value

    def covers(self, evidence: Evidence) -> bool:
        """Return whether it is on this price."""
        return (
            bool(evidence.instance_type)
            and fnmatchcase(evidence.instance_type, self.instance_type)
            and fnmatchcase(evidence.region or "", self.region)
        )


_WAIVABLE = ("drift", "structure", "bounds", "agreement", "spread")


def waived(finding: Finding, waivers: Sequence[Waiver], today: date) -> Finding:
    """Return the finding without what is waived; a waiver that has expired is told of."""
    if finding.level is Level.OK:
        return finding
    ours = [w for w in waivers if w.provider == finding.provider and w.check == finding.check]
    if not ours:
        return finding
    valid = [waiver for waiver in ours if waiver.expires >= today]
    left = tuple(e for e in finding.evidence if not any(w.covers(e) for w in valid))
    expired = sorted(
        {w.expires for w in ours if w.expires < today and any(w.covers(e) for e in left)}
    )
    number = len(finding.evidence) - len(left)
    note = f" {number} more are waived." if number else ""
    if expired:
        note += f" A waiver expired on {expired[-1].isoformat()}."
    if not left and number:
        last = min(w.expires for w in valid).isoformat()
        return Finding(
            Level.OK,
            finding.check,
            finding.provider,
            f"{number} waived, until {last} at least",
            finding.evidence,
        )
    if number:
        message = f"{len(left)} prices are wrong, such as {left[0]}."
        return replace(finding, message=message + note, evidence=left)
    return replace(finding, message=finding.message + note)

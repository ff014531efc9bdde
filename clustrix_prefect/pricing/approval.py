"""Approving prices: what would change, in words, and making it so."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from decimal import Decimal

from clustrix_prefect.display.markdown import escape, prose
from clustrix_prefect.pricing import baseline
from clustrix_prefect.pricing.baseline import Amounts, Differences, in_words
from clustrix_prefect.pricing.blocks import PricingBaseline
from clustrix_prefect.pricing.checks import Asked, Finding, Level
from clustrix_prefect.pricing.fetch import PriceList
from clustrix_prefect.pricing.price import PriceKey
from clustrix_prefect.pricing.validation import load_baseline

_MOST_ROWS = 50
# Being new or gone is what an approval is about, and is in the differences.
_ABOUT_THE_OLD = ("drift",)


def proposed_amounts(old: Amounts, asked: Sequence[Asked]) -> dict[PriceKey, Decimal]:
    """The baseline that today's prices make, with what was approved of all that was not asked."""
    proposed = dict(old)
    for one in asked:
        if isinstance(one.answer, PriceList):
            regions = set(one.answer.fetch.regions)
            for key in old:
                if key.provider == one.provider and (not regions or key.region in regions):
                    proposed.pop(key, None)
            proposed.update(baseline.approved_amounts(one.answer.prices))
    return proposed


def as_page(found: Differences, findings: Sequence[Finding]) -> str:
    """Return the differences, and what the checks say of the new prices, as markdown."""
    lines = [f"**{found}** against the approved prices."]
    failures = [
        finding
        for finding in findings
        if finding.level is Level.FAILURE and finding.check not in _ABOUT_THE_OLD
    ]
    if failures:
        lines += ["", f"### {len(failures)} checks fail on the new prices", ""]
        lines += [f"- {prose(str(finding))}" for finding in failures[:_MOST_ROWS]]
    if found.changed:
        lines += ["", "| provider | region | type | of | change |", "|---|---|---|---|---|"]
    for key, old, new in found.changed[:_MOST_ROWS]:
        cells = (key.provider, key.region or "", key.instance_type, _variant(key))
        lines.append(f"| {' | '.join(map(escape, cells))} | {escape(in_words(old, new))} |")
    if len(found.changed) > _MOST_ROWS:
        lines.append(f"\nand {len(found.changed) - _MOST_ROWS} more changes, all smaller.")
    for title, keys in (("New", found.new), ("Gone", found.gone)):
        if keys:
            names = sorted({f"{key.provider} {key.instance_type}" for key in keys})
            more = ", ..." if len(names) > _MOST_ROWS else ""
            lines += ["", f"{title}: {escape(', '.join(names[:_MOST_ROWS]))}{more}"]
    return "\n".join(lines)


def _variant(key: PriceKey) -> str:
    parts = (key.operating_system, key.licence, key.tenancy, key.commitment.value)
    return ", ".join(part for part in parts if part and part != "none")


def unchanged_since(block: PricingBaseline | None, name: str) -> bool:
    """Return whether nobody saved another baseline since `block` was loaded."""
    now = load_baseline(name)
    return (now and now.digest) == (block and block.digest)


def remember(
    name: str,
    block: PricingBaseline | None,
    folder: str,
    amounts: Amounts,
    *,
    approver: str,
    reason: str,
) -> PricingBaseline:
    """Write the file, and only then let the block point to it. Waivers stay.

    Raises:
        ConfigurationError: The file cannot be written; the old baseline stands.
    """
    path, digest = baseline.write(folder, amounts)
    saved = PricingBaseline(
        path=path,
        digest=digest,
        approver=approver,
        approved_at=datetime.now(timezone.utc),
        reason=reason,
        waivers=list(block.waivers) if block else [],
    )
    saved.save(name, overwrite=True, _sync=True)  # type: ignore[call-arg]
    return saved

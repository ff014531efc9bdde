"""What makes a price believable: pure functions from prices to findings.

`run_checks` runs all of them. Each limit, and the reason for it, is in
`clustrix_prefect.pricing.thresholds`.
"""

from clustrix_prefect.pricing.checks.finding import Evidence, Finding, Level
from clustrix_prefect.pricing.checks.running import Asked, run_checks

__all__ = ["Asked", "Evidence", "Finding", "Level", "run_checks"]

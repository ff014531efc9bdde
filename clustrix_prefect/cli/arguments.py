"""What several commands take."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

Block = Annotated[str, Parameter(help="type and name of the cluster's block: slurm-cluster/ndoli")]
AsJson = Annotated[bool, Parameter(name="--json", help="print JSON")]


def at_most(limit: float) -> Parameter:
    """Return what refuses a number that is not above zero, or that is above the limit."""

    def verify(_: object, value: float) -> None:
        if not 0 < value <= limit:  # nor is it "nan"
            raise ValueError(f"Give a number above 0, and at most {limit:,g}.")

    return Parameter(validator=verify)

"""Every deployment of prefect.yaml from this process, without a work pool or a worker.

    python deployments/serve.py

Ends with Ctrl-C; the schedules then pause. At most four runs are at work at once.
"""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import yaml
from prefect import serve
from prefect.client.schemas.objects import ConcurrencyLimitConfig
from prefect.deployments.runner import RunnerDeployment
from prefect.flows import Flow
from prefect.schedules import Schedule

ROOT = Path(__file__).resolve().parent.parent


def deployments() -> list[RunnerDeployment]:
    """What prefect.yaml describes, as deployments to be served."""
    described = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    return [deployment(one) for one in described]


def deployment(one: dict[str, Any]) -> RunnerDeployment:
    """One of them."""
    flow: Any = Flow.from_source(source=str(ROOT), entrypoint=one["entrypoint"])
    return flow.to_deployment(  # type: ignore[no-any-return]
        name=one["name"],
        description=one["description"],
        tags=one["tags"],
        parameters=one["parameters"],
        schedules=[schedule(given) for given in one["schedules"]],
        triggers=one.get("triggers"),
        concurrency_limit=ConcurrencyLimitConfig(**one["concurrency_limit"]),
    )


def schedule(given: dict[str, Any]) -> Schedule:
    """A schedule as prefect.yaml has it."""
    given = dict(given)
    if "interval" in given:
        given["interval"] = timedelta(seconds=given["interval"])
        given["anchor_date"] = datetime.fromisoformat(given["anchor_date"].replace("Z", "+00:00"))
    return Schedule(**given)


def main() -> None:
    """Serve them until somebody ends it."""
    os.chdir(ROOT)  # where prefect.yaml's paths begin
    serve(*deployments(), limit=4)


if __name__ == "__main__":
    main()

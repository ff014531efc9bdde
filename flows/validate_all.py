"""All validations, one after another, and one page: what is green, what is not, since when.

python flows/validate_all.py                      every saved cluster
python flows/validate_all.py slurm-cluster/ndoli  these
python flows/validate_all.py --only filesystem    one validation, or several
python flows/validate_all.py --skip pricing       all but one, or several
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

from prefect import flow, get_client, get_run_logger
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed
from pydantic import ByteSize

# Its neighbours are found however it is started.
if (_ROOT := str(Path(__file__).resolve().parent.parent)) not in sys.path:
    sys.path.insert(0, _ROOT)

from clustrix_prefect.cli.running import run_flow
from clustrix_prefect.validation.expectations import Expectation
from clustrix_prefect.validation.report import create_page, past_records
from clustrix_prefect.validation.summary import outcome_of, page_of, record_of, verdict_on
from flows.benchmark_transfer import benchmark_transfer
from flows.validate_cluster_access import validate_cluster_access
from flows.validate_credentials import validate_credentials
from flows.validate_filesystem import validate_filesystem
from flows.validate_packaging import validate_packaging
from flows.validate_pricing import validate_pricing

KEY = "validation"
Validation = Literal[
    "credentials", "cluster access", "filesystem", "packaging", "transfer", "pricing"
]


@flow(name="validate-all", persist_result=False)
def validate_all(
    clusters: list[str] | None = None,
    expectations: list[Expectation] | str | None = None,
    sizes: list[ByteSize] | None = None,
    pricing: dict[str, Any] | None = None,
    only: list[Validation] | None = None,
    skip: list[Validation] | None = None,
) -> State[None]:
    """Run every validation, whatever comes of the others, and sum them up on one page.

    Args:
        clusters: Cluster blocks by type and name, such as "slurm-cluster/ndoli". Default: all
            that are saved; this machine, if none is.
        expectations: What is expected of files, or the path of a YAML file with it. Default:
            deployments/expectations.yaml.
        sizes: What the transfers are measured with.
        pricing: Parameters of validate_pricing, such as `{"credentials": "cloud"}`.
        only: Which validations; default: all.
        skip: Which of these to leave out; the verdict says so.
    """
    validations: dict[Validation, Callable[[], State[Any]]] = {
        "credentials": partial(validate_credentials, return_state=True),
        "cluster access": partial(validate_cluster_access, clusters, return_state=True),
        "filesystem": partial(validate_filesystem, clusters, expectations, return_state=True),
        "packaging": partial(validate_packaging, clusters, return_state=True),
        "transfer": partial(benchmark_transfer, clusters, sizes, return_state=True),
        "pricing": partial(validate_pricing, **(pricing or {}), return_state=True),
    }
    wanted = only or list(validations)
    skipped = [name for name in wanted if name in (skip or ())]
    with get_client(sync_client=True) as client:
        past = past_records(client, KEY)
        outcomes = [
            outcome_of(name, validations[name], past) for name in wanted if name not in skipped
        ]
        verdict, record = verdict_on(outcomes, skipped), record_of(outcomes, past)
        create_page(client, KEY, page_of(verdict, outcomes), "All validations", record)
    failed = [one for one in outcomes if not one.is_green]
    if failed:
        get_run_logger().error("%s", verdict)
        told = [f"- {one.name}: {one.told}" for one in failed]
        return Failed(message="\n".join([verdict, *told]))
    get_run_logger().info("%s", verdict)
    return Completed(message=verdict)


def main(
    *clusters: str, only: tuple[Validation, ...] = (), skip: tuple[Validation, ...] = ()
) -> State[Any]:
    """Run all validations, one after another, and sum them up on one page.

    Args:
        clusters: such as slurm-cluster/ndoli; by default every saved one
        only: one validation; may be repeated
        skip: all but this one; may be repeated
    """
    chosen = {"only": list(only) or None, "skip": list(skip) or None}
    return validate_all(list(clusters) or None, **chosen, return_state=True)


if __name__ == "__main__":
    run_flow(main)

"""Measure how long packages and files of several sizes take to clusters and back.

python flows/benchmark_transfer.py                      every saved cluster
python flows/benchmark_transfer.py slurm-cluster/ndoli --size 1MiB --size 100MiB
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence

from prefect import flow, get_client, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from pydantic import ByteSize

from clustrix_prefect import ClusterTaskRunner
from clustrix_prefect.markdown import escape, table
from clustrix_prefect.validation.check import Check
from clustrix_prefect.validation.clusters import cluster_named, names_of
from clustrix_prefect.validation.report import (
    amount_words,
    conclude,
    past_records,
    took_words,
)
from clustrix_prefect.validation.transfer import Measured, measure_files, measure_packages, plot

KEY = "transfer"
SIZES = [ByteSize(64 * 1024), ByteSize(1024**2), ByteSize(16 * 1024**2)]


@task(cache_policy=NO_CACHE, persist_result=False, task_run_name="package")
def give_back(content: bytes) -> bytes:
    """Travels there and back."""
    return content


def measure(name: str, sizes: Sequence[int], measured: list[Measured]) -> Check | None:
    """All transfers with one cluster; what went wrong, if anything did."""

    @flow(flow_run_name=f"packages to {name}", persist_result=False)
    def packages_to_a_cluster() -> None:
        measured.extend(measure_packages(name, sizes, lambda it: give_back.submit(it).result()))

    try:
        cluster = cluster_named(name)
        measured.extend(measure_files(name, cluster, sizes))
        packages_to_a_cluster.with_options(task_runner=ClusterTaskRunner(cluster))()
    except Exception as error:  # the other clusters are measured all the same
        return Check.failed(name, "transfers", error)
    return None


@flow(name="benchmark-transfer", persist_result=False)
def benchmark_transfer(
    clusters: list[str] | None = None, sizes: list[ByteSize] | None = None
) -> State[None]:
    """Time files and packages of each size to each cluster and back, beside the run before.

    Args:
        clusters: Cluster blocks by type and name, such as "slurm-cluster/ndoli". Default: all
            that are saved; this machine, if none is.
        sizes: Such as "1MiB" or "5GB"; contents are random. Default: 64 KiB, 1 MiB, 16 MiB.
    """
    measured: list[Measured] = []
    wanted = sorted({int(size) for size in sizes or SIZES})
    problems = [measure(name, wanted, measured) for name in names_of(clusters)]
    with get_client(sync_client=True) as client:
        past = past_records(client, KEY)
    before: dict[str, float] = {}
    for record in past:
        before.update(record.get("seconds", {}))
    checks = [problem for problem in problems if problem is not None]
    checks += [
        Check(name, "transfers", f"{count} measured, all came back as they were")
        for name, count in Counter(one.cluster for one in measured).items()
    ]
    more = [f"![Time against size]({plot(measured, before)})", ""]
    more += ["Rings are the run before.", ""] if before else []
    more += table(
        ["cluster", "what", "size:", "time:", "rate:", "time before:"],
        (
            [
                escape(one.cluster),
                one.what,
                amount_words(one.size),
                took_words(one.seconds),
                rate(one),
                took_words(before.get(one.key)),
            ]
            for one in measured
        ),
    )
    seconds = {one.key: round(one.seconds, 6) for one in measured}
    return conclude("Transfers", checks, key=KEY, more=more, seconds=seconds)


def rate(one: Measured) -> str:
    """Its bytes in a second, both ways counted where both were gone."""
    ways = 2 if "and back" in one.what else 1
    return f"{amount_words(round(ways * one.size / max(one.seconds, 1e-6)))}/s"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the flow once."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("clusters", nargs="*", metavar="CLUSTER")
    parser.add_argument("--size", action="append", help="such as 1MiB; may be repeated")
    options = parser.parse_args(arguments)
    state = benchmark_transfer(options.clusters or None, options.size, return_state=True)
    print(state.message)
    return 0 if state.is_completed() else 1


if __name__ == "__main__":
    sys.exit(main())

"""Measure how long packages and files of several sizes take to clusters and back.

python flows/benchmark_transfer.py                      every saved cluster
python flows/benchmark_transfer.py slurm-cluster/ndoli --size 1MiB --size 100MiB
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from prefect import flow, get_client, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from pydantic import ByteSize

from clustrix_prefect import ClusterTaskRunner
from clustrix_prefect.cli.running import run_flow
from clustrix_prefect.display.markdown import escape, table
from clustrix_prefect.validation.check import Check
from clustrix_prefect.validation.clusters import cluster_named, names_of
from clustrix_prefect.validation.report import (
    amount_words,
    conclude,
    number,
    past_records,
    took_words,
)
from clustrix_prefect.validation.transfer import Measured, measure_files, measure_packages, plot

KEY = "transfer"
EARLIER_RUNS = 5
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
        return Check.failed("transfers", error, name)
    return None


@flow(name="benchmark-transfer", persist_result=False)
def benchmark_transfer(
    clusters: list[str] | None = None, sizes: list[ByteSize] | None = None
) -> State[None]:
    """Time files and packages of each size to each cluster and back, beside earlier runs.

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
    checks = [problem for problem in problems if problem is not None]
    failed = {check.cluster for check in checks}
    checks += [
        Check("transfers", f"{count} measured, all came back as they were", cluster=name)
        for name, count in Counter(one.cluster for one in measured).items()
        if name not in failed
    ]
    ours = {one.key for one in measured}
    earlier = [record for record in past if ours & record.get("seconds", {}).keys()]
    more = page_of(measured, earlier[-EARLIER_RUNS:])
    # Not rounded: what is rounded twice is shown otherwise than it was when it was measured.
    seconds = {one.key: one.seconds for one in measured}
    return conclude("Transfers", checks, key=KEY, more=more, seconds=seconds)


def page_of(measured: Sequence[Measured], earlier: Sequence[Mapping[str, Any]]) -> list[str]:
    """The plot and the tables, as markdown; of earlier runs, the newest stands first."""
    lines = [f"![Time against size]({plot(measured, [run['seconds'] for run in earlier])})", ""]
    if earlier:
        lines += [f"Rings are {number(len(earlier), 'earlier run')}; the fainter, the older.", ""]
    lines += table(
        ["cluster", "what", "size:", "time:", "rate:"],
        ([*named(one), took_words(one.seconds), rate(one)] for one in measured),
    )
    if earlier:
        newest_first = [*reversed(earlier)]
        lines += ["", "### History", ""]
        lines += table(
            [
                "cluster",
                "what",
                "size:",
                "now:",
                *(f"{broken(run['at'])}:" for run in newest_first),
            ],
            (
                [
                    *named(one),
                    took_words(one.seconds),
                    *(took_words(run["seconds"].get(one.key)) for run in newest_first),
                ]
                for one in measured
            ),
        )
    return lines


def named(one: Measured) -> list[str]:
    """The cells that say which transfer it is."""
    return [escape(one.cluster), one.what, amount_words(one.size)]


def broken(time: str) -> str:
    """A time in two lines, so that several stand side by side."""
    return time.replace("T", "T<br>")


def rate(one: Measured) -> str:
    """Its bytes in a second, both ways counted where both were gone."""
    ways = 2 if "and back" in one.what else 1
    return f"{amount_words(round(ways * one.size / max(one.seconds, 1e-6)))}/s"


def main(*clusters: str, size: tuple[str, ...] = ()) -> State[Any]:
    """Time files and packages of each size to each cluster and back, beside earlier runs.

    Args:
        clusters: such as slurm-cluster/ndoli; by default every saved one
        size: such as 1MiB; may be repeated
    """
    sizes: Any = list(size) or None  # Prefect makes amounts of them
    return benchmark_transfer(list(clusters) or None, sizes, return_state=True)


if __name__ == "__main__":
    run_flow(main)

"""`python -m tests.bench`: measure, and write a table to standard output and `.bench/`."""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.bench.lab import Lab
from tests.bench.table import Part

_REPORTS = Path(".bench")


def _parts() -> dict[str, Callable[[Lab], Part]]:
    # Imported after the lab has set up Prefect's environment.
    from tests.bench import (
        data,
        far_side,
        filesystem,
        hashing,
        jobs,
        kubernetes,
        packaging,
        pricing,
        rates,
        scale,
        traffic,
    )

    return {
        "rates": rates.measure,
        "jobs": jobs.measure,
        "far_side": far_side.measure,
        "kubernetes": kubernetes.measure,
        "traffic": traffic.measure,
        "data": data.measure,
        "scale": scale.measure,
        "queue": scale.measure_queue,
        "hashing": hashing.measure,
        "filesystem": filesystem.measure,
        "packaging": packaging.measure,
        "pricing": pricing.measure,
    }


PARTS = (
    "rates",
    "jobs",
    "far_side",
    "kubernetes",
    "traffic",
    "data",
    "scale",
    "queue",
    "hashing",
    "packaging",
    "pricing",
    "filesystem",
)


def main(arguments: Sequence[str]) -> int:
    """Measure what is asked for; 1 if a required bound does not hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="part", help=f"of {', '.join(PARTS)}")
    wanted = parser.parse_args(arguments).parts or PARTS
    if unknown := set(wanted) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    report = [_heading()]
    print(report[0], flush=True)
    holds = True
    with Lab() as lab:
        for name in wanted:
            part = _parts()[name](lab)
            holds = holds and all(row.holds for row in part.rows)
            report.append(part.markdown())
            print(report[-1], flush=True)
    _REPORTS.mkdir(exist_ok=True)
    path = _REPORTS / f"{time.strftime('%Y%m%d-%H%M%S')}.md"
    path.write_text("\n".join(report))
    print(f"Written to {path}")
    return 0 if holds else 1


def _heading() -> str:
    from importlib.metadata import version

    load = " ".join(f"{figure:.1f}" for figure in os.getloadavg())
    return (
        f"# Benchmark, {time.strftime('%Y-%m-%d %H:%M')}\n\n"
        f"Python {platform.python_version()}, Prefect {version('prefect')}, "
        f"{os.cpu_count()} cores, load before it {load}.\n"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

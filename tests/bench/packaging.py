"""What each acceptance case of packaging sends, and how long it takes to pack."""

from __future__ import annotations

import time
from typing import Any

from clustrix_prefect.packaging.arguments import pack_arguments
from clustrix_prefect.packaging.bundle import FunctionBundles
from clustrix_prefect.packaging.ownership import plain_function
from tests.bench.lab import Lab
from tests.bench.table import Part, Row
from tests.packaging.cases import CASES

# The far Python decides nothing here but what is refused, and this one takes every case.
_FAR = (3, 11)


def measure(lab: Lab) -> Part:
    """Pack every case, the first time and again."""
    part = Part(f"Packaging: size and time of {len(CASES)} acceptance cases")
    for name, task, args, kwargs, _ in CASES:
        part.rows.append(_row(name, plain_function(task), args, kwargs))
    part.remarks.append(
        "A bundle is the code with the values around it, sent once for all calls of a task; "
        "arguments are of one call, with large values that travel beside them. Beside it: a call "
        "of the same task after the first."
    )
    return part


def _row(name: str, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Row:
    began = time.perf_counter()
    bundles = FunctionBundles(function, _FAR, name)
    arguments = pack_arguments(args, kwargs, _FAR, name)
    bundle = bundles.for_arguments(arguments.met)
    first = time.perf_counter() - began
    began = time.perf_counter()
    arguments = pack_arguments(args, kwargs, _FAR, name)
    bundle = bundles.for_arguments(arguments.met)
    again = time.perf_counter() - began
    code = len(bundle.code) + len(bundle.captured or b"")
    data = len(arguments.payload) + sum(part.size for part in arguments.parts)
    return Row(
        name,
        f"bundle {code:,} bytes, arguments {data:,} bytes, {first * 1000:.1f} ms",
        f"{again * 1000:.2f} ms",
    )

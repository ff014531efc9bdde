"""What each acceptance case of packaging sends, and how long it takes to pack."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from textwrap import dedent
from typing import Any

import cloudpickle

from clustrix_prefect.packaging.arguments import pack_arguments
from clustrix_prefect.packaging.bundle import FunctionBundles
from clustrix_prefect.packaging.ownership import plain_function
from tests.bench.lab import Lab
from tests.bench.table import Part, Row
from tests.packaging import cases
from tests.packaging.cases import CASES

# The usual case: the same minor version on both sides.
_FAR = (sys.version_info[0], sys.version_info[1])
# What `tests/packaging` runs by itself: an exception, and code that no module has.
_RAISES = ("raises", cases.raises, (50,), {}, {})
_OWN_CODE = [
    "import math as m\nfrom prefect import task\nSCALE = {'by': 2}\n",
    "class Box:\n    def __init__(self, x):\n        self.x = x\n",
    "def helper(x):\n    return m.floor(x) * SCALE['by']\n",
    "@task\ndef work(box):\n    return Box(helper(box.x))\n",
    "import json\nfrom tests.bench import packaging\n",
    "print(json.dumps(packaging.cost('work', work, (Box(2.5),), {})))\n",
]
_IN_A_KERNEL = """
    import json, sys
    from IPython.core.interactiveshell import InteractiveShell
    shell = InteractiveShell.instance()
    for cell in json.load(sys.stdin):
        shell.run_cell(cell).raise_error()
"""


def measure(lab: Lab) -> Part:
    """Pack every case, the first time and again."""
    every = [*CASES, _RAISES]
    part = Part(f"Packaging: size and time of {len(every) + 2} acceptance cases")
    for name, task, args, kwargs, _ in every:
        part.rows.append(_row(name, *cost(name, task, args, kwargs)))
    script = lab.directory("packaging") / "script.py"
    script.write_text("\n".join(_OWN_CODE))
    part.rows.append(_row("`__main__`", *_cost_apart(str(script))))
    part.rows.append(_row("notebook", *_cost_apart("-c", dedent(_IN_A_KERNEL))))
    part.remarks.append(
        "A bundle is the code with the values around it, sent once for all calls of a task; "
        "arguments are of one call, with large values that travel beside them. Beside it: a call "
        "of the same task after the first, and what cloudpickle makes of function and arguments."
    )
    return part


Cost = tuple[int, int, float, float, int, float]


def cost(name: str, task: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Cost:
    """What packing costs.

    Returns:
        The bytes of a bundle and of arguments, the seconds that packing takes, and again; the
        bytes that cloudpickle makes of both, and its seconds.
    """
    function = plain_function(task)
    began = time.perf_counter()
    bundles = FunctionBundles(function, _FAR, name)
    home = bundles.home.module
    arguments = pack_arguments(args, kwargs, _FAR, name, home=home)
    bundle = bundles.for_arguments(arguments.met)
    first = time.perf_counter() - began
    began = time.perf_counter()
    arguments = pack_arguments(args, kwargs, _FAR, name, home=home)
    bundle = bundles.for_arguments(arguments.met)
    again = time.perf_counter() - began
    code = len(bundle.code) + len(bundle.captured or b"") + sum(each.size for each in bundle.parts)
    data = len(arguments.payload) + sum(part.size for part in arguments.parts)
    module = sys.modules.get(home or "")
    if module is not None and home != "__main__":
        cloudpickle.register_pickle_by_value(module)
    began = time.perf_counter()
    theirs = len(cloudpickle.dumps((function, args, kwargs)))
    return code, data, first, again, theirs, time.perf_counter() - began


def _cost_apart(*command: str) -> Cost:
    """The same of code that a process of its own has in its `__main__`."""
    done = subprocess.run(
        [sys.executable, *command],
        input=json.dumps(_OWN_CODE),
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    code, data, first, again, theirs, seconds = json.loads(done.stdout)
    return code, data, first, again, theirs, seconds


def _row(
    name: str, code: int, data: int, first: float, again: float, theirs: int, seconds: float
) -> Row:
    return Row(
        name,
        f"bundle {code:,} bytes, arguments {data:,} bytes, {first * 1000:.1f} ms",
        f"{again * 1000:.2f} ms; cloudpickle {theirs:,} bytes, {seconds * 1000:.2f} ms",
    )

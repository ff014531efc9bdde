"""What each acceptance case of packaging sends, and how long it takes to pack and to start."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any, NamedTuple

import cloudpickle

from clustrix_prefect.packaging.arguments import pack_arguments
from clustrix_prefect.packaging.blobs import sharing_values
from clustrix_prefect.packaging.function_bundles import FunctionBundles
from clustrix_prefect.packaging.ownership import plain_function
from tests.bench.lab import Lab
from tests.bench.table import Bound, Part, Row
from tests.packaging import cases
from tests.packaging.cases import CASES
from tests.packaging.elsewhere import Elsewhere

# The usual case: the same minor version on both sides.
_FAR = (sys.version_info[0], sys.version_info[1])
# What `tests/packaging` runs by itself: an exception, and code that no module has.
_RAISES: tuple[Any, ...] = ("raises", cases.raises, (50,), {}, {})
_OWN_CODE = [
    "import math as m\nfrom prefect import task\nSCALE = {'by': 2}\n",
    "class Box:\n    def __init__(self, x):\n        self.x = x\n",
    "def helper(x):\n    return m.floor(x) * SCALE['by']\n",
    "@task\ndef work(box):\n    return Box(helper(box.x))\n",
    "import json\nfrom tests.bench import packaging\n",
    "print(json.dumps(packaging.packing('work', work, (Box(2.5),), {})))\n",
]
_IN_A_KERNEL = """
    import json, sys
    from IPython.core.interactiveshell import InteractiveShell
    shell = InteractiveShell.instance()
    for cell in json.load(sys.stdin):
        shell.run_cell(cell).raise_error()
"""
# Does what a worker of Dask or of a pool does with what cloudpickle made.
_PEER = """
import base64, pickle, sys
for line in sys.stdin:
    try:
        function, args, kwargs = pickle.loads(base64.b64decode(line))
        function(*args, **kwargs)
    except Exception:
        pass
    print("done", flush=True)
"""
_REPEATS = 40


class Packing(NamedTuple):
    """What packing one case costs; times in seconds.

    Attributes:
        code: Bytes of the bundle.
        data: Bytes of the arguments.
        first: Packing the first call of the task.
        again: Packing a call that is submitted by itself, after that.
        mapped: Packing a call of a map.
        theirs: Bytes that cloudpickle makes of the function and its arguments.
        beside: Its time for that.
    """

    code: int
    data: int
    first: float
    again: float
    mapped: float
    theirs: int
    beside: float


def measure(lab: Lab) -> Part:
    """Pack every case, the first time and again, and start it in a process that never saw it."""
    every = [*CASES, _RAISES]
    part = Part(f"Packaging: size and time of {len(every) + 2} acceptance cases")
    packed = {name: packing(name, task, args, kwargs) for name, task, args, kwargs, _ in every}
    script = lab.directory("packaging") / "script.py"
    script.write_text("\n".join(_OWN_CODE))
    packed["`__main__`"] = _packing_apart(str(script))
    packed["notebook"] = _packing_apart("-c", dedent(_IN_A_KERNEL))
    for kind, figures in {
        "a call by itself": [one.again / one.beside for one in packed.values()],
        "a call of a map": [one.mapped / one.beside for one in packed.values()],
    }.items():
        ratio = statistics.median(figures)
        part.rows.append(
            Row(
                f"packing {kind}, median of all cases",
                f"{min(figures):.2f} to {max(figures):.2f}",
                "cloudpickle of function and arguments",
                f"{ratio:.2f}",
                Bound("<=", 2.0),
                ratio,
            )
        )
    started = _starts(lab.directory("packaging-starts"), every)
    ours, theirs = (statistics.median(one) for one in zip(*started.values(), strict=True))
    part.rows.append(
        Row(
            "the first call of a bundle far away, median of all cases",
            f"{ours * 1000:.1f} ms",
            f"cloudpickle {theirs * 1000:.1f} ms",
            f"+{(ours - theirs) * 1000:.1f} ms",
        )
    )
    part.rows += [_row(name, one, started.get(name)) for name, one in packed.items()]
    part.remarks.append(
        "A bundle is the code with the values around it, sent once for all calls of a task; "
        "arguments are of one call, with large values that travel beside them. The first time is "
        "the task's first call; beside it are a call after that and what cloudpickle makes of "
        "function and arguments. Started: in a process that serves calls and never saw the code."
    )
    return part


def packing(name: str, task: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Packing:
    """Pack one case, the first time and again, beside cloudpickle."""
    function = plain_function(task)
    began = time.perf_counter()
    bundles = FunctionBundles(function, _FAR, name)
    home = bundles.home.module

    def pack() -> Any:
        packed = pack_arguments(args, kwargs, _FAR, name, home=home)
        return packed, bundles.for_arguments(packed.met)

    arguments, bundle = pack()
    first = time.perf_counter() - began
    again = _usual(pack)
    with sharing_values():
        pack()
        mapped = _usual(pack)
    code = len(bundle.code) + len(bundle.captured or b"") + sum(each.size for each in bundle.parts)
    data = len(arguments.payload) + sum(part.size for part in arguments.parts)
    with _by_value(function):
        theirs = len(cloudpickle.dumps((function, args, kwargs)))
        beside = _usual(lambda: cloudpickle.dumps((function, args, kwargs)))
    return Packing(code, data, first, again, mapped, theirs, beside)


@contextlib.contextmanager
def _by_value(function: Any) -> Iterator[None]:
    """Have cloudpickle take the code of a function's module along, as we do."""
    module = sys.modules.get(function.__module__)
    if module is None or module.__name__ == "__main__":
        yield
        return
    cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        cloudpickle.unregister_pickle_by_value(module)


def _usual(do: Callable[[], Any]) -> float:
    """The median of the seconds that something takes."""
    seconds = []
    for _ in range(_REPEATS):
        began = time.perf_counter()
        do()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def _packing_apart(*command: str) -> Packing:
    """The same of code that a process of its own has in its `__main__`."""
    done = subprocess.run(
        [sys.executable, *command],
        input=json.dumps(_OWN_CODE),
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return Packing(*json.loads(done.stdout))


def _starts(directory: Path, every: list[Any]) -> dict[str, tuple[float, float]]:
    """The seconds of each case's first call elsewhere: ours, and cloudpickle's."""
    found = {}
    far = Elsewhere(sys.executable, directory)
    peer = subprocess.Popen(
        [sys.executable, "-c", _PEER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert peer.stdin is not None
    assert peer.stdout is not None
    try:
        for name, task, args, kwargs, _ in every:
            package = far.package(task, *args, **kwargs)
            began = time.perf_counter()
            with contextlib.suppress(cases.TooLarge):  # what one of them is about
                far.run(package)
            ours = time.perf_counter() - began
            function = plain_function(task)
            with _by_value(function):
                line = base64.b64encode(cloudpickle.dumps((function, args, kwargs))).decode()
            began = time.perf_counter()
            peer.stdin.write(line + "\n")
            peer.stdin.flush()
            peer.stdout.readline()
            found[name] = ours, time.perf_counter() - began
    finally:
        far.close()
        peer.stdin.close()
        peer.wait()
    return found


def _row(name: str, one: Packing, started: tuple[float, float] | None) -> Row:
    ours, theirs = (
        ("", "")
        if started is None
        else (f", started in {seconds * 1000:.1f} ms" for seconds in started)
    )
    return Row(
        name,
        f"bundle {one.code:,} bytes, arguments {one.data:,} bytes, {one.first * 1000:.1f} ms{ours}",
        f"{one.again * 1000:.2f} ms; cloudpickle {one.theirs:,} bytes, "
        f"{one.beside * 1000:.2f} ms{theirs}",
        f"{one.again / one.beside:.2f}",
    )

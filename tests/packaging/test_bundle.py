"""Functions as people write them: scripts, notebooks, packages, decorators, redefinitions."""

from __future__ import annotations

import linecache
import os
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clustrix_prefect.errors import CallNotPortable, NotPortable
from clustrix_prefect.packaging.arguments import pack_arguments
from clustrix_prefect.packaging.function_bundles import FunctionBundles
from clustrix_prefect.packaging.pickling import HERE
from tests.packaging import cases
from tests.packaging.elsewhere import Elsewhere
from tests.packaging.project import load, write

OTHERS = ("3.6", "3.8", "3.13")
Start = Callable[[str], Elsewhere]


@pytest.mark.parametrize("minor", OTHERS)
def test_a_package_with_relative_imports(minor: str, project: Path, elsewhere: Start) -> None:
    write(project / "shop" / "__init__.py", "raise_if_imported_twice = []\n")
    write(project / "shop" / "prices.py", "from .deep.tax import taxed\nfrom . import deep\n")
    write(project / "shop" / "deep" / "__init__.py", "")
    write(project / "shop" / "deep" / "tax.py", "RATE = 2\ndef taxed(x):\n    return x * RATE\n")
    write(
        project / "shop" / "flows.py",
        """
        import not_on_the_cluster_and_not_needed as _
        from . import prices as p
        def price(x):
            from .deep import tax
            return p.taxed(x), tax.taxed.__module__, p.taxed is tax.taxed, __name__
        """,
    )
    sys.modules["not_on_the_cluster_and_not_needed"] = types.ModuleType("unneeded")
    try:
        price = load("shop.flows").price
        assert elsewhere(minor).call(price, 4) == (8, "shop.deep.tax", True, "shop.flows")
    finally:
        del sys.modules["not_on_the_cluster_and_not_needed"]


@pytest.mark.parametrize("minor", OTHERS)
def test_a_module_that_its_helper_imports_back(minor: str, project: Path, elsewhere: Start) -> None:
    write(
        project / "back_flow.py",
        """
        from prefect import flow, task
        from clustrix_prefect import ClusterTaskRunner, LocalCluster
        class Item:
            pass
        @task
        def run():
            import back_helper
            return isinstance(back_helper.make(), Item)
        @flow(task_runner=ClusterTaskRunner(LocalCluster()))
        def pipeline():
            return run.submit().result()
        if __name__ == "__main__":
            pipeline()
        """,
    )
    write(
        project / "back_helper.py",
        "import back_flow\ndef make():\n    return back_flow.Item()\n",
    )
    assert elsewhere(minor).call(load("back_flow").run) is True


def test_modules_of_two_bundles_never_mix(project: Path, elsewhere: Start) -> None:
    far = elsewhere("3.8")
    packages = []
    for value in (1, 2):
        write(project / f"flow{value}.py", "import same\ndef f():\n    return same.VALUE\n")
        write(project / "same.py", f"VALUE = {value}\n")
        sys.modules.pop("same", None)
        linecache.clearcache()
        packages.append(far.package(load(f"flow{value}").f))
    assert [far.run(package) for package in packages * 2] == [1, 2, 1, 2]


@pytest.mark.parametrize("minor", OTHERS)
def test_definitions_that_are_not_plain(minor: str, project: Path, elsewhere: Start) -> None:
    write(
        project / "unusual.py",
        """
        import functools, typing
        try:
            import no_such_module as fast
        except ImportError:
            fast = None
        if True:
            def conditional(x):
                return x + 1
        T = typing.TypeVar("T")
        Made = type("Made", (), {"x": 5})
        add = functools.partial(conditional)
        COUNT = 0
        ALL = [conditional, len, lambda x: x * 3]
        class Base:
            registry = {}
            def __init_subclass__(cls, **kwargs):
                super().__init_subclass__(**kwargs)
                Base.registry[cls.__name__] = cls
        class Child(Base):
            def name(self):
                return super().__class__.__name__, __class__.__name__
        @functools.singledispatch
        def kind(x):
            return "any"
        @kind.register(int)
        def _(x):
            return "int"
        @functools.lru_cache(maxsize=None)
        def cached(x):
            return x
        def counts():
            global COUNT
            COUNT += 1
            return COUNT
        def everything(x):
            return (fast, conditional(x), Made.x, add(x), [f("a" if f is len else x) for f in ALL],
                    Child().name(), sorted(Base.registry), kind(1), kind("a"), cached(x), counts())
        """,
    )
    unusual = load("unusual")
    far = elsewhere(minor)
    want = unusual.everything(1)
    unusual.COUNT = 0
    assert far.call(unusual.everything, 1) == want
    # No call sees what another did, unless the code is there by value: then as in a process pool.
    lasts = far.version == sys.version_info[:2]
    assert far.call(unusual.everything, 1)[-1] == (2 if lasts else 1)


@pytest.mark.parametrize("minor", OTHERS)
def test_tracebacks_show_the_users_lines(minor: str, elsewhere: Start) -> None:
    with pytest.raises(cases.TooLarge) as raised:
        elsewhere(minor).call(cases.raises, 50)
    text = str(raised.value.__cause__)
    line = cases.raises.fn.__code__.co_firstlineno + 2
    assert f'"tests/packaging/cases.py", line {line}, in raises\n    raise TooLarge(' in text


def test_variables_are_those_of_now(project: Path) -> None:
    write(
        project / "changing.py",
        """
        FACTOR = 2
        OPTIONS = {}
        def f():
            return FACTOR, OPTIONS
        """,
    )
    changing = load("changing")
    bundles = FunctionBundles(changing.f, (3, 8), "f")
    first = bundles.for_arguments(frozenset())
    assert bundles.for_arguments(frozenset()) is first
    changing.FACTOR = 3
    second = bundles.for_arguments(frozenset())
    changing.OPTIONS["a"] = 1
    third = bundles.for_arguments(frozenset())
    assert first.code == second.code == third.code
    assert len({first.captured, second.captured, third.captured}) == 3


@pytest.mark.parametrize("minor", OTHERS)
def test_tasks_inside_tasks(minor: str, project: Path, elsewhere: Start) -> None:
    write(
        project / "submits.py",
        """
        from prefect import task
        @task
        def inner(x=1):
            return x + 1
        @task
        def outer():
            futures = inner.map([1, 2])
            again = inner.with_options(retries=1).submit(inner.submit())
            return futures.result(), again.result()
        """,
    )
    assert elsewhere(minor).call(load("submits").outer) == ([2, 3], 3)


def test_a_variable_that_cannot_travel_is_named(project: Path, elsewhere: Start) -> None:
    write(
        project / "locked.py",
        "import threading\nSTATE = {'lock': threading.Lock()}\ndef f():\n    return STATE\n",
    )
    with pytest.raises(NotPortable, match=r"'STATE' of locked.*\['lock'\]: _thread\.lock"):
        elsewhere("3.8").package(load("locked").f)


def test_syntax_that_is_too_new_is_named_with_its_line(elsewhere: Start) -> None:
    line = cases.walrus.fn.__code__.co_firstlineno + 2
    with pytest.raises(CallNotPortable, match=rf"cases\.py, line {line} is not Python 3\.6"):
        elsewhere("3.6").call(cases.walrus, 1)


def test_what_a_bundle_imports() -> None:
    bundle = FunctionBundles(cases.local_module.fn, (3, 8), "f").for_arguments(frozenset())
    assert bundle.imports.required == set()
    bundle = FunctionBundles(cases.decorated.fn, (3, 8), "f").for_arguments(frozenset())
    assert bundle.imports.required == {"functools"}


# --- scripts and notebooks ------------------------------------------------------------------

SCRIPT = """
import enum, sys
from pathlib import Path
from dataclasses import dataclass
from prefect import task
from tests.packaging.elsewhere import Elsewhere
LIMIT = 3
class Kind(enum.Enum):
    ONE = 1
class Pair:
    def __init__(self, a):
        self.a = a
@task
def near(pair):
    return Pair(pair.a + LIMIT), Kind.ONE
if __name__ == "__main__":
    far = Elsewhere(sys.argv[1], Path(sys.argv[2]))
    pair, kind = far.call(near, Pair(1))
    assert type(pair) is Pair and pair.a == 4 and kind is Kind.ONE, (pair, kind)
    far.close()
    print("the same")
"""


@pytest.mark.parametrize("minor", OTHERS)
def test_a_script(minor: str, pythons: dict[str, str], tmp_path: Path) -> None:
    if minor not in pythons:
        pytest.skip(f"no Python {minor} on this machine")
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, str(tmp_path / "script.py"), pythons[minor], str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.getcwd()},
        capture_output=True,
        text=True,
    )
    assert done.stdout == "the same\n", done.stderr


CELLS = [
    "import math as m\nfrom prefect import task\nSCALE = 2\n",
    "class Box:\n    pass\nclass Bag:\n    def __init__(self, x):\n        self.x = x\n",
    "def helper(x):\n    return m.floor(x) * SCALE\n",
    "@task\ndef work(x):\n    return Bag(helper(x)), Box\n",
]


@pytest.mark.parametrize("minor", OTHERS)
def test_a_notebook(minor: str, elsewhere: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cells as IPython's kernel compiles them: a name each, and the text in linecache."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    main = types.ModuleType("__main__")
    main.__dict__.update(namespace)
    del main.__dict__["__doc__"]
    monkeypatch.setitem(sys.modules, "__main__", main)
    for number, cell in enumerate(CELLS):
        name = f"/tmp/ipykernel_77/{number}.py"
        linecache.cache[name] = (len(cell), None, cell.splitlines(keepends=True), name)
        exec(compile(cell, name, "exec"), main.__dict__)
    try:
        bag, box = elsewhere(minor).call(main.work, 2.5)
        assert type(bag) is main.Bag
        assert (bag.x, box) == (4, main.Box)
    finally:
        for number in range(len(CELLS)):
            del linecache.cache[f"/tmp/ipykernel_77/{number}.py"]


@pytest.mark.parametrize("minor", ["3.6", "3.8"])
def test_a_function_inside_another_has_builtins(
    minor: str, project: Path, elsewhere: Start
) -> None:
    """Before Python 3.10 they are those of its module, and that has none before it is run."""
    write(
        project / "inside.py",
        """
        def make():
            def total(numbers):
                import math
                return sum(numbers) + math.floor(0.5)
            return total
        """,
    )
    assert elsewhere(minor).call(load("inside").make(), [1, 2]) == 3


def test_a_call_needs_no_package_of_another_calls_arguments(project: Path) -> None:
    write(
        project / "mixed.py",
        """
        import pydantic
        class Plain:
            pass
        class Model(pydantic.BaseModel):
            n: int
        def echo(value):
            return value
        """,
    )
    mixed = load("mixed")
    for order in ((mixed.Model, mixed.Plain), (mixed.Plain, mixed.Model)):
        bundles = FunctionBundles(mixed.echo, HERE, "echo")
        for kind in order * 2:
            value = kind(n=1) if kind is mixed.Model else kind()
            met = pack_arguments((value,), {}, HERE, "echo", home="mixed").met
            needed = bundles.for_arguments(met).imports.required
            assert ("pydantic" in needed) is (kind is mixed.Model)

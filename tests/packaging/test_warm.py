"""Several bundles in one process, as in a warm worker and in a job of several calls."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.packaging.elsewhere import Elsewhere
from tests.packaging.project import load, write

OWN = f"3.{sys.version_info.minor}"
Start = Callable[[str], Elsewhere]

# A flow in a package that nothing of it imports; one that imports its package; one of no package.
_FLOWS = {
    "lone.deep.flows": "from dataclasses import dataclass\n",
    "whole.flows": "from dataclasses import dataclass\nfrom whole import LIMIT, other\n",
    "lone.others": "from dataclasses import dataclass\n",
    "own_flows": "from dataclasses import dataclass\nimport whole.other\n",
}
_CODE = """
@dataclass
class Parcel:
    weight: int
    def __reduce_ex__(self, protocol):
        import pickle
        assert pickle.loads(pickle.dumps(Parcel)) is Parcel
        return object.__reduce_ex__(self, protocol)
class Lost(Exception):
    pass
calls = []
def echo(value, fails=False):
    calls.append(value)
    if fails:
        raise Lost(value)
    return value, len(calls), Parcel(len(calls))
"""


@pytest.fixture
def flows(project: Path) -> list[Any]:
    """The modules of four flows."""
    write(project / "whole" / "__init__.py", "LIMIT = 5\n")
    write(project / "whole" / "other.py", "def name():\n    return __name__\n")
    for package in ("lone", "lone/deep"):
        write(project / package / "__init__.py", "from not_far_away import x\n")
    for name, imports in _FLOWS.items():
        write(project / (name.replace(".", "/") + ".py"), imports + _CODE)
    stub: Any = type(sys)("not_far_away")
    stub.x = 1
    sys.modules["not_far_away"] = stub
    try:
        return [load(name) for name in _FLOWS]
    finally:
        del sys.modules["not_far_away"]


def test_bundles_in_every_order(flows: list[Any], elsewhere: Start) -> None:
    """Values of the user's own classes come back, whatever ran in that process before."""
    far, wrong = elsewhere(OWN), []
    packages = [far.package(flow.echo, flow.Parcel(7)) for flow in flows]
    counts = dict.fromkeys(flows, 0)
    for order in itertools.permutations(range(len(flows))):
        for number in order:
            flow = flows[number]
            counts[flow] += 1
            value = far.run(packages[number])
            if value != (flow.Parcel(7), counts[flow], flow.Parcel(counts[flow])):
                wrong.append((order, number, value))
    assert wrong == []


def test_exceptions_in_every_order(flows: list[Any], elsewhere: Start) -> None:
    far = elsewhere(OWN)
    packages = [far.package(flow.echo, 7, fails=True) for flow in flows]
    for order in itertools.permutations(range(len(flows))):
        for number in order:
            with pytest.raises(flows[number].Lost, match="7"):
                far.run(packages[number])


def test_a_package_that_cannot_be_imported_there(project: Path, elsewhere: Start) -> None:
    """A class needs its package to be named, and a file of it came along for another reason."""
    write(project / "broken" / "__init__.py", "import only_at_home\n")
    write(project / "broken" / "other.py", "")
    write(
        project / "broken" / "flows.py",
        """
        class Item:
            pass
        def make(wants_other=False):
            if wants_other:
                from . import other
            return Item()
        """,
    )
    sys.modules["only_at_home"] = type(sys)("only_at_home")
    try:
        flows = load("broken.flows")
        assert type(elsewhere(OWN).call(flows.make)) is flows.Item
    finally:
        del sys.modules["only_at_home"]


def test_a_package_knows_its_modules_that_came_by_value(project: Path, elsewhere: Start) -> None:
    write(project / "known" / "__init__.py", "")
    write(
        project / "known" / "other.py",
        """
        def limit():
            import known.flows
            return known.flows.LIMIT
        """,
    )
    write(
        project / "known" / "flows.py",
        """
        LIMIT = 5
        def run():
            from known.other import limit
            return limit()
        """,
    )
    assert elsewhere(OWN).call(load("known.flows").run) == 5

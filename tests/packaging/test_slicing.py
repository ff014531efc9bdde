"""What a module did when it was imported is so far away, too."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from clustrix_prefect.errors import NotPortable
from clustrix_prefect.packaging.blobs import sharing_values
from clustrix_prefect.packaging.function_bundles import FunctionBundles
from tests.packaging.elsewhere import Elsewhere
from tests.packaging.project import load, write

OWN = ".".join(map(str, sys.version_info[:2]))
Start = Callable[[str], Elsewhere]
on_each = pytest.mark.parametrize("minor", ["3.6", "3.8", OWN])


@on_each
def test_registries(minor: str, project: Path, elsewhere: Start) -> None:
    write(
        project / "area.py", "KNOWN = {}\ndef known(f):\n    KNOWN[f.__name__] = f\n    return f\n"
    )
    write(project / "effects.py", "import area\n@area.known\ndef of_a_module():\n    return 4\n")
    write(
        project / "registries.py",
        """
        import area
        import effects  # for what it registers
        from area import KNOWN, known
        HANDLERS = {}
        LATER = {}
        CURRENT = None
        def handler(name):
            def note(function):
                HANDLERS[name] = function
                return function
            return note
        @handler("a")
        def do_a():
            return 1
        class Thing:
            x = 2
        LATER["thing"] = Thing
        CURRENT = LATER
        @known
        def unnamed():
            return 3
        class Base:
            kinds = []
            def __init_subclass__(cls, **kwargs):
                super().__init_subclass__(**kwargs)
                Base.kinds.append(cls.__name__)
        class Child(Base):
            pass
        class GrandChild(Child):
            pass
        class Plain:
            pass
        class Heir(Plain):
            pass
        def everything():
            return (
                {name: function() for name, function in HANDLERS.items()},
                CURRENT["thing"].x,
                {name: function() for name, function in sorted(KNOWN.items())},
                Base.kinds,
                [each.__name__ for each in Plain.__subclasses__()],
            )
        """,
    )
    everything = load("registries").everything
    want = ({"a": 1}, 2, {"of_a_module": 4, "unnamed": 3}, ["Child", "GrandChild"], ["Heir"])
    assert everything() == want
    assert elsewhere(minor).call(everything) == want


def test_what_is_not_registered_stays_here(project: Path) -> None:
    write(project / "timing.py", "def timed(f):\n    return lambda *a: f(*a)\n")
    write(
        project / "several.py",
        """
        from timing import timed
        @timed
        def other():
            import not_needed_by_the_task
        @timed
        def helper():
            return 1
        def f():
            return helper()
        """,
    )
    bundle = FunctionBundles(load("several").f, (3, 8), "f").for_arguments(frozenset())
    assert bundle.imports.required == set()


@on_each
def test_what_was_set_is_not_computed_again(
    minor: str, project: Path, elsewhere: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ONLY_HERE", "home")
    write(
        project / "settings.py",
        """
        import os
        class Config:
            rate = 1
            place = os.environ.get("ONLY_HERE")
            def where(self, place=os.environ.get("ONLY_HERE")):
                return place
        class Heir(Config):
            pass
        def helper(x=os.environ.get("ONLY_HERE"), *, y=os.environ.get("ONLY_HERE")):
            return x, y
        def look():
            return Config.rate, Config.added, Heir.rate, Config.place, Config().where(), helper()
        """,
    )
    settings = load("settings")
    settings.Config.rate = 5
    settings.Config.added = [6]
    monkeypatch.delenv("ONLY_HERE")
    far = elsewhere(minor)
    want = (5, [6], 5, "home", "home", ("home", "home"))
    assert settings.look() == want
    assert far.call(settings.look) == want


def test_a_class_that_changes_between_two_calls(project: Path) -> None:
    write(project / "changes.py", "class C:\n    rate = 1\ndef f():\n    return C.rate\n")
    changes = load("changes")
    bundles = FunctionBundles(changes.f, (3, 8), "f")
    first = bundles.for_arguments(frozenset())
    changes.C.rate = 2
    second = bundles.for_arguments(frozenset())
    changes.C.more = 3
    third = bundles.for_arguments(frozenset())
    assert len({first.identity, second.identity, third.identity}) == 3
    assert bundles.for_arguments(frozenset()) is third


def test_large_data_that_changes_between_two_submissions(project: Path) -> None:
    write(project / "large.py", "DATA = list(range(20_000))\ndef f():\n    return len(DATA)\n")
    large = load("large")
    bundles = FunctionBundles(large.f, (3, 8), "f")
    with sharing_values():
        first = bundles.for_arguments(frozenset())
        assert bundles.for_arguments(frozenset()) is first
    large.DATA.append(1)
    second = bundles.for_arguments(frozenset())
    assert second.identity != first.identity
    assert bundles.for_arguments(frozenset()) is second


def test_annotations_of_classes_are_what_they_were(project: Path, elsewhere: Start) -> None:
    write(
        project / "annotated.py",
        """
        import dataclasses
        @dataclasses.dataclass
        class C:
            x: int
            def method(self, other: "not_there.Thing") -> "not_there.Thing":
                y: int = 1
                return y
        def f():
            return [field.type for field in dataclasses.fields(C)], C(1).method(None)
        """,
    )
    f = load("annotated").f
    assert elsewhere(OWN).call(f) == f() == ([int], 1)
    assert elsewhere("3.8").call(f) == (["int"], 1)


@on_each
def test_closures_that_assign(minor: str, project: Path, elsewhere: Start) -> None:
    write(
        project / "counting.py",
        """
        def counter():
            n = 0
            def count():
                nonlocal n
                n += 1
                return n
            return count
        class Secretive:
            __hidden = 7
            def reader(self):
                def read():
                    return self.__hidden
                return read
            def short(self):
                return lambda: self.__hidden
        """,
    )
    counting = load("counting")
    count = counting.counter()
    count()
    far = elsewhere(minor)
    assert far.call(count) == 2
    assert count() == 2, "a call far away changed what is here"
    assert far.call(counting.Secretive().reader()) == 7
    assert far.call(counting.Secretive().short()) == 7


@on_each
def test_unusual_line_ends(minor: str, project: Path, elsewhere: Start) -> None:
    write(
        project / "lines.py",
        "A = '\u2028\x85'\n\x0c\ndef helper():\n    return A\n"
        "\x0c\n\ndef f():\n    return helper()\n",
    )
    assert elsewhere(minor).call(load("lines").f) == "\u2028\x85"


@on_each
def test_the_source_can_be_looked_at(minor: str, project: Path, elsewhere: Start) -> None:
    write(project / "shown.py", "def shown():\n    return 1\n")
    write(
        project / "looks.py",
        """
        import inspect
        import shown
        def helper():
            return 2
        def f():
            return inspect.getsource(helper), inspect.getsource(shown.shown)
        """,
    )
    f = load("looks").f
    assert elsewhere(minor).call(f) == f()


def test_a_file_that_was_edited_after_it_was_imported(project: Path, elsewhere: Start) -> None:
    path = project / "edited.py"
    write(path, "K = 1\ndef helper():\n    return K\ndef f():\n    return helper()\n")
    edited = load("edited")
    write(path, "J = 1\ndef helper():\n    return J\ndef f():\n    return helper()\n")
    assert elsewhere(OWN).call(edited.f) == 1  # what runs here
    with pytest.raises(NotPortable, match=r"edited\.py .*changed since"):
        elsewhere("3.8").package(edited.f)


def test_a_file_that_was_edited_and_imported_again(project: Path, elsewhere: Start) -> None:
    import importlib

    path = project / "reloaded.py"
    write(path, "def f():\n    return 1\n")
    reloaded = load("reloaded")
    far = elsewhere(OWN)
    assert far.call(reloaded.f) == 1
    write(path, "\ndef f():\n    return 22\n")
    importlib.reload(reloaded)
    assert far.call(reloaded.f) == 22


def test_a_file_that_is_no_argument_is_refused(project: Path, elsewhere: Start) -> None:
    write(
        project / "holds.py",
        "from clustrix_prefect import File\nMODEL = File('x')\ndef f():\n    return MODEL\n",
    )
    with pytest.raises(
        NotPortable, match=r"an argument of a task only: the variable 'MODEL' of holds"
    ):
        elsewhere(OWN).package(load("holds").f)


def test_another_site_packages_is_not_the_users(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages = project / "lib" / "site-packages"
    write(packages / "installed_there.py", "VALUE = 1\n")
    monkeypatch.syspath_prepend(str(packages))
    write(
        project / "uses.py", "import installed_there\ndef f():\n    return installed_there.VALUE\n"
    )
    bundle = FunctionBundles(load("uses").f, (3, 8), "f").for_arguments(frozenset())
    assert bundle.imports.required == {"installed_there"}
    del sys.modules["installed_there"]

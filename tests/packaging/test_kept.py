"""What decorators keep goes to another version of Python, or says that it cannot."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from clustrix_prefect.errors import CallNotPortable, NotPortable
from clustrix_prefect.packaging.function_bundles import FunctionBundles
from tests.packaging.elsewhere import Elsewhere
from tests.packaging.project import load, write

Start = Callable[[str], Elsewhere]
OTHER = "3.8" if sys.version_info[:2] != (3, 8) else "3.9"

_KEEPING = """
import contextlib, functools, itertools, threading, weakref
class Thing:
    pass
def keeping(make):
    def around(function):
        kept = make()
        @functools.wraps(function)
        def wrapper():
            return repr(type(kept).__name__), function()
        return wrapper
    return around
@keeping({make})
def f():
    return 1
"""
REFUSED = {
    "a generator": "lambda: (each for each in (1, 2))",
    "an open file": "lambda: open(__file__)",
    "a filled weak dictionary": "lambda: weakref.WeakValueDictionary(a=Thing)",
    "a list with a lock": "lambda: [threading.Lock()]",
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_travel_is_named_before_anything_runs(what: str, project: Path) -> None:
    write(project / "keeps.py", _KEEPING.replace("{make}", REFUSED[what]))
    function = load("keeps").f
    with pytest.raises(NotPortable, match=r"'kept', which f keeps \(keeps\.py, line 14\)"):
        FunctionBundles(function, (3, 8), "f").for_arguments(frozenset())


@pytest.mark.parametrize(
    "make", ["threading.Lock", "threading.local", "weakref.WeakKeyDictionary", "lambda: itertools"]
)
def test_what_holds_nothing_is_made_again(make: str, project: Path, elsewhere: Start) -> None:
    write(project / "keeps.py", _KEEPING.replace("{make}", make))
    function = load("keeps").f
    assert elsewhere(OTHER).call(function) == function()


def test_a_variable_of_two_that_would_part(project: Path) -> None:
    """What was taken out of what a decorator made counts in the same variable."""
    write(
        project / "parts.py",
        """
        def counted(function):
            calls = 0
            def wrapper():
                nonlocal calls
                calls += 1
                return calls
            def reset():
                nonlocal calls
                calls = 0
            wrapper.reset = reset
            return wrapper
        @counted
        def f():
            pass
        reset = f.reset
        def apart():
            reset()
            return f()
        def together():
            f.reset()
            return f()
        """,
    )
    parts = load("parts")
    parts.f()
    with pytest.raises(NotPortable, match=r"functions of parts that share a variable"):
        FunctionBundles(parts.apart, (3, 8), "apart").for_arguments(frozenset())
    assert FunctionBundles(parts.together, (3, 8), "together").for_arguments(frozenset())


def test_a_decorator_that_makes_something_else_there(project: Path, elsewhere: Start) -> None:
    write(
        project / "chooses.py",
        f"""
        import sys
        def chosen(function):
            calls = 0
            if sys.version_info[:2] == {sys.version_info[:2]!r}:
                def wrapper():
                    nonlocal calls
                    calls += 1
                    return calls
            else:
                def wrapper():
                    return calls
            return wrapper
        @chosen
        def f():
            pass
        def g():
            return f()
        """,
    )
    with pytest.raises(CallNotPortable, match=r"f is wrapper:11 here, and was wrapper:6 where"):
        elsewhere(OTHER).call(load("chooses").g)


def test_variables_that_decorators_change(project: Path, elsewhere: Start) -> None:
    """Once, and in the same objects, whoever else holds them."""
    write(
        project / "notes.py",
        """
        import collections
        class Book:
            def __init__(self):
                self.names, self.by = [], {}
            def note(self, function):
                self.names.append(function.__name__)
                self.by.setdefault("all", []).append(len(self.names))
                return function
        book = Book()
        NAMES, ORDER, SEEN = book.names, collections.OrderedDict(), {"none"}
        LAST = None
        def noted(function):
            global LAST
            LAST = function.__name__
            ORDER[LAST] = len(ORDER)
            ORDER.move_to_end(LAST, last=False)
            SEEN.add(LAST)
            return book.note(function)
        @noted
        def a():
            pass
        @noted
        def b():
            pass
        def look():
            a(), b()
            return book.names, NAMES is book.names, book.by, list(ORDER.items()), sorted(SEEN), LAST
        """,
    )
    notes = load("notes")
    notes.LAST = "changed"
    notes.SEEN.discard("none")
    assert elsewhere(OTHER).call(notes.look) == notes.look()
    assert notes.look()[0] == ["a", "b"]


def test_the_second_of_two_that_share_a_name(project: Path, elsewhere: Start) -> None:
    """What was defined first is not taken for what has its name now."""
    write(
        project / "named.py",
        """
        KNOWN = []
        def counted(function):
            calls = 0
            def wrapper():
                nonlocal calls
                calls += 1
                return calls, function()
            KNOWN.append(wrapper)
            return wrapper
        @counted
        def f():
            return "first"
        @counted
        def f():
            return "second"
        def g():
            return f(), [each() for each in KNOWN]
        """,
    )
    named = load("named")
    named.f()
    assert elsewhere(OTHER).call(named.g) == named.g()


def test_a_name_that_a_function_gave_another_value(project: Path, elsewhere: Start) -> None:
    write(
        project / "swapped.py",
        """
        def f():
            return "written"
        class Kind:
            name = "written"
        class Other:
            name = "other"
        def swap():
            global f, Kind
            f, Kind = (lambda: "swapped"), Other
        def g():
            return f(), Kind.name
        """,
    )
    swapped = load("swapped")
    swapped.swap()
    assert swapped.g() == ("swapped", "other")
    assert elsewhere(OTHER).call(swapped.g) == ("swapped", "other")

"""What comes back: values, or what keeps them there; exceptions with all that is theirs."""

from __future__ import annotations

import asyncio
import copyreg
import pickle
import re
import sys
import threading
from collections.abc import Callable
from concurrent import futures
from pathlib import Path
from typing import Any, Dict, List, Optional  # noqa: UP035

import pydantic
import pytest

from clustrix_prefect.errors import NotPortable, RemoteTaskError, ResultNotPortable
from clustrix_prefect.far_side.worker import outcome
from clustrix_prefect.packaging.results import pickled
from tests.packaging.elsewhere import Elsewhere
from tests.packaging.project import load, write

Start = Callable[[str], Elsewhere]
FAR = ("3.6", "3.8", "3.11", "3.13")
HERE = "{}.{}".format(*sys.version_info[:2])


class Model:
    __slots__ = ("lock", "more")

    def __init__(self) -> None:
        import threading

        self.lock = threading.Lock()


class Unshowable:
    def __init__(self) -> None:
        import threading

        self.lock = threading.Lock()

    def __repr__(self) -> str:
        raise RuntimeError("no text")


def deep() -> Any:
    return [1, {"model": Model()}]


def at_the_top() -> Any:
    import threading

    return threading.Lock()


def in_a_key() -> Any:
    return {(1, Unshowable()): 2}


def view() -> Any:
    return [memoryview(b"abc")]


def opened() -> Any:
    return {"log": open("/dev/null")}


@pytest.mark.parametrize("minor", FAR)
def test_what_cannot_come_back_is_named_with_the_path_to_it(minor: str, elsewhere: Start) -> None:
    far = elsewhere(minor)
    paths = {
        deep: "its list cannot be sent back: [1]['model'].lock: _thread.lock.",
        at_the_top: "its lock cannot be sent back: ",
        in_a_key: "its dict cannot be sent back: ",
        view: "its list cannot be sent back: [0]: memoryview.",
        opened: "its dict cannot be sent back: ['log']: _io.TextIOWrapper.",
    }
    for function, path in paths.items():
        with pytest.raises(ResultNotPortable, match=re.escape(path)):
            far.call(function)


class OddError(Exception):
    def __init__(self, size: int, limit: int) -> None:
        super().__init__(f"{size} is more than {limit}")


def noted() -> None:
    error = OddError(3, 2)
    error.add_note("while fitting")  # type: ignore[attr-defined]
    error.add_note("seed 7")  # type: ignore[attr-defined]
    raise error


def noted_unknown() -> None:
    made = type("Local", (Exception,), {"__init__": lambda self, a: None})
    error = made(1)
    error.add_note("of its own")
    raise error


class EmptyError(Exception):
    """One that is false, as it has no elements."""

    def __len__(self) -> int:
        return 0


def nothing_found() -> None:
    error: Any = EmptyError("nothing")
    error.lock = threading.Lock()  # so that it comes back in parts
    raise error


@pytest.mark.parametrize("minor", FAR)
def test_an_exception_that_is_false_is_what_it_was(minor: str, elsewhere: Start) -> None:
    with pytest.raises(EmptyError, match="nothing"):
        elsewhere(minor).call(nothing_found)


@pytest.mark.parametrize("minor", [minor for minor in FAR if minor in ("3.11", "3.13")])
def test_notes_of_an_exception_arrive(minor: str, elsewhere: Start) -> None:
    far = elsewhere(minor)
    with pytest.raises(OddError) as caught:
        far.call(noted)
    assert caught.value.__notes__ == ["while fitting", "seed 7"]  # type: ignore[attr-defined]
    assert str(caught.value) == "3 is more than 2"
    if minor != HERE:
        with pytest.raises(RemoteTaskError) as fallback:
            far.call(noted_unknown)
        assert fallback.value.__notes__ == ["of its own"]  # type: ignore[attr-defined]


def a_lambda() -> Any:
    return [lambda x: x + 1]


def some_code() -> Any:
    return compile("1 + 1", "<none>", "eval")


@pytest.mark.parametrize("minor", [minor for minor in FAR if minor not in ("3.6", HERE)])
@pytest.mark.parametrize("function", [a_lambda, some_code])
def test_bytecode_of_another_version_is_not_opened(
    minor: str, function: Any, elsewhere: Start
) -> None:
    """Loading it would crash this interpreter."""
    with pytest.raises(ResultNotPortable, match="bytecode of another Python version"):
        elsewhere(minor).call(function)


def test_bytecode_of_the_same_version_is(elsewhere: Start) -> None:
    far = elsewhere(HERE)
    assert far.call(a_lambda)[0](1) == 2
    assert eval(far.call(some_code)) == 2


def a_group() -> None:
    raise ExceptionGroup("both", [ValueError("one"), OddError(3, 2)])  # type: ignore[name-defined]  # noqa: F821


def times_out() -> None:
    import asyncio

    raise asyncio.TimeoutError("late")


def cancelled() -> Any:
    import asyncio

    return [asyncio.CancelledError("gone"), asyncio.IncompleteReadError(b"ab", 3)]


def same(value: Any) -> Any:
    return value


@pytest.mark.parametrize("minor", [minor for minor in FAR if minor in ("3.11", "3.13")])
def test_groups_of_exceptions(minor: str, elsewhere: Start) -> None:
    if sys.version_info < (3, 11):
        with pytest.raises(RemoteTaskError, match="ExceptionGroup"):
            elsewhere(minor).call(a_group)
        return
    with pytest.raises(ExceptionGroup, match="both") as caught:  # type: ignore[name-defined]  # noqa: F821
        elsewhere(minor).call(a_group)
    one, other = caught.value.exceptions
    assert (type(one), str(one)) == (ValueError, "one")
    assert (type(other), str(other)) == (OddError, "3 is more than 2")


@pytest.mark.skipif(sys.version_info < (3, 11), reason="this Python has no groups")
@pytest.mark.parametrize("minor", ["3.6", "3.8"])
def test_groups_do_not_travel_to_where_there_are_none(minor: str, elsewhere: Start) -> None:
    group = ExceptionGroup("both", [ValueError("one")])  # type: ignore[name-defined]  # noqa: F821
    with pytest.raises(NotPortable, match=rf"needs Python 3\.11, and the cluster has {minor}"):
        elsewhere(minor).package(same, group)


@pytest.mark.parametrize("minor", FAR)
def test_exceptions_of_asyncio(minor: str, elsewhere: Start) -> None:
    far = elsewhere(minor)
    # In 3.6 two of them are those of `concurrent.futures`, and come back as such.
    theirs: Any = futures if minor == "3.6" else asyncio
    # From 3.11 on these are one.
    with pytest.raises((TimeoutError, asyncio.TimeoutError, futures.TimeoutError), match="late"):
        far.call(times_out)
    for found in (far.call(cancelled), far.call(same, cancelled())):
        assert [type(error) for error in found] == [
            theirs.CancelledError,
            asyncio.IncompleteReadError,
        ]
        assert (found[1].partial, found[1].expected) == (b"ab", 3)


class Renamed(Exception):
    """Travels as something else, by its author's wish."""


def reduced_by_its_author(error: Renamed) -> Any:
    return LookupError, error.args


@pytest.mark.parametrize("minor", FAR)
def test_exceptions_for_which_somebody_registered_a_reducer(
    minor: str, elsewhere: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As tblib does for all, which Dask brings with it, and which the far side need not have."""

    def reduced_by_a_package(error: ValueError) -> Any:
        return pytest.param, error.args

    reduced_by_a_package.__module__ = pytest.param.__module__
    monkeypatch.setitem(copyreg.dispatch_table, ValueError, reduced_by_a_package)
    monkeypatch.setitem(copyreg.dispatch_table, Renamed, reduced_by_its_author)
    (found, renamed) = elsewhere(minor).call(same, [ValueError("bad", 1), Renamed("key")])
    assert (type(found), found.args) == (ValueError, ("bad", 1))
    assert (type(renamed), renamed.args) == (LookupError, ("key",))


def generic() -> Any:
    return [List[int], Optional[Dict[str, int]]]  # noqa: UP006, UP045


@pytest.mark.parametrize("minor", FAR)
def test_generic_types(minor: str, elsewhere: Start) -> None:
    far = elsewhere(minor)
    if minor != "3.6":
        assert far.call(generic) == far.call(same, generic()) == generic()
        return
    # That version pickles them as classes that it makes anew.
    with pytest.raises(ResultNotPortable):
        far.call(generic)


def test_a_result_is_opened_while_its_module_is_being_imported(project: Path) -> None:
    write(
        project / "runs_when_imported.py",
        """
        import pickle, threading
        from clustrix_prefect.packaging.pickling import restore
        class Item:
            pass
        found = []
        data = pickle.dumps(Item())
        opening = threading.Thread(target=lambda: found.append(restore(data)), daemon=True)
        opening.start()
        opening.join(60)
        """,
    )
    [item] = load("runs_when_imported").found
    assert type(item).__name__ == "Item"


def test_an_exception_whose_text_differs_between_versions_of_its_package() -> None:
    """pydantic's has the version in its text, and cannot be made of its arguments."""
    with pytest.raises(pydantic.ValidationError) as raised:
        pydantic.TypeAdapter(int).validate_python("five")
    parts = pickle.loads(outcome.raised(raised.value).body)
    parts["text"] = parts["text"].replace("errors.pydantic.dev/", "errors.pydantic.dev/older-")
    error = pickled.exception(pickle.dumps(parts), sys.version_info[:2])
    assert isinstance(error, pydantic.ValidationError)
    assert error.errors()[0]["input"] == "five"

"""What comes back: values, or what keeps them there; exceptions with all that is theirs."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import Any

import pytest

from clustrix_prefect.errors import RemoteTaskError, ResultNotPortable
from tests.packaging.elsewhere import Elsewhere

Start = Callable[[str], Elsewhere]
FAR = ("3.6", "3.8", "3.11", "3.13")


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
    error.add_note("while fitting")
    error.add_note("seed 7")
    raise error


def noted_unknown() -> None:
    made = type("Local", (Exception,), {"__init__": lambda self, a: None})
    error = made(1)
    error.add_note("of its own")
    raise error


@pytest.mark.parametrize("minor", [minor for minor in FAR if minor in ("3.11", "3.13")])
def test_notes_of_an_exception_arrive(minor: str, elsewhere: Start) -> None:
    far = elsewhere(minor)
    with pytest.raises(OddError) as caught:
        far.call(noted)
    assert caught.value.__notes__ == ["while fitting", "seed 7"]
    assert str(caught.value) == "3 is more than 2"
    if minor != "{}.{}".format(*sys.version_info[:2]):
        with pytest.raises(RemoteTaskError) as fallback:
            far.call(noted_unknown)
        assert fallback.value.__notes__ == ["of its own"]

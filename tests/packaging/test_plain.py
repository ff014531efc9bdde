"""Plain data comes back as it was, and what is none is refused by name."""

from __future__ import annotations

import enum
import json
import math
import os
import pickle
from collections import OrderedDict, namedtuple
from pathlib import Path
from typing import Any

import pytest

from clustrix_prefect.far_side.wire import fast_stdlib as light
from clustrix_prefect.far_side.wire.plain import NotPlain, from_plain, to_plain
from clustrix_prefect.far_side.worker import outcome
from clustrix_prefect.packaging.results import plain

VALUES: list[Any] = [
    None,
    True,
    0,
    -1,
    2**63,
    -(10**5000),
    0.1,
    -0.0,
    1e308,
    math.inf,
    "",
    "Grüße \ud800 \x00",
    b"\x00\xff",
    bytearray(b"x"),
    [],
    (),
    set(),
    frozenset({1, (2, 3)}),
    {},
    [1, [2, (3, {"a": {4}})]],
    {1: "a", "1": "b", None: [], (1, 2): b"c", True is None: 1.0},
    ["list", [1]],
    ["int", "0x1"],
    {"dict": ["bytes", "eA=="]},
]


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal, and of the same types all through."""
    if type(one) is not type(other):
        return False
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return same(list(one.items()), list(other.items()))
    return bool(one == other) and repr(one) == repr(other) if type(one) is not int else one == other


@pytest.mark.parametrize("number", range(len(VALUES)))
def test_plain_data_comes_back_as_it_was(number: int) -> None:
    value = VALUES[number]
    body = light.to_json(to_plain(value)).encode("ascii")
    assert same(plain.value(body, (3, 11)), value)


def test_what_is_no_number_comes_back_too() -> None:
    assert math.isnan(plain.value(light.to_json(to_plain(math.nan)).encode(), (3, 11)))


class Colour(enum.IntEnum):
    RED = 1


Point = namedtuple("Point", "x y")


class Text(str):
    __slots__ = ()


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (object(), "it is of type object"),
        ([1, {"a": (Path("x"),)}], r"it\[1\]\['a'\]\[0\] is of type pathlib.*Path"),
        (Colour.RED, "Colour"),
        (Point(1, 2), "Point"),
        (Text("x"), "Text"),
        (OrderedDict(), "OrderedDict"),
        ({Text("x"): 1}, "a key of it is of type .*Text"),
        (1j, "complex"),
        (len, "builtin_function_or_method"),
        (memoryview(b"x"), "memoryview"),
    ],
)
def test_what_is_none_is_refused_by_name(value: Any, says: str) -> None:
    with pytest.raises(NotPlain, match=says):
        to_plain(value)
    refused = outcome.returned_plain(value)
    assert refused.status == "not_portable"
    assert json.loads(refused.body)["type_name"] == type(value).__name__


def test_what_holds_itself_is_refused() -> None:
    value: list[Any] = []
    value.append(value)
    assert outcome.returned_plain(value).status == "not_portable"


@pytest.mark.parametrize(
    "data",
    [
        [],
        ["list"],
        [1, [2]],
        {"a": 1},
        ["int", 5],
        ["eval", "1"],
        ["list", "ab"],
        ["dict", [[1]]],
        ["bytes", 5],
        ["list", [[]]],
    ],
    ids=str,
)
def test_what_is_not_written_as_plain_data_is_not_read(data: Any) -> None:
    with pytest.raises(ValueError, match="not plain data"):
        from_plain(data)


def test_a_pickle_is_no_plain_data(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return open, (str(tmp_path / "was-here"), "w")

    with pytest.raises(ValueError, match=r"decode|JSON|Expecting"):
        plain.value(pickle.dumps(Trap()), (3, 11))
    assert not (tmp_path / "was-here").exists()


# --- exceptions ---------------------------------------------------------------------------------


def raised(make: Any) -> BaseException:
    """An exception that was raised far away, as it comes back."""
    try:
        make()
    except BaseException as error:
        body = outcome.raised_plain(error).body
    return plain.exception(body, (3, 11))


def test_exceptions_of_pythons_own_come_back() -> None:
    error = raised(lambda: dict[str, int]()["x"])
    assert type(error) is KeyError
    assert error.args == ("x",)
    assert "KeyError" in str(error.__cause__)
    missing = raised(lambda: os.stat("/none/at/all"))
    assert isinstance(missing, FileNotFoundError)
    assert missing.filename == "/none/at/all"


def test_others_come_back_in_words() -> None:
    class Mine(ValueError):
        pass

    def fail() -> None:
        try:
            raise Mine("mine", 1)
        except Mine as error:
            raise RuntimeError(object) from error

    error = raised(fail)
    assert type(error).__name__ == "RemoteTaskError"
    assert "RuntimeError" in str(error)
    assert error.__cause__ is not None
    assert "Mine: ('mine', 1)" in str(error.__cause__.__cause__)


@pytest.mark.parametrize("name", ["os.system", "eval", "SystemExit", "__import__", "print", "Mine"])
def test_no_name_of_the_clusters_is_called(name: str) -> None:
    facts: dict[str, Any]
    facts = {
        "type_name": name,
        "args": ["1"],
        "text": "1",
        "traceback": "t",
        "notes": [],
        "cause": None,
    }
    error = plain.exception(json.dumps(facts).encode(), (3, 11))
    assert type(error).__name__ == "RemoteTaskError"

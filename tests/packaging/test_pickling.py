"""What a pickle names, what it holds, and what is refused."""

from __future__ import annotations

import http.client
import io
import pickletools
import socket
import sqlite3
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from prefect import task
from prefect.blocks.system import Secret as SecretBlock
from prefect.context import TagsContext
from prefect.types import SecretDict
from prefect.types.entrypoint import EntrypointType
from pydantic import Secret, SecretBytes, SecretStr

from clustrix_prefect.errors import NotPortable
from clustrix_prefect.packaging.by_source import SourcePickler
from clustrix_prefect.packaging.by_value import Namespaces, ValuePickler
from clustrix_prefect.packaging.ownership import is_user_module
from clustrix_prefect.packaging.pickling import CallPickler, Met, Reference, restore
from clustrix_prefect.packaging.sources import InnerFunction

HERE = sys.version_info[:2]
OTHER = (3, 8)


@dataclass
class Pickled:
    data: bytes
    met: set[Met]


def dumps(value: Any, python: tuple[int, int], name: str) -> Pickled:
    """A pickle of an argument of a task of this module."""
    buffer = io.BytesIO()
    pickler: CallPickler = SourcePickler(buffer, python)
    if python == HERE:
        pickler = ValuePickler(buffer, Namespaces(__name__))
    pickler.dump_named(value, name)
    return Pickled(buffer.getvalue(), pickler.met)


class Point:
    __slots__ = ("lock", "x")

    def __init__(self, x: Any) -> None:
        self.x = x


@task
def as_task(x: int) -> int:
    return x


def plain(x: int) -> int:
    return x


def names_in(data: bytes) -> set[str]:
    return {
        str(argument)
        for opcode, argument, _ in pickletools.genops(data)
        if opcode.name == "SHORT_BINUNICODE"
    }


def test_the_users_classes_are_named_not_held():
    pickled = dumps(Point(3), HERE, "an argument")
    assert pickled.met == {Reference(__name__, "Point")}
    assert {__name__, "Point"} <= names_in(pickled.data)
    restored = restore(pickled.data)
    assert type(restored) is Point
    assert restored.x == 3


@pytest.mark.parametrize("function", [as_task, as_task.fn, plain])
def test_functions_and_tasks_are_named(function):
    pickled = dumps([function], OTHER, "an argument")
    assert pickled.met == {Reference(__name__, function.__name__.replace("-", "_"))}


def test_a_function_without_a_name_is_noted_as_source():
    [met] = dumps(lambda x: x + 1, OTHER, "an argument").met
    assert isinstance(met, InnerFunction)
    assert "lambda x: x + 1" in met.source


def test_plain_data_names_nothing():
    assert dumps({"a": [1, (2.5, None, b"x")]}, HERE, "an argument").met == set()


def test_what_is_installed_is_noted_by_its_package():
    assert dumps(EntrypointType.FILE_PATH, HERE, "x").met == set()
    numpy = pytest.importorskip("numpy")
    assert Reference("numpy", "") in dumps(numpy.arange(3), HERE, "x").met


def test_functions_without_source_travel_to_the_same_version_only():
    namespace: dict[str, Any] = {"__name__": "typed_in"}
    exec("def typed(x): return x + 1", namespace)
    restored = restore(dumps(namespace["typed"], HERE, "an argument").data)
    assert restored(1) == 2
    with pytest.raises(NotPortable, match=r"no source of typed_in\.typed"):
        dumps(namespace["typed"], OTHER, "an argument")


@pytest.mark.parametrize(
    ("name", "is_the_users"),
    [("json", False), ("numpy.linalg", False), ("prefect.tasks", False), (__name__, True)],
)
def test_whose_module_it_is(name, is_the_users):
    __import__(name)
    assert is_user_module(name) is is_the_users


def test_main_and_modules_that_are_not_loaded_are_the_users():
    assert is_user_module("__main__")
    assert is_user_module("__prefect_loader_1234__")


def connected() -> http.client.HTTPConnection:
    """A connection that is open."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        connection = http.client.HTTPConnection(*server.getsockname())
        connection.connect()
    return connection


@pytest.mark.parametrize(
    ("make", "where"),
    [
        (threading.Lock, "_thread.lock"),
        (Path(__file__).open, "_io.TextIOWrapper"),
        (TagsContext, "prefect.context.TagsContext"),
        (lambda: SecretStr("hush"), "pydantic.types.SecretStr"),
        (lambda: SecretBytes(b"hush"), "pydantic.types.SecretBytes"),
        (lambda: Secret[str]("hush"), "pydantic.types.Secret"),
        (lambda: SecretDict({"key": "hush"}), "prefect.types.SecretDict"),
        (lambda: SecretBlock(value="hush"), "pydantic.types.Secret"),
        (lambda: SecretBlock(value="hush").value, "pydantic.types.Secret"),
        (lambda: memoryview(b"abc"), "memoryview"),
        (lambda: sqlite3.connect(":memory:"), "sqlite3.Connection"),
        (lambda: socket.socket(), "socket.socket"),
    ],
)
def test_what_cannot_travel_is_refused(make, where):
    thing = make()
    arguments = {
        r"args\[0\]\['a'\]\[0\]": (({"a": [thing]},), {}),
        r"args\[0\]": ((thing,), {}),
        "a": ((), {"a": thing}),
    }
    for path, value in arguments.items():
        with pytest.raises(NotPortable, match=rf"{path}.*: {where}") as refusal:
            dumps(value, HERE, "an argument of 'fit'")
        assert "cannot be sent to the cluster" in str(refusal.value)
        assert refusal.value.remedy
        assert "hush" not in str(refusal.value)
    if hasattr(thing, "close"):
        thing.close()


def test_an_open_connection_is_named_by_what_is_open_in_it():
    connection = connected()
    with pytest.raises(NotPortable, match=r"args\[0\]\.sock: socket\.socket"):
        dumps(((connection,), {}), HERE, "an argument of 'fit'")
    connection.close()
    # One that is closed is only an address: it is opened where it is used.
    again = restore(dumps(connection, HERE, "an argument").data)
    assert (again.host, again.port, again.sock) == (connection.host, connection.port, None)


def test_the_path_to_what_cannot_travel():
    point: Any = Point(1)
    point.lock = threading.Lock()
    arguments: tuple[Any, ...] = ((0, {"model": point}), {})
    with pytest.raises(NotPortable, match=r"args\[1\]\[.model.\]\.lock: _thread\.lock"):
        dumps(arguments, HERE, "an argument of 'fit'")
    with pytest.raises(NotPortable, match=r": key\[0\]: _thread\.lock"):
        dumps(((), {"key": [point.lock]}), HERE, "an argument of 'fit'")


@pytest.mark.parametrize(
    ("value", "python"),
    [(list[int], (3, 8)), (int | None, (3, 9)), (__import__("zoneinfo").ZoneInfo("UTC"), (3, 6))],
)
def test_types_that_the_far_side_does_not_have_yet(value, python):
    kind = f"{type(value).__module__}.{type(value).__name__}"
    with pytest.raises(NotPortable, match=r"needs Python 3\.\d+, and the cluster has") as refusal:
        dumps([value], python, "an argument")
    assert f"([0]: {kind})." in str(refusal.value)
    assert restore(dumps([value], HERE, "an argument").data) == [value]


def test_old_far_sides_get_a_protocol_that_they_read():
    assert dumps([1], (3, 6), "x").data[1] == 4
    assert dumps([1], (3, 8), "x").data[1] == 5


class Names(set):
    """A set with something of its own."""


class Member:
    """Something that knows the set that it is in."""

    def __init__(self, known: set[Any]) -> None:
        self.known = known


@pytest.mark.parametrize("python", [(3, 6), HERE])
def test_sets_arrive_as_sets(python):
    names: Any = Names(["b", "a", "c"])
    names.title = "names"
    shared = {"x", "y", 3, None, (1, frozenset({2, 3}))}
    value = {
        frozenset({"k", "l"}): names,
        "shared": [shared, shared],
        "mixed": {1, 2.5, "a", b"b", (1, "x"), frozenset({frozenset({1, 2}), frozenset({3, 4})})},
        "empty": [set(), frozenset(), {1}],
    }
    found = restore(dumps(value, python, "an argument").data)
    assert found == value
    assert found["shared"][0] is found["shared"][1]
    names_found = found[frozenset({"k", "l"})]
    assert (type(names_found), names_found.title) == (Names, "names")
    assert {type(part) for part in found["empty"]} == {set, frozenset}
    assert {type(part) for part in found["mixed"]} == {int, float, str, bytes, tuple, frozenset}


@pytest.mark.parametrize("kind", [set, frozenset])
def test_a_set_that_holds_itself(kind):
    known: set[Any] = set()
    known |= {Member(known), Member(known), "plain"}
    outer = kind([Member(known), Member(known)])
    found = restore(dumps([known, outer], HERE, "an argument").data)
    members = [each for each in found[0] if isinstance(each, Member)]
    assert [each.known is found[0] for each in members] == [True, True]
    assert [each.known is found[0] for each in found[1]] == [True, True]

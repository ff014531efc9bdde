"""What is pickled by value, what by reference, and what is refused."""

from __future__ import annotations

import io
import json
import pickle
import sys
import threading
from pathlib import Path

import pytest
from prefect import task
from prefect.context import TagsContext

from clustrix_prefect.errors import NotPortable
from clustrix_prefect.packaging.pickling import dumps, is_user_module, restore

HERE = sys.version_info[:2]


class Refusing(pickle.Unpickler):
    """Opens pickles as a host does that lacks this module and Prefect."""

    def find_class(self, module, name):
        if (module, name) == ("prefect.tasks", "task"):
            return lambda function: function  # as the far side's stand-in has it
        assert not module.startswith(("tests", "prefect", "test_")), f"{module}.{name}"
        return super().find_class(module, name)


def open_elsewhere(data: bytes):
    return Refusing(io.BytesIO(data)).load()


FACTOR = 7


def multiply(x):
    return x * FACTOR


class Point:
    def __init__(self, x):
        self.x = x

    def scaled(self):
        return Point(multiply(self.x))


@task
def as_task(x):
    return multiply(x)


def uses_everything(x):
    return as_task(Point(x).scaled().x), json.dumps(x)


def test_the_users_own_code_travels_by_value():
    function = open_elsewhere(dumps(uses_everything, HERE, "the task"))
    assert function.__globals__ is not globals()
    assert function(3) == (147, "3")


def test_a_task_travels_as_its_function():
    function = open_elsewhere(dumps(as_task, HERE, "the task"))
    assert function(2) == 14


def test_a_class_of_the_user_comes_back_as_itself():
    there = open_elsewhere(dumps(Point(3), HERE, "an argument"))
    assert there.scaled().x == 21
    assert type(restore(dumps(Point(3), HERE, "an argument"))) is Point


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


@pytest.mark.parametrize("make", [threading.Lock, Path(__file__).open, TagsContext])
def test_what_cannot_travel_is_refused(make):
    thing = make()
    with pytest.raises(NotPortable, match="cannot be sent to the cluster") as refusal:
        dumps({"a": [thing]}, HERE, "an argument of 'fit'")
    assert refusal.value.remedy
    if isinstance(thing, io.IOBase):
        thing.close()


def test_old_far_sides_get_a_protocol_that_they_read():
    assert dumps([1], (3, 6), "x")[1] == 4
    assert dumps([1], (3, 8), "x")[1] == 5

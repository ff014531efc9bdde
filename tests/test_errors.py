"""The package's exceptions."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from clustrix_prefect import errors
from clustrix_prefect.errors import ClustrixError, own_copy
from clustrix_prefect.pricing.errors import PricingError

# Providers' errors end no call.
ALL = [
    found
    for _, found in inspect.getmembers(errors, inspect.isclass)
    if issubclass(found, ClustrixError) and not issubclass(found, PricingError)
]


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_a_call_gets_a_copy_that_says_the_same(kind: Any) -> None:
    taken = inspect.signature(kind).parameters
    positional = [
        name for name, each in taken.items() if each.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
    ]
    error = kind(*(f"the {name}" for name in positional))
    error.note = "whatever it has"
    error.__cause__ = ValueError("why")
    made = own_copy(error)
    assert made is not error
    assert type(made) is kind
    assert (str(made), made.args, vars(made)) == (str(error), error.args, vars(error))
    assert made.__cause__ is error.__cause__


def test_an_exception_of_the_users_is_left_as_it_is() -> None:
    class Told(Exception):
        def __init__(self, name: str) -> None:
            super().__init__(f"{name} was told")

    error = Told("she")
    assert own_copy(error) is error

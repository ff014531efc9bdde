"""Tracebacks without the machinery between the lines of whoever wrote the flow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from prefect.utilities.callables import call_with_parameters

from clustrix_prefect.display.tracebacks import is_of_machinery, shortened
from clustrix_prefect.errors import ConfigurationError, NotPortable, RemoteTraceback
from clustrix_prefect.task_resources import Resources


def through_prefect(function: Callable[[], Any]) -> BaseException:
    """What a function raises that Prefect calls."""
    with pytest.raises(Exception) as raised:
        call_with_parameters(function, {})
    return raised.value


def places(text: str) -> list[str]:
    """The functions that a traceback names, in order."""
    return [line.rpartition(" in ")[2] for line in text.splitlines() if line.startswith("  File")]


def test_what_lies_between_the_users_lines_is_left_out() -> None:
    def ask_for_it() -> None:
        Resources.of(memory="8 gigs")

    error = through_prefect(ask_for_it)
    text = shortened(error)
    assert places(text) == ["through_prefect", "ask_for_it"]
    assert text.endswith(str(error))
    assert "pydantic" not in text
    assert is_of_machinery(error)


def test_where_another_exception_was_raised_is_shown() -> None:
    def misuse_prefect() -> None:
        call_with_parameters(3, {})  # type: ignore[arg-type]

    text = shortened(through_prefect(misuse_prefect))
    assert places(text)[:2] == ["through_prefect", "misuse_prefect"]
    assert places(text)[2:] == ["_signature_from_callable"]


def test_the_standard_library_is_shown_where_the_user_calls_it() -> None:
    def read() -> None:
        import json

        json.loads("{")

    assert places(shortened(through_prefect(read)))[-1] == "raw_decode"


def test_a_cause_of_the_users_is_shown_and_one_of_ours_is_not() -> None:
    def pack() -> None:
        try:
            try:
                raise OSError("in the user's __reduce__")
            except OSError as error:
                raise NotPortable("It cannot travel.") from error
        except NotPortable as error:
            raise NotPortable("The variable 'x' cannot travel.", "Pass data.") from error

    text = shortened(through_prefect(pack))
    assert "in the user's __reduce__" in text
    assert "It cannot travel" not in text
    assert "NotPortable: The variable 'x' cannot travel. Pass data." in text


def test_the_remedy_stays_under_an_exception_of_the_users() -> None:
    def give_up() -> None:
        try:
            raise ConfigurationError("No block.", "Save one.")
        except ConfigurationError as error:
            raise RuntimeError("the sweep is off") from error

    assert "Save one." in shortened(through_prefect(give_up))


def test_a_remote_failure_ends_in_the_users_traceback() -> None:
    error = ValueError("seed 7")
    error.__cause__ = RemoteTraceback('  File "fit.py", line 1, in fit\nValueError: seed 7\n')
    assert shortened(error).splitlines() == [
        '  File "fit.py", line 1, in fit',
        "ValueError: seed 7",
    ]


def test_what_has_nothing_to_do_with_us_is_left_as_it_is() -> None:
    with pytest.raises(ZeroDivisionError) as raised:
        print(1 / 0)
    assert not is_of_machinery(raised.value)

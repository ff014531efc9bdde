"""The names by which pickles ask the far side for parts of the user's code.

They exist here so that pickle finds them; `far_side/bundle.py` has what they do there.
"""

from __future__ import annotations

from typing import Any, NoReturn


def _only_far_away() -> NoReturn:
    raise RuntimeError("pickles of a call can only be opened by the far side")


def named(module: str, name: str) -> Any:
    """What a module calls by this name."""
    _only_far_away()


def named_function(module: str, name: str) -> Any:
    """The function of this name; of a task, what it wraps."""
    _only_far_away()


def module(name: str) -> Any:
    """The module of this name."""
    _only_far_away()


def cell() -> Any:
    """A new, empty cell of a closure."""
    _only_far_away()


def inner_function(key: str, closure: tuple[Any, ...], name: str, qualname: str) -> Any:
    """A function that was defined inside another one."""
    _only_far_away()


def fill_function(function: Any, state: dict[str, Any]) -> None:
    """Give an inner function its defaults, attributes and what it closes over."""
    _only_far_away()

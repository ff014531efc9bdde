"""Calls that a site does not take at once: in ever smaller parts, and again when there is room."""

from __future__ import annotations

from typing import Any

import pytest

from clustrix_prefect.dispatch import gathering as module
from clustrix_prefect.dispatch.gathering import Gathering
from clustrix_prefect.task_resources import Resources


class Clock:
    """A clock that is set by hand."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module.time, "monotonic", clock)
    return clock


def gathering() -> Gathering:
    return Gathering("fit", Resources())


def submit_all(calls: int, room: int, per_job: int = 1) -> list[int]:
    """The sizes of the submissions that a site with so much room takes, until one is held back."""
    fit, taken = gathering(), []
    refusals = 0
    while calls:
        part = min(fit.size(1000), calls)
        if part <= room:
            fit.took()
            taken.append(part)
            calls, room = calls - part, room - part
        elif not fit.shrink(part, per_job):
            break
        else:
            refusals += 1
            assert refusals < 50
    return taken


@pytest.mark.parametrize(("calls", "room"), [(100, 20), (40, 29), (1000, 1), (7, 3), (5, 5)])
def test_all_the_room_there_is_is_used(calls: int, room: int) -> None:
    assert sum(submit_all(calls, room)) == min(room, calls)


def test_no_part_is_smaller_than_what_a_job_takes() -> None:
    assert all(part >= 5 for part in submit_all(100, 50, per_job=5))


def test_it_grows_again() -> None:
    fit = gathering()
    assert fit.shrink(100, 1)
    assert fit.size(1000) == 50
    for _ in range(6):
        fit.took()
    assert fit.size(1000) == 1000


def test_what_is_held_back_goes_when_another_call_has_ended(clock: Clock) -> None:
    fit, call = gathering(), Any
    fit.hold_back([call], over=7)  # type: ignore[list-item]  # a call is not looked at
    clock.now += 1.5
    assert not fit.is_due(1, over=7)
    assert fit.is_due(1, over=8)


def test_else_it_goes_ever_later(clock: Clock) -> None:
    fit, call = gathering(), Any
    waits = []
    for _ in range(7):
        fit.hold_back([call], over=7)  # type: ignore[list-item]
        began = clock.now
        while not fit.is_due(1, over=7):
            clock.now += 1
        waits.append(clock.now - began)
        fit.take()
    assert waits == sorted(waits)
    assert waits[0] == pytest.approx(2)
    assert waits[-1] == pytest.approx(60)

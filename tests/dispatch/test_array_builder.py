"""Calls that a site does not take at once: in ever smaller parts, and again when there is room."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from clustrix_prefect.dispatch.call import Attempt, CallState
from clustrix_prefect.dispatch.places import array_builder as module
from clustrix_prefect.dispatch.places.array_builder import ArrayBuilder
from clustrix_prefect.task_resources import Resources


class Clock:
    """A clock that is set by hand."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module.time, "monotonic", clock)  # type: ignore[attr-defined]
    return clock


def builder() -> ArrayBuilder:
    return ArrayBuilder("fit", Resources())


def submit_all(calls: int, room: int, per_job: int = 1) -> list[int]:
    """The sizes of the submissions that a site with so much room takes, until one is held back."""
    fit, taken = builder(), []
    refusals = 0
    while calls:
        part = min(fit.size(1000), calls)
        if part <= room:
            fit.took([])
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
    fit = builder()
    assert fit.shrink(100, 1)
    assert fit.size(1000) == 50
    for _ in range(6):
        fit.took([])
    assert fit.size(1000) == 1000


def test_what_is_held_back_goes_when_another_call_has_ended(clock: Clock) -> None:
    fit, call = builder(), Any
    fit.hold_back([call], over=7)  # type: ignore[list-item]  # a call is not looked at
    clock.now += 1.5
    assert not fit.is_due(1, over=7)
    assert fit.is_due(1, over=8)


def test_else_it_goes_ever_later(clock: Clock) -> None:
    fit, call = builder(), SimpleNamespace(map_index=None)
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


def ended(count: int, seconds: float) -> ArrayBuilder:
    """Calls of a map that took so long."""
    fit = builder()
    for _ in range(count):
        attempt = Attempt(started_at=1.0, ended_at=1.0 + seconds)
        over = SimpleNamespace(state=CallState.DONE, attempt=attempt)
        fit.submitted.append(over)  # type: ignore[arg-type]  # no more of it is looked at
    return fit


@pytest.mark.parametrize(
    ("count", "seconds", "fits"),
    [(1000, 0.1, 50), (1000, 0.0, 62), (160, 0.5, 10), (1000, 2.0, None), (99, 0.1, None)],
)
def test_short_calls_had_better_share_jobs(count: int, seconds: float, fits: int | None) -> None:
    fit = ended(count, seconds)
    assert fit.fitting_calls_per_job() == fits
    assert fit.fitting_calls_per_job() is None, "it is told once"


def test_who_shares_jobs_already_is_told_nothing() -> None:
    fit = ended(1000, 0.1)
    fit.resources = Resources.of(calls_per_job=2)
    assert fit.fitting_calls_per_job() is None

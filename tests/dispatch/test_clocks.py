"""What is known of a node's clock."""

from __future__ import annotations

import time

import pytest

from clustrix_prefect.dispatch.clocks import NodeClocks


@pytest.mark.parametrize("off", [-600.0, 600.0], ids=["behind", "ahead"])
def test_a_clock_that_is_off_is_corrected(off: float) -> None:
    clocks, now = NodeClocks(), time.time()
    clocks.note_start("n1", now - 20 + off, sent_at=now - 30)
    clocks.note_start("n1", now - 1 + off, sent_at=now - 5)
    assert abs(clocks.here("n1", now - 100 + off) - (now - 100)) < 3
    assert clocks.here("n2", now) == now


def test_nothing_that_is_heard_of_is_still_to_come() -> None:
    """A line of a call is no later than the call's end, however well its clock is known."""
    assert NodeClocks().here("n1", time.time() + 1.5) <= time.time()


def test_a_start_that_is_seen_late_is_no_wrong_clock() -> None:
    clocks, now = NodeClocks(), time.time()
    clocks.note_start("n1", now - 300, sent_at=now - 400)
    assert clocks.here("n1", now - 300) == now - 300


def test_when_an_earlier_process_sent_a_call_is_not_known() -> None:
    clocks, now = NodeClocks(), time.time()
    clocks.note_start("n1", now - 300, sent_at=0.0)
    assert clocks.here("n1", now - 300) == now - 300

"""Calls counted by their state, whichever thread changes it."""

from __future__ import annotations

import threading
from collections import Counter
from types import SimpleNamespace
from typing import Any

from clustrix_prefect.dispatch.call import CallState
from clustrix_prefect.dispatch.registry import CallCounts


def test_a_change_that_another_one_overtakes_is_counted_once() -> None:
    counts, call = CallCounts(), SimpleNamespace(state=CallState.QUEUED)
    as_call: Any = call
    counts.add(as_call)
    call.state = CallState.RUNNING  # the thread that changed this is slow to tell
    call.state = CallState.DONE
    counts.follow(as_call)
    counts.follow(as_call)
    assert counts.by_state() == Counter({CallState.DONE: 1})


def test_many_threads_never_count_below_zero() -> None:
    counts = CallCounts()
    calls: list[Any] = [SimpleNamespace(state=CallState.QUEUED) for _ in range(50)]
    for call in calls:
        counts.add(call)
    least = [0]

    def change(order: list[CallState]) -> None:
        for state in order:
            for call in calls:
                call.state = state
                counts.follow(call)
                least.append(min(counts.by_state().values()))

    states = list(CallState)
    threads = [threading.Thread(target=change, args=(states[n:] + states[:n],)) for n in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert min(least) == 0
    assert +counts.by_state() == Counter(call.state for call in calls)

"""The calls of one flow run, and how many of them are in each state."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Collection, Iterable

from clustrix_prefect.dispatch.call import Call, CallState


class CallCounts:
    """Counts calls by their state.

    A call is counted where it was last seen, by whichever thread changed it last: threads that
    change it at the same time never count it twice or leave it out.
    """

    def __init__(self) -> None:
        self._counted: dict[int, CallState] = {}
        self._counts: Counter[CallState] = Counter()
        self._lock = threading.Lock()

    def add(self, call: Call) -> None:
        """Count one call more."""
        with self._lock:
            self._counted[id(call)] = call.state
            self._counts[call.state] += 1

    def follow(self, call: Call) -> None:
        """Count a call in the state that it has now."""
        with self._lock:
            self._counts[self._counted[id(call)]] -= 1
            self._counted[id(call)] = call.state
            self._counts[call.state] += 1

    def by_state(self) -> Counter[CallState]:
        """Return how many calls are in each state."""
        with self._lock:
            return Counter(self._counts)


class CallRegistry:
    """Owns the calls of one flow run.

    Args:
        run_id: The flow run's id, from which calls have their names.
        key: The flow run's signing key.
        requeues: How often a call that the cluster lost is submitted again.

    Attributes:
        calls: All calls, in the order in which they were submitted.
        counts: How many of them are in each state.
    """

    def __init__(self, run_id: str, key: bytes, requeues: int) -> None:
        self.calls: list[Call] = []
        self.counts = CallCounts()
        self._run_id = run_id
        self._key = key
        self._requeues = requeues
        self._by_id: dict[str, Call] = {}
        self._ordinals: Counter[str] = Counter()
        self._over: set[str] = set()
        self._lock = threading.Lock()

    def add(self, call: Call, retry_of: Call | None) -> None:
        """Take in a call that was not there before.

        Args:
            call: The call.
            retry_of: The call of the same task run that failed, if this is its retry.
        """
        with self._lock:
            if retry_of is None:
                equal = call.package.identity(call.task_key)
                call.ordinal = self._ordinals[equal]
                self._ordinals[equal] += 1
            else:
                call.ordinal, call.attempt.number = retry_of.ordinal, retry_of.attempt.number + 1
            self.calls.append(call)
            self.counts.add(call)

    def name(self, call: Call, acknowledged: Collection[str]) -> None:
        """Give a call the id and the key of its attempt; it is found by that id from now on.

        Args:
            call: The call.
            acknowledged: The ids of attempts whose outcomes an earlier process, or flow attempt,
                has had. Their results may still lie there, and are this call's no more than
                another's: it counts on from them.
        """
        self.skip(call, acknowledged)
        call.name_attempt(self._run_id, self._key)
        self._by_id[call.id] = call

    def skip(self, call: Call, acknowledged: Collection[str]) -> None:
        """Count on from the attempts of a call whose outcomes were had."""
        while (
            acknowledged and call.id_of_attempt(self._run_id, call.attempt.number) in acknowledged
        ):
            call.attempt.number += 1

    def ids_of_attempts(self, call: Call) -> Iterable[tuple[int, str]]:
        """Return the attempts that a call may have had before, with the ids of each."""
        for attempt in range(call.attempt.number, call.attempt.number + self._requeues + 1):
            yield attempt, call.id_of_attempt(self._run_id, attempt)

    def find(self, call_id: object) -> Call | None:
        """Return the call that has this id now."""
        return self._by_id.get(call_id) if isinstance(call_id, str) else None

    def forget_attempt(self, call: Call) -> None:
        """Find a call no more by the id that it has now."""
        self._by_id.pop(call.id, None)

    def unfinished(self) -> list[Call]:
        """Return the calls that have been sent and are not over."""
        return [call for call in tuple(self._by_id.values()) if not call.state.is_final]

    def note_over(self, calls: Iterable[Call]) -> None:
        """Note that nothing of these calls is needed any more."""
        self._over.update(call.id for call in calls)

    def is_over(self, call_id: str) -> bool:
        """Return whether nothing of the call with this id is needed any more."""
        return call_id in self._over

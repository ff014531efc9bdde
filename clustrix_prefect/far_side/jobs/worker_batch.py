"""What the calls of warm workers have left in their directory."""

from typing import Any, Dict, Iterable, List, Set

from .batch import BatchDirectory
from .worker_log import WorkerLogs, find

DIRECT = "direct"


class WorkerBatch(BatchDirectory):
    """The directory of all calls that a run's warm workers run; it stays as long as the run.

    It has no manifest, and instead of the calls' files there is a ledger for each worker.
    """

    def states(self, submitted: Iterable[str]) -> Dict[str, str]:
        """Return how far the unacknowledged calls have come: those of which a ledger tells."""
        done = self.done()
        return {id: state for id, state in WorkerLogs(self).states().items() if id not in done}

    def has_trace(self, id: str) -> bool:
        """Return whether a call has started here."""
        return find(self, id, "started") is not None

    def account_of(self, id: str) -> List[Dict[str, Any]]:
        """Return what there is of a call's start and of its result's header."""
        started, result = find(self, id, "started"), find(self, id, "result")
        return [started[0] if started else {}, result[0]["header"] if result else {}]

    def log_name(self, id: str, trace: Dict[str, Any]) -> str:
        """Return the name of the files that a call's output went to, without their ending."""
        return "worker-{}".format(trace.get("pid"))

    def may_go_on(self) -> bool:
        """Return whether a call may be running."""
        return "started" in WorkerLogs(self).states().values()

    def among(self, names: Iterable[str], left: Set[str]) -> List[str]:
        """Return which of these calls may be of this batch: nobody wrote down which are."""
        return list(names)

    def left_at_end(self, left: Set[str]) -> Set[str]:
        """Return the calls that are not done with when their flow run ends."""
        return set(self.states(()))

    def is_over(self, left: Set[str]) -> bool:
        """Return whether nothing can come of it any more: the run may send more calls."""
        return False

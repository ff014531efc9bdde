"""What the calls of a scheduler's job have left in their directory."""

import os
from typing import Any, Dict, Iterable, List, Optional, Set

from ..wire.files import remove
from .batch import BatchDirectory, read_manifest, read_result, read_trace


class JobBatch(BatchDirectory):
    """The directory of an array's calls, each with files of its own; it goes with the last."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self._log_names: Optional[Dict[str, str]] = None

    def states(self, submitted: Iterable[str]) -> Dict[str, str]:
        """Return how far the unacknowledged calls have come, by a fresh look.

        Args:
            submitted: The calls that were submitted.
        """
        for path in (self.results, self.events):
            refresh_listing(path)
        ids = set(submitted) - self.done()
        states = dict.fromkeys(ids, "submitted")
        states.update(dict.fromkeys(present(self.events, ids), "started"))
        states.update(dict.fromkeys(present(self.results, ids), "finished"))
        return states

    def has_trace(self, id: str) -> bool:
        """Return whether a call has started here."""
        return os.path.exists(self.event_file(id))

    def account_of(self, id: str) -> List[Dict[str, Any]]:
        """Return what there is of a call's start and of its result's header."""
        lines, _ = read_trace(self.event_file(id))
        try:
            header, _ = read_result(self.result_file(id))
        except (OSError, ValueError):
            header = {}
        return [lines[0] if lines else {}, header]

    def log_name(self, id: str, trace: Dict[str, Any]) -> str:
        """Return the name of the files that a call's output went to, without their ending."""
        if self._log_names is None:
            # Many are asked for at once, and what was submitted stays as it is.
            self._log_names = {
                call["id"]: str((call.get("context") or {}).get("index") or 0)
                for call in read_manifest(self)
            }
        return self._log_names.get(id, "0")

    def may_go_on(self) -> bool:
        """Return whether a call may be waiting or running."""
        return any(not finished(self, call["id"]) for call in read_manifest(self))

    def among(self, names: Iterable[str], left: Set[str]) -> List[str]:
        """Return which of these calls are of this batch.

        Args:
            names: Calls that are done with.
            left: The batch's calls that were not.
        """
        return sorted(left.intersection(names))

    def left_at_end(self, left: Set[str]) -> Set[str]:
        """Return the calls that are not done with when their flow run ends."""
        return left

    def is_over(self, left: Set[str]) -> bool:
        """Return whether nothing can come of it any more."""
        return not left

    def acknowledge(self, ids: Iterable[str]) -> None:
        """Remove what calls have left, and note that they are done with."""
        names = list(ids)
        super().acknowledge(names)
        for id in names:
            remove(self.event_file(id))


def finished(batch: BatchDirectory, id: str) -> bool:
    """Return whether a call has a result, looked up afresh."""
    refresh_listing(batch.results)
    return os.path.exists(batch.result_file(id))


def refresh_listing(directory: str) -> None:
    """Make NFS ask its server what is in a directory, rather than remember."""
    try:
        os.utime(directory, None)
    except OSError:
        pass


def present(directory: str, ids: Set[str]) -> Set[str]:
    """Return which of these names are in a directory."""
    if not ids:
        return set()
    try:
        return ids.intersection(os.listdir(directory))
    except OSError:
        return set()

"""Which services an item needs, which items share a process, and which of them go first.

A service is started by the process that first runs an item that needs it. Items are therefore put
into groups, each of which one process runs from its beginning to its end: one group for each kind
of cluster, one for each file of the others. Groups that took longest the last time go first, so
that the short ones fill the gaps.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

DURATIONS = Path(__file__).parents[1] / "durations.json"

# The fixtures that start something which needs root, Debian's packages, or a port, each with the
# group of its items. Of several, the first counts: a login node can be had anywhere.
SERVICES = {
    "own_kubernetes": "kubernetes",
    "kubernetes": "kubernetes",
    "gridengine": "gridengine",
    "deployed": "deployed",
    "slurm_pbs": "slurm",
    "slurm": "slurm",
    "slurm_site": "slurm_site",
    "openpbs": "openpbs",
    "pbs_hosts": "openpbs",
    "rooted_host": "ssh",
    "kerberos": "ssh",
    "ssh_host": "ssh",
    "pam_host": "pam",
    "prefect_server": "",  # each process has its own
}
# Fixtures that ask for a service by the value of a parameter, which names it like this.
_SPELLINGS = {
    "sge": "gridengine",
    "ssh": "ssh_host",
    "openssh": "ssh_host",
    "3.6 over SSH": "ssh_host",
    "slurm-pbs": "slurm_pbs",
    "slurm-site": "slurm_site",
}


def services_of(item: pytest.Item) -> set[str]:
    """Return the names of the service fixtures that an item needs."""
    found = set(getattr(item, "fixturenames", ())) & SERVICES.keys()
    callspec = getattr(item, "callspec", None)
    for value in callspec.params.values() if callspec else ():
        if isinstance(value, str):
            name = value.removeprefix("on_").removeprefix("over_")
            name = _SPELLINGS.get(name, name)
            found |= {name} & SERVICES.keys()
    return found


def group_of(item: pytest.Item) -> str:
    """Return the name of the group that an item belongs to."""
    services = services_of(item)
    named = next((group for name, group in SERVICES.items() if name in services and group), None)
    return named or item.nodeid.partition("::")[0]


def arrange(items: list[pytest.Item]) -> None:
    """Mark items with their group and as needing a service, and put the longest groups first."""
    seconds = json.loads(DURATIONS.read_text()) if DURATIONS.exists() else {}
    groups = {item: group_of(item) for item in items}
    for item, group in groups.items():
        item.add_marker(pytest.mark.xdist_group(group))
        if services_of(item):
            item.add_marker(pytest.mark.service)
    items.sort(key=lambda item: -seconds.get(groups[item], 0.0))


class Durations:
    """Adds up how long each group took."""

    def __init__(self) -> None:
        self._seconds: defaultdict[str, float] = defaultdict(float)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add one phase of one item."""
        path, _, rest = report.nodeid.partition("::")
        _, marked, group = rest.rpartition("@")
        name = group if marked and group in {*SERVICES.values(), path} else path
        self._seconds[name] += report.duration

    def save(self) -> None:
        """Write the file that `arrange` reads."""
        rounded = {name: round(seconds, 1) for name, seconds in self._longest_first()}
        DURATIONS.write_text(json.dumps(rounded, indent=1) + "\n")

    def lines(self) -> Iterable[str]:
        """Return the groups that took longest, a line each."""
        return (f"{seconds:8.1f} s {name}" for name, seconds in list(self._longest_first())[:15])

    def _longest_first(self) -> Iterator[tuple[str, float]]:
        yield from sorted(self._seconds.items(), key=lambda pair: -pair[1])

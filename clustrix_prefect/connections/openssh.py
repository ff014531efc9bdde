"""A host reached over the system's OpenSSH: programs started over a control master."""

from __future__ import annotations

from clustrix_prefect.connections.connection import ChannelsOnly, HostFacts
from clustrix_prefect.connections.control_master import ControlMaster


class OpenSSHConnection(ChannelsOnly):
    """A way to a host over a master, which outlives it.

    Args:
        master: The master.
    """

    def __init__(self, master: ControlMaster) -> None:
        super().__init__(master.start, str(master))
        self._master = master

    @property
    def facts(self) -> HostFacts:
        return HostFacts(authenticated_with=f"OpenSSH: {self._master.shown}")


def open_openssh(master: ControlMaster) -> OpenSSHConnection:
    """Connect over a master, which is opened if that needs no person.

    Raises:
        LoginNeeded: It needs a person.
        ConnectionFailed: The host cannot be reached.
        ConfigurationError: There is no `ssh`, or its configuration does not do.
    """
    master.ensure()
    return OpenSSHConnection(master)

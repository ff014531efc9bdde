"""This machine, reached as if it were another one."""

from __future__ import annotations

import os

from clustrix_prefect.connections.connection import ChannelsOnly
from clustrix_prefect.connections.program import ProgramChannel
from clustrix_prefect.credentials.env_filter import without_secrets


class LocalChannel(ProgramChannel):
    """A command line on this machine.

    Variables of the flow's environment that hold secrets stay with the flow.
    """

    def __init__(self, command: str) -> None:
        super().__init__(["/bin/sh", "-c", command], without_secrets(os.environ))


class LocalConnection(ChannelsOnly):
    """Runs programs on this machine."""

    def __init__(self) -> None:
        super().__init__(LocalChannel, "this machine")

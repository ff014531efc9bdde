"""A flow in a process of its own, as `python flow.py` is."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from uuid import UUID

from clustrix_prefect.clusters.cluster import ClusterBlock

# What such a flow prints first.
ANNOUNCED = "The flow run's id is "


class FlowProcess:
    """A module of this package that is run with the name of a block and further arguments.

    Attributes:
        process: The process.
    """

    def __init__(
        self,
        module: ModuleType,
        cluster: ClusterBlock,
        log: Path,
        *arguments: object,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        name = f"{type(cluster).__name__.lower()}-{os.getpid()}"
        cluster.model_copy().save(name, overwrite=True)
        block = f"{cluster.get_block_type_slug()}/{name}"
        self._log = log
        with log.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", module.__name__, block, *map(str, arguments)],
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
            )

    @property
    def flow_run_id(self) -> UUID:
        """Its flow run, once it has begun."""
        return UUID(self.wait_for(ANNOUNCED).partition(ANNOUNCED)[2].split()[0])

    @property
    def output(self) -> str:
        """What it wrote so far."""
        return self._log.read_text()

    def wait_for(self, text: str, times: int = 1, within: float = 90.0) -> str:
        """Its output, once it has written a text so many times."""
        deadline = time.monotonic() + within
        while self.output.count(text) < times:
            assert self.process.poll() is None, self.output
            assert time.monotonic() < deadline, self.output
            time.sleep(0.05)
        return self.output

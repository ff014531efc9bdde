"""A Prefect server in a process of its own, with a database of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

from tests.live.daemon import Daemon, free_port
from tests.live.kubernetes.build import CACHE

_LEFT_OUT = (
    "PREFECT_SERVER_UI_ENABLED",
    "PREFECT_API_BLOCKS_REGISTER_ON_START",
    *(
        f"PREFECT_SERVER_SERVICES_{name}_ENABLED"
        for name in ("FOREMAN", "LATE_RUNS", "SCHEDULER", "TRIGGERS")
    ),
)


class PrefectServer:
    """A Prefect server that belongs to the test run.

    It is a separate process because throughput is measured against it, and because the flows
    of some tests run in processes of their own too.

    Args:
        directory: For its database and its log.
        whole: Whether it is as in production: serves pages, registers block types, plans runs
            and reacts to events. That takes it a third more time for each flow run.

    Attributes:
        api_url: What PREFECT_API_URL has to be.
        database: SQLite's file.
    """

    def __init__(self, directory: Path, *, whole: bool = False) -> None:
        port = free_port()
        self._directory = directory
        self.database = directory / "prefect.db"
        prefect = [sys.executable, "-m", "prefect"]
        self.api_url = f"http://127.0.0.1:{port}/api"
        self._daemon = Daemon(
            [*prefect, "server", "start", "--host", "127.0.0.1", "--port", str(port)],
            log=directory / "server.log",
            environment={
                **{k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")},
                "PREFECT_HOME": str(directory),
                "PREFECT_API_URL": self.api_url,
                "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
                **({} if whole else dict.fromkeys(_LEFT_OUT, "false")),
                "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
                "DO_NOT_TRACK": "1",
            },
            ready=self._is_healthy,
            patience=300,
        )

    def start(self) -> None:
        """Start the server, with the tables of an empty database, and wait until it answers."""
        if not self.database.exists():
            shutil.copyfile(empty_database(), self.database)
        self._daemon.start()

    def stop(self) -> None:
        """End the server."""
        self._daemon.stop()

    def __str__(self) -> str:
        import prefect

        return f"Prefect server {prefect.__version__} at {self.api_url}"

    def _is_healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.api_url}/health", timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False


def empty_database() -> Path:
    """Return a database with Prefect's tables and nothing in them, kept in the user's cache.

    Making them takes longer than everything else that a new server does.
    """
    import prefect

    kept = CACHE / f"prefect-{prefect.__version__}.db"
    if not kept.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE, prefix="prefect-") as scratch:
            variables = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")}
            subprocess.run(
                [sys.executable, "-m", "prefect", "server", "database", "upgrade", "-y"],
                env={**variables, "PREFECT_HOME": scratch},
                capture_output=True,
                check=True,
            )
            made = Path(scratch) / "made.db"
            with contextlib.closing(sqlite3.connect(Path(scratch) / "prefect.db")) as written:
                written.execute("VACUUM INTO ?", (str(made),))  # with what is in its log still
            made.rename(kept)
    return kept

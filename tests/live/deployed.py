"""The shipped deployments on a Prefect server of their own, with a worker and the UI."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.live.daemon import Daemon
from tests.live.prefect_server import PrefectServer

ROOT = Path(__file__).parents[2]


class Deployed:
    """A fresh Prefect server, a work pool, every deployment, and a worker.

    Args:
        directory: For their files.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._server = PrefectServer(directory, whole=True)
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")},
            "PREFECT_HOME": str(directory),
            "PREFECT_API_URL": self._server.api_url,
            "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
            "PREFECT_LOGGING_TO_API_BATCH_INTERVAL": "0.2",
            "PREFECT_WORKER_QUERY_SECONDS": "1",
            "DO_NOT_TRACK": "1",
        }
        self._worker = Daemon(
            [sys.executable, "-m", "prefect", "worker", "start", "--pool", "validation"],
            log=directory / "worker.log",
            environment=self.environment,
            ready=self._is_working,
            patience=120,
        )
        self.deploying: subprocess.CompletedProcess[str] | None = None

    @property
    def api_url(self) -> str:
        """The server's API."""
        return self._server.api_url

    @property
    def ui_url(self) -> str:
        """The server's pages."""
        return self.api_url.removesuffix("/api")

    def start(self) -> None:
        """Do what the guide on deployments says."""
        self._server.start()
        self.prefect("work-pool", "create", "validation", "--type", "process").check_returncode()
        self.deploying = self.prefect("--no-prompt", "deploy", "--all")
        self._worker.start()

    def stop(self) -> None:
        """End worker and server."""
        self._worker.stop()
        self._server.stop()

    def prefect(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run Prefect's command line in the checkout."""
        return self.run("-m", "prefect", *arguments)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run Python in the checkout, against this server."""
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=300,
        )

    def __str__(self) -> str:
        return f"Prefect server with the shipped deployments at {self.ui_url}"

    def _is_working(self) -> bool:
        log = self._directory / "worker.log"
        return log.exists() and "started!" in log.read_text()


class Served:
    """The same deployments, served by deployments/serve.py to a Prefect server of their own.

    Args:
        directory: For their files.
    """

    def __init__(self, directory: Path) -> None:
        log = directory / "serve.log"
        self._server = PrefectServer(directory)
        self.api_url = self._server.api_url
        self._serving = Daemon(
            [sys.executable, str(ROOT / "deployments" / "serve.py")],
            log=log,
            environment={
                **{k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")},
                "PREFECT_HOME": str(directory),
                "PREFECT_API_URL": self.api_url,
                "PREFECT_RUNNER_POLL_FREQUENCY": "1",
                "DO_NOT_TRACK": "1",
            },
            ready=lambda: log.exists() and "polling" in log.read_text(),
            patience=60,
        )

    def start(self) -> None:
        """Start the server, and serve."""
        self._server.start()
        self._serving.start()

    def stop(self) -> None:
        """End both."""
        self._serving.stop()
        self._server.stop()

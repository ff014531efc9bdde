"""The services and clusters that everything is measured on."""

from __future__ import annotations

import os
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from tests.live.prefect_server import PrefectServer
from tests.live.pythons import FarPythons, find_pythons, with_numpy
from tests.live.rundir import RunDirectory
from tests.live.slurm import Slurm, conf_of
from tests.live.ssh_host import SSHHost

if TYPE_CHECKING:
    from tests.live.kubernetes.cluster import OwnKubernetes

_SLURM_COMMANDS = ("sbatch", "squeue", "scontrol", "scancel", "sinfo", "sacctmgr")
_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
_SETTLE_SECONDS = 2.0


class Lab:
    """A Prefect server, an SSH host, SLURM and Kubernetes, each started when first used.

    A context manager; at its end nothing is left of them.
    """

    def __init__(self) -> None:
        self._run = RunDirectory()
        self._exit = ExitStack()
        self._exit.callback(self._run.remove)
        self._started: dict[str, Any] = {}
        self._commands = self._run.child("commands")
        self.log = self._run.path / "flows.log"
        self._leave_developers_settings_alone()

    def __enter__(self) -> Lab:
        return self

    def __exit__(self, *error: object) -> None:
        self._exit.close()

    def _leave_developers_settings_alone(self) -> None:
        for name in [name for name in os.environ if name.startswith("PREFECT_")]:
            del os.environ[name]
        os.environ.update(
            PREFECT_HOME=str(self._run.child("prefect-home")),
            PREFECT_SERVER_ANALYTICS_ENABLED="false",
            DO_NOT_TRACK="1",
        )

    def _service(self, name: str, make: Any) -> Any:
        if name not in self._started:
            service = self._started[name] = make()
            self._exit.callback(service.stop)
            service.start()
            print(f"started {service}", file=sys.stderr, flush=True)
        return self._started[name]

    # --- services ---------------------------------------------------------------------------

    @property
    def prefect(self) -> PrefectServer:
        """The server; flows in new processes report to it."""
        server = self._service(
            "prefect", lambda: PrefectServer(self._run.child("prefect"), whole=True)
        )
        os.environ["PREFECT_API_URL"] = server.api_url
        return server

    @property
    def ssh(self) -> SSHHost:
        """The host; its account's SLURM commands are counted."""
        return self._service("ssh", self._make_ssh)

    def _make_ssh(self) -> SSHHost:
        counted = self._run.child("bin")
        self._commands.chmod(0o777)
        for command in _SLURM_COMMANDS:
            wrapper = counted / command
            # An empty file a call: several can be made at once.
            wrapper.write_text(
                f'#!/bin/sh\n: > {self._commands}/{command}.$$\nexec /usr/bin/{command} "$@"\n'
            )
            wrapper.chmod(0o755)
        environment = {"SLURM_CONF": str(conf_of(self._run)), "PATH": f"{counted}:{_PATH}"}
        return SSHHost(self._run, environment)

    @property
    def slurm(self) -> Slurm:
        """SLURM, submitted to from this machine (as root) or by the account of `ssh`."""
        self.ssh  # noqa: B018 (the account comes first)
        slurm = self._service("slurm", lambda: Slurm(self._run))
        os.environ.update(slurm.environment)
        return slurm

    @property
    def kubernetes(self) -> OwnKubernetes:
        """A control plane and one node."""
        # Measured processes import this file, and their memory counts: that library is large.
        from tests.live.kubernetes.cluster import OwnKubernetes

        return self._service("kubernetes", lambda: OwnKubernetes(self._run))

    @property
    def far_python(self) -> str:
        """An interpreter of this version that the account can run."""
        minor = ".".join(map(str, sys.version_info[:2]))
        return self._far_pythons[minor]

    @property
    def far_python_with_numpy(self) -> str:
        """The same with numpy."""
        minor = ".".join(map(str, sys.version_info[:2]))
        return with_numpy(self.far_python, minor, self._run.path)

    @property
    def _far_pythons(self) -> FarPythons:
        return FarPythons(find_pythons(), self._run)

    def directory(self, name: str) -> Path:
        """A directory that jobs of any account can write to."""
        path = self._run.child(name)
        path.chmod(0o777)
        return path

    # --- clusters ---------------------------------------------------------------------------

    def local_cluster(self) -> Any:
        from clustrix_prefect import LocalCluster

        return LocalCluster(remote_work_dir=str(self._run.child("local")))

    def ssh_cluster(self, **fields: Any) -> Any:
        from clustrix_prefect import SSHCluster

        return SSHCluster(**{**self._account(), **fields})

    def slurm_cluster(self) -> Any:
        from clustrix_prefect import SlurmCluster

        self.slurm  # noqa: B018
        return SlurmCluster(**self._account(), default_resources={"cores": 1, "memory": "256MB"})

    def kubernetes_cluster(self) -> Any:
        from tests.live.clusters import kubernetes_cluster

        namespace = self._exit.enter_context(self.kubernetes.namespace())
        return kubernetes_cluster(self.kubernetes, namespace, self._far_pythons, max_pods=8)

    def _account(self) -> dict[str, Any]:
        from clustrix_prefect import SSHCredentials

        host = self.ssh
        return {
            "host": host.host,
            "port": host.port,
            "credentials": SSHCredentials(username=host.username, key_file=str(host.key_file)),
            "known_hosts": str(host.known_hosts),
            "remote_work_dir": str(host.home / "bench"),
            "python": self.far_python,
        }

    # --- what they saw ------------------------------------------------------------------------

    def scheduler_commands(self) -> dict[str, int]:
        """How often each SLURM command was run by the account so far."""
        names = [path.name.partition(".")[0] for path in self._commands.iterdir()]
        return {name: names.count(name) for name in sorted(set(names))}

    def ssh_logins(self) -> int:
        """How many connections were logged in so far."""
        log = (self._run.child("ssh-test") / "sshd.log").read_text(errors="replace")
        return log.count("Accepted publickey")

    def settle(self, flow_run_id: UUID, task_runs: int, patience: float = 120.0) -> TaskRunCounts:
        """Wait until the server has taken in a flow run, so that the next starts at rest.

        Returns:
            What the API shows of it: all task runs in a final state, unless some never got there.
        """
        deadline = time.monotonic() + patience
        while (counts := TaskRunCounts.of(flow_run_id)).final < task_runs:
            if time.monotonic() > deadline:
                break
            time.sleep(0.5)
        time.sleep(_SETTLE_SECONDS)
        return counts


class TaskRunCounts:
    """How many task runs of a flow run the API shows, and how many in a final state."""

    def __init__(self, shown: int, final: int) -> None:
        self.shown = shown
        self.final = final

    @classmethod
    def of(cls, flow_run_id: UUID) -> TaskRunCounts:
        import httpx

        of_run = {"flow_run_id": {"any_": [str(flow_run_id)]}}
        ended = {"state": {"type": {"any_": ["COMPLETED", "FAILED", "CANCELLED", "CRASHED"]}}}
        shown, final = (
            httpx.post(
                f"{os.environ['PREFECT_API_URL']}/task_runs/count",
                json={"task_runs": task_runs},
                timeout=60,
            ).json()
            for task_runs in (of_run, {**of_run, **ended})
        )
        return cls(shown, final)

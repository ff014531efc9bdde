"""A SLURM cluster of one node on this machine."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from tests.live.daemon import Daemon, ServiceUnavailable, free_port
from tests.live.rundir import RunDirectory

_PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol", "scancel", "sinfo")
_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"

PARTITION = "debug"
URGENT_PARTITION = "urgent"
CORES = 64


class Slurm:
    """munged, slurmctld and slurmd with their own ports, key and directories.

    The node claims 64 cores and 20 GB whatever the machine has. There is no accounting, as at
    many sites. Memory limits are enforced, jobs in `urgent` preempt those in `debug`, and a job
    array has at most 1,001 elements, so that larger ones must be split.

    Attributes:
        conf: The slurm.conf; SLURM_CONF must name it.
        node: The node's name.
    """

    def __init__(self, run: RunDirectory) -> None:
        self._directory = run.child("slurm")
        self.conf = conf_of(run)
        self.node = socket.gethostname().partition(".")[0]
        self._munge_socket = run.child("munge") / "socket"
        self._settings: dict[str, str] = {}
        munge = self._munge_socket.parent
        self._munged = self._daemon(
            "munged",
            *("--foreground", "--force", "--num-threads=4"),
            f"--socket={self._munge_socket}",
            f"--key-file={munge / 'key'}",
            f"--pid-file={munge / 'pid'}",
            f"--log-file={munge / 'munged.log'}",
            f"--seed-file={munge / 'seed'}",
        )
        self.controller = self._daemon("slurmctld", "-D")
        self.node_daemon = self._daemon("slurmd", "-D")

    # --- starting and ending --------------------------------------------------------------

    def start(self) -> None:
        """Start the cluster and wait until its node takes jobs.

        Raises:
            ServiceUnavailable: Not root, a program is missing, or a daemon does not start.
        """
        if os.geteuid() != 0:
            raise ServiceUnavailable("a SLURM cluster that runs jobs of an account needs root")
        missing = [name for name in _PROGRAMS if not shutil.which(name, path=_PATH)]
        if missing:
            raise ServiceUnavailable(f"not installed: {', '.join(missing)}")
        key = self._munge_socket.parent / "key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o400)
        self._configure(
            {"SlurmctldPort": str(free_port()), "SlurmdPort": str(free_port())},
        )
        self._munged.start()
        self.controller.start()
        self.node_daemon.start()
        self._wait_for_node()

    def stop(self) -> None:
        """Cancel every job and end the daemons."""
        if self.controller.pid:
            self.cancel_all_jobs()
        for daemon in (self.node_daemon, self.controller, self._munged):
            daemon.stop()

    def __str__(self) -> str:
        version = self._output("sinfo", "--version").replace("-wlm", "")
        return f"{version} (slurmctld, slurmd, munged), partitions {PARTITION}, {URGENT_PARTITION}"

    # --- using it ---------------------------------------------------------------------------

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to use this cluster from this machine."""
        return {"SLURM_CONF": str(self.conf)}

    def command(self, *command: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a SLURM command as root."""
        return subprocess.run(
            command,
            env={"PATH": _PATH, **self.environment},
            capture_output=True,
            text=True,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
        )

    def queue(self) -> list[str]:
        """The ids of all jobs and array elements that are not finished."""
        return self._output("squeue", "--noheader", "--array", "--format=%i").split()

    def cancel_all_jobs(self, patience: float = 60.0) -> None:
        """Cancel everything in the queue and wait until nothing is left there."""
        deadline = time.monotonic() + patience
        while self.queue() and time.monotonic() < deadline:
            jobs = {job.partition("_")[0] for job in self.queue()}
            self.command("scancel", *sorted(jobs))
            time.sleep(0.2)

    def node_state(self) -> str:
        """What sinfo calls the node: idle, mixed, down and so on."""
        return self._output("sinfo", "--noheader", f"--partition={PARTITION}", "--format=%T")

    def is_idle(self) -> bool:
        """Whether the node takes jobs and has none."""
        return self.node_state() == "idle"

    # --- trouble ----------------------------------------------------------------------------

    @contextlib.contextmanager
    def node_down(self) -> Iterator[None]:
        """Declare the node dead for a while; its jobs end as NODE_FAIL."""
        self._scontrol("update", f"nodename={self.node}", "state=down", "reason=test")
        try:
            yield
        finally:
            # Refused if the node registered again by itself meanwhile, which is as good.
            self.command("scontrol", "update", f"nodename={self.node}", "state=resume")
            self._wait_for_node()

    @contextlib.contextmanager
    def without_controller(self) -> Iterator[None]:
        """Let the controller be gone for a while; commands soon give it up."""
        with self.configured(MessageTimeout="2"):
            self.controller.stop()
            try:
                yield
            finally:
                self.controller.start()

    def forget_everything(self) -> None:
        """Let the controller lose its state, and with it every job."""
        self.controller.stop()
        shutil.rmtree(self._directory / "state")
        (self._directory / "state").mkdir()
        self.controller.start()
        self._wait_for_node()

    @contextlib.contextmanager
    def configured(self, **settings: str) -> Iterator[None]:
        """Change lines of slurm.conf for a while, for instance `MinJobAge="2"`."""
        before = dict(self._settings)
        self._configure({**before, **settings})
        self._scontrol("reconfigure")
        try:
            yield
        finally:
            self._configure(before)
            self._scontrol("reconfigure")

    # --- making it ----------------------------------------------------------------------------

    def _daemon(self, program: str, *options: str) -> Daemon:
        ready = {
            "munged": self._munge_socket.exists,
            "slurmctld": lambda: self.command("scontrol", "ping").returncode == 0,
            "slurmd": lambda: self.node_state() != "unknown",
        }[program]
        return Daemon(
            [shutil.which(program, path=_PATH) or program, *options],
            log=self._directory / f"{program}.out",
            environment={"PATH": _PATH, "SLURM_CONF": str(self.conf)},
            ready=ready,
        )

    def _configure(self, settings: dict[str, str]) -> None:
        self._settings = settings
        lines = {
            "ClusterName": "test",
            "SlurmctldHost": f"{self.node}(127.0.0.1)",
            "AuthType": "auth/munge",
            "AuthInfo": f"socket={self._munge_socket}",
            "CryptoType": "crypto/munge",
            "MpiDefault": "none",
            "ProctrackType": "proctrack/linuxproc",
            "ReturnToService": "2",
            "SlurmUser": "root",
            "SlurmctldPidFile": f"{self._directory}/slurmctld.pid",
            "SlurmctldLogFile": f"{self._directory}/slurmctld.log",
            "SlurmdPidFile": f"{self._directory}/slurmd.pid",
            "SlurmdLogFile": f"{self._directory}/slurmd.log",
            "SlurmdSpoolDir": f"{self._directory}/spool",
            "StateSaveLocation": f"{self._directory}/state",
            "SwitchType": "switch/none",
            "TaskPlugin": "task/none",
            "SchedulerType": "sched/backfill",
            "SchedulerParameters": "batch_sched_delay=0,sched_min_interval=10000,sched_interval=1"
            ",bf_interval=1,default_queue_depth=2000,partition_job_depth=2000",
            "SelectType": "select/cons_tres",
            "SelectTypeParameters": "CR_Core_Memory",
            "DefMemPerCPU": "256",
            "AccountingStorageType": "accounting_storage/none",
            "JobCompType": "jobcomp/none",
            "JobAcctGatherType": "jobacct_gather/linux",
            "JobAcctGatherFrequency": "task=1",
            "JobAcctGatherParams": "OverMemoryKill",
            "PreemptType": "preempt/partition_prio",
            "PreemptMode": "REQUEUE",
            "MaxArraySize": "1001",
            "MaxJobCount": "50000",
            "SlurmdParameters": "config_overrides",
            **settings,
        }
        text = "".join(f"{name}={value}\n" for name, value in lines.items())
        text += (
            f"NodeName={self.node} NodeAddr=127.0.0.1 CPUs={CORES} RealMemory=20000 State=UNKNOWN\n"
            f"PartitionName={PARTITION} Nodes={self.node} Default=YES PriorityTier=1\n"
            f"PartitionName={URGENT_PARTITION} Nodes={self.node} PriorityTier=10 PreemptMode=OFF\n"
        )
        self.conf.write_text(text)
        # Newer ones want a file system of control groups, if not told otherwise in a word that
        # older ones do not know.
        if _release() >= (23, 11):
            self.conf.with_name("cgroup.conf").write_text("CgroupPlugin=disabled\n")

    def _wait_for_node(self) -> None:
        deadline = time.monotonic() + 60
        while self.node_state() not in ("idle", "mixed", "allocated", "completing"):
            if time.monotonic() > deadline:
                raise ServiceUnavailable(f"node {self.node} is {self.node_state() or 'unknown'}")
            time.sleep(0.1)

    def _scontrol(self, *arguments: str) -> None:
        done = self.command("scontrol", *arguments)
        if done.returncode:
            raise ServiceUnavailable(f"scontrol {' '.join(arguments)}: {done.stderr.strip()}")

    def _output(self, *command: str) -> str:
        return self.command(*command).stdout.strip()


def _release() -> tuple[int, ...]:
    """Return the release of SLURM on this machine, as (22, 5)."""
    said = subprocess.run(["slurmd", "-V"], capture_output=True, text=True, env={"PATH": _PATH})
    return tuple(int(part) for part in said.stdout.split()[-1].split(".")[:2])


def conf_of(run: RunDirectory) -> Path:
    """Where a run's slurm.conf is, or would be: logins name it before the cluster starts."""
    return run.child("slurm") / "slurm.conf"

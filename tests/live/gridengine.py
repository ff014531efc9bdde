"""A Grid Engine of one host on this machine."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from tests.live.daemon import Daemon, ServiceUnavailable, free_port
from tests.live.rundir import RunDirectory

# Debian's: the programs, and what the package would make a site of.
_PROGRAMS = Path("/usr/lib/gridengine")
_PACKAGED_ROOT = Path("/var/lib/gridengine")
_SHARE = Path("/usr/share/gridengine")

QUEUE = "all.q"
PARALLEL_ENVIRONMENT = "smp"
SLOTS = 64

_ACCOUNTING_AT_ONCE = (
    "accounting=true reporting=false flush_time=00:00:01 accounting_flush_time=00:00:00"
    " joblog=false sharelog=00:00:00"
)
# As it is installed, but for 25 s instead of 15: too long for anybody who does not know of it.
_ACCOUNTING_SELDOM = (
    "accounting=true reporting=false flush_time=00:00:25 joblog=false sharelog=00:00:00"
)


class GridEngine:
    """sge_qmaster and sge_execd with their own ports, spool and directories.

    The host claims 64 slots whatever the machine has. Queues start their shells as Debian and
    most sites have them do: `-S` decides, not the script's first line. There is accounting,
    written at once.

    Attributes:
        root: The SGE_ROOT.
    """

    def __init__(self, run: RunDirectory) -> None:
        self._run = run
        self._directory = run.child("gridengine")
        self.root = self._directory / "root"
        self.master = self._daemon("sge_qmaster", ["qconf", "-sh"], "localhost")
        self.execution = self._daemon("sge_execd", ["qconf", "-sel"], "localhost")

    # --- starting and ending --------------------------------------------------------------

    def start(self) -> None:
        """Make a site and start it.

        Raises:
            ServiceUnavailable: Not root, a program is missing, or a daemon does not start.
        """
        if os.geteuid() != 0:
            raise ServiceUnavailable("a Grid Engine that runs jobs of an account needs root")
        missing = [name for name in ("sge_qmaster", "sge_execd") if not (_PROGRAMS / name).exists()]
        if missing:
            raise ServiceUnavailable(f"not installed: {', '.join(missing)} (gridengine-master)")
        self._make_site()
        self.master.start()
        self._qconf("-as", "localhost")
        self.execution.start()
        self._make_queue()

    def stop(self) -> None:
        """Delete every job and end the daemons."""
        if self.master.pid:
            self.cancel_all_jobs()
        for daemon in (self.execution, self.master):
            daemon.stop()

    def __str__(self) -> str:
        version = self.command("qstat", "-help").stdout.partition("\n")[0]
        return f"{version} (sge_qmaster, sge_execd), queue {QUEUE} of {SLOTS} slots"

    # --- using it ---------------------------------------------------------------------------

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to use this site from this machine."""
        return environment_of(self._run)

    def command(self, *command: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a Grid Engine command as root, who manages the site."""
        return subprocess.run(
            command,
            env={"PATH": f"{_PROGRAMS}:/usr/bin:/bin", **self.environment},
            capture_output=True,
            text=True,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
        )

    def queue(self) -> list[str]:
        """A line for each job, running task and group of waiting tasks."""
        return self.command("qstat", "-u", "*").stdout.splitlines()[2:]

    def cancel_all_jobs(self, patience: float = 60.0) -> None:
        """Delete everything in the queue and wait until nothing is left there."""
        deadline = time.monotonic() + patience
        while self.queue() and time.monotonic() < deadline:
            self.command("qdel", "-u", "*")
            time.sleep(0.3)

    def set_slots(self, slots: int) -> None:
        """Let so many slots run at once."""
        self._qconf("-mattr", "queue", "slots", str(slots), QUEUE)

    @contextlib.contextmanager
    def slow_accounting(self) -> Iterator[None]:
        """Have the accounting written from time to time only."""
        self._set_accounting(_ACCOUNTING_SELDOM)
        try:
            yield
        finally:
            self._set_accounting(_ACCOUNTING_AT_ONCE)

    def _set_accounting(self, parameters: str) -> None:
        # Long values go on in the next line.
        configuration = self._qconf("-sconf").replace("\\\n", " ")
        changed = _changed(configuration, reporting_params=parameters)
        self._qconf("-Mconf", self._file("global", changed))

    # --- making it ----------------------------------------------------------------------------

    def _daemon(self, program: str, ready: list[str], expected: str) -> Daemon:
        return Daemon(
            [str(_PROGRAMS / program)],
            log=self._directory / f"{program}.out",
            # SGE_ND keeps it in the foreground.
            environment={"PATH": "/usr/bin:/bin", "SGE_ND": "1", **self.environment},
            ready=lambda: expected in self.command(*ready).stdout.split(),
        )

    def _make_site(self) -> None:
        common = self.root / "default" / "common"
        spool = self.root / "spool"
        for path in (common, spool / "qmaster" / "job_scripts", spool / "db", spool / "execd"):
            path.mkdir(parents=True)
        for name in ("bin", "lib", "util", "utilbin"):
            (self.root / name).symlink_to(_PACKAGED_ROOT / name)
        (common / "act_qmaster").write_text("localhost\n")
        (common / "host_aliases").write_text(f"localhost {socket.gethostname()}\n")
        (common / "bootstrap").write_text(
            "admin_user none\ndefault_domain none\nignore_fqdn false\n"
            "spooling_method berkeleydb\nspooling_lib libspoolb\n"
            f"spooling_params {spool}/db\nbinary_path {_PROGRAMS}\n"
            f"qmaster_spool_dir {spool}/qmaster\nsecurity_mode none\n"
            "listener_threads 2\nworker_threads 2\nscheduler_threads 1\n"
        )
        # Processes of a job are known by a group of its own: no two sites may share a range.
        first_group = 200_000 + os.getpid() % 20_000 * 1000
        configuration = _changed(
            (_SHARE / "default-configuration").read_text(),
            execd_spool_dir=f"{spool}/execd",
            gid_range=f"{first_group}-{first_group + 999}",
            reporting_params=_ACCOUNTING_AT_ONCE,
        )
        self._make("spoolinit", "berkeleydb", "libspoolb", f"{spool}/db", "init")
        self._make("spooldefaults", "configuration", self._file("configuration", configuration))
        self._make("spooldefaults", "complexes", f"{_SHARE}/util/resources/centry")
        self._make("spooldefaults", "usersets", f"{_SHARE}/util/resources/usersets")
        self._make("spooldefaults", "managers", "root")

    def _make_queue(self) -> None:
        environment = (
            f"pe_name {PARALLEL_ENVIRONMENT}\nslots 999\nuser_lists NONE\nxuser_lists NONE\n"
            "start_proc_args NONE\nstop_proc_args NONE\nallocation_rule $pe_slots\n"
            "control_slaves FALSE\njob_is_first_task TRUE\nurgency_slots min\n"
            "accounting_summary FALSE\nqsort_args NONE\n"
        )
        queue = _changed(
            self._qconf("-sq"),
            qname=QUEUE,
            hostlist="localhost",
            slots=str(SLOTS),
            pe_list=PARALLEL_ENVIRONMENT,
            load_thresholds="NONE",
        )
        scheduler = _changed(
            self._qconf("-ssconf"),
            schedule_interval="0:0:1",
            flush_submit_sec="1",
            flush_finish_sec="1",
            job_load_adjustments="NONE",
        )
        self._qconf("-Ap", self._file("pe", environment))
        self._qconf("-Aq", self._file("queue", queue))
        self._qconf("-Msconf", self._file("scheduler", scheduler))

    def _file(self, name: str, text: str) -> str:
        path = self._directory / name
        path.write_text(text)
        return str(path)

    def _qconf(self, *arguments: str) -> str:
        return self._make("qconf", *arguments)

    def _make(self, *command: str) -> str:
        done = self.command(*command)
        if done.returncode:
            raise ServiceUnavailable(f"{' '.join(command)}: {done.stderr or done.stdout}")
        return done.stdout


def _changed(text: str, **settings: str) -> str:
    """A configuration with these of its lines changed."""
    lines = []
    for line in text.splitlines():
        name = line.split(maxsplit=1)[0] if line.strip() else ""
        lines.append(f"{name} {settings[name]}" if name in settings else line)
    return "\n".join(lines) + "\n"


def environment_of(run: RunDirectory) -> dict[str, str]:
    """What a run's Grid Engine is found by, or would be: logins name it before it starts."""
    ports = run.child("gridengine") / "ports"
    if not ports.exists():
        ports.write_text(f"{free_port()} {free_port()}")
    master, execution = ports.read_text().split()
    return {
        "SGE_ROOT": str(ports.parent / "root"),
        "SGE_CELL": "default",
        "SGE_QMASTER_PORT": master,
        "SGE_EXECD_PORT": execution,
    }

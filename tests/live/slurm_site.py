"""A second SLURM site: Debian 13's release with accounting, limits, three nodes and its own login.

It lives in a root of its own, made from packages once and kept in the user's cache directory; each
run lays a file system in memory over it. Its processes have namespaces of their own but for the
network.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from tests.live.daemon import ServiceUnavailable, free_port, wait_until
from tests.live.debian13 import RELEASE, make_root
from tests.live.kubernetes.build import CACHE
from tests.live.rundir import RunDirectory

_PACKAGES = (
    "openssh-server slurmctld slurmd slurm-client slurmdbd munge mariadb-server python3 procps"
)
ACCOUNT, UID = "far13", 7013

# Limits on how much may be submitted: by a QOS, and by an account that is not the default.
SMALL_QOS, SMALL_QOS_JOBS = "small", 5
TIGHT_ACCOUNT, TIGHT_ACCOUNT_JOBS = "tight", 3
# Its first node has a Prolog that fails.
BROKEN_PARTITION, BROKEN_NODE = "broken", "n0"
# Whose jobs have an Epilog that takes long.
SLOW_PARTITION = "slow"


class SlurmSite:
    """The site, while the tests run.

    Attributes:
        host: The address of its login node.
        port: Its SSH port.
        username: The account there.
        home: The account's home, there.
        key_file: The account's key.
        known_hosts: A file with the login node's key.
    """

    host = "127.0.0.1"
    username = ACCOUNT
    home = Path("/home") / ACCOUNT

    def __init__(self, run: RunDirectory) -> None:
        self._shared = run.path
        self._directory = run.child("slurm-site")
        self.port = free_port()
        self.key_file = self._directory / "key"
        self.known_hosts = self._directory / "known_hosts"
        self._process: subprocess.Popen[bytes] | None = None
        self._init = 0

    # --- starting and ending --------------------------------------------------------------

    def start(self) -> None:
        """Make the root if need be, start the site, and wait until its nodes take jobs.

        Raises:
            ServiceUnavailable: Not root, no network for the packages, or it does not come up.
        """
        if os.geteuid() != 0:
            raise ServiceUnavailable("a SLURM site in a root of its own needs root")
        base = base_root()
        self._make_keys()
        site = self._directory / "site"
        site.mkdir(exist_ok=True)
        for name, text in self._files().items():
            (site / name).write_text(text)
        (site / "start").chmod(0o755)
        shutil.copy(self.key_file.with_suffix(".pub"), site / "key.pub")
        shutil.copy(self._directory / "host_key", site / "host_key")
        (site / "host_key").chmod(0o600)
        with (self._directory / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    *("setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--uts", "--ipc"),
                    *("--propagation", "private", "sh", "-euc", _ENTER, "sh"),
                    *(str(base), str(self._directory), str(self._shared)),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + 120
        while not (site / "ready").exists():
            if self._process.poll() is not None or time.monotonic() > deadline:
                said = (self._directory / "log").read_text(errors="replace").splitlines()
                self.stop()
                raise ServiceUnavailable("the SLURM site did not start:\n" + "\n".join(said[-15:]))
            time.sleep(0.1)
        # The first process of the namespace, by its number outside.
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        self._init = int(children.read_text())

    def stop(self) -> None:
        """End it: with the first process of its namespace all others go."""
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def __str__(self) -> str:
        version = self.run("sinfo", "--version").stdout.strip()
        return f"{version} with slurmdbd, in a root of Debian 13, sshd at {self.host}:{self.port}"

    # --- using it ---------------------------------------------------------------------------

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command there as root."""
        return subprocess.run(
            ["nsenter", "-t", str(self._init), "-m", "-u", "-i", "-p", "-r", "-w", *command],
            env={"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"},
            capture_output=True,
            text=True,
            timeout=60,
            stdin=subprocess.DEVNULL,
        )

    def queue(self) -> list[str]:
        """The ids of all jobs and array elements that are not finished."""
        return self.run("squeue", "--noheader", "--array", "--format=%i").stdout.split()

    @contextlib.contextmanager
    def broken_node_up(self) -> Iterator[None]:
        """Have the node with the Prolog that fails take jobs, until it is drained for that."""
        self._update_node("state=resume")
        try:
            # Until slurmctld counts it as idle, the next job goes to another node.
            asked = ("sinfo", "-h", "-n", BROKEN_NODE, "-o", "%T")
            wait_until(lambda: set(self.run(*asked).stdout.split()) == {"idle"})
            yield
        finally:
            self._update_node("state=drain", "reason=test")

    def _update_node(self, *settings: str) -> None:
        self.run("scontrol", "update", f"nodename={BROKEN_NODE}", *settings)

    # --- making it --------------------------------------------------------------------------

    def _make_keys(self) -> None:
        for name in ("key", "host_key"):
            path = self._directory / name
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(path)]
            subprocess.run(command, check=True)
        public = (self._directory / "host_key.pub").read_text()
        self.known_hosts.write_text(f"[{self.host}]:{self.port} {public}")

    def _files(self) -> dict[str, str]:
        accounting = free_port()
        return {
            "start": _START.replace("@SSH_PORT@", str(self.port)),
            "slurmdbd.conf": _DBD.replace("@PORT@", str(accounting)),
            "slurm.conf": _CONF.replace("@ACCOUNTING@", str(accounting))
            .replace("@CONTROLLER@", str(free_port()))
            .replace("@NODES@", "".join(_node(name) for name in (BROKEN_NODE, "n1", "n2"))),
            "prolog": f'#!/bin/sh\n[ "$SLURMD_NODENAME" != {BROKEN_NODE} ]\n',
            "epilog": f'#!/bin/sh\n[ "$SLURM_JOB_PARTITION" != {SLOW_PARTITION} ] || sleep 30\n',
        }


def _node(name: str) -> str:
    # Those of a lower weight get jobs first.
    weight = 1 if name == BROKEN_NODE else 10
    return (
        f"NodeName={name} NodeHostname=site13 Port={free_port()} CPUs=4 RealMemory=4000"
        f" Weight={weight}\n"
    )


def base_root() -> Path:
    """The root as packages make it; made by the first run that needs it, for all users of it.

    Raises:
        ServiceUnavailable: The packages are not to be had.
    """
    name = hashlib.sha256(_PACKAGES.encode()).hexdigest()[:12]
    root = CACHE / f"{RELEASE}-{name}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{RELEASE}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not root.exists():
            if not shutil.which("mmdebstrap"):
                raise ServiceUnavailable("not installed: mmdebstrap")
            try:
                make_root(root, _PACKAGES.split())
            except (subprocess.CalledProcessError, IndexError) as error:
                raise ServiceUnavailable(
                    f"no Debian 13 from this machine's mirror: {error}"
                ) from error
    return root


# Arguments: the root as it was made, the site's directory, and what both sides see.
_ENTER = """
over=$2/over; mkdir -p "$over"; mount -t tmpfs -o mode=0755 none "$over"
mkdir "$over/upper" "$over/work" "$over/root"; root=$over/root; chmod 755 "$over/upper"
mount -t overlay -o "lowerdir=$1,upperdir=$over/upper,workdir=$over/work" none "$root"
mkdir -p "$root/site" "$root/$3"; mount --bind "$2/site" "$root/site"
mount --rbind /dev "$root/dev"; mount --bind "$3" "$root/$3"
exec unshare --pid --fork --kill-child chroot "$root" /site/start
"""

_START = f"""#!/bin/bash
set -eu
hostname site13; mount -t proc proc /proc; mount -t tmpfs -o mode=0755 tmpfs /run
mkdir -p /run/sshd /run/munge /run/mysqld /run/lock /var/log/slurm /var/spool/slurmctld
chown munge /run/munge; chown mysql /run/mysqld; chown slurm /var/log/slurm /var/spool/slurmctld
useradd -m -s /bin/bash -u {UID} {ACCOUNT}; usermod -p '*' {ACCOUNT}
mkdir -p ~{ACCOUNT}/.ssh; cp /site/key.pub ~{ACCOUNT}/.ssh/authorized_keys
chown -R {ACCOUNT} ~{ACCOUNT}/.ssh; chmod 700 ~{ACCOUNT}/.ssh
echo "127.0.0.1 localhost site13" > /etc/hosts
su -s /bin/sh munge -c 'munged --force'
cp /site/slurmdbd.conf /site/slurm.conf /etc/slurm/
for hook in prolog epilog; do cp /site/$hook /etc/slurm/; chmod 755 /etc/slurm/$hook; done
chown slurm /etc/slurm/slurmdbd.conf; chmod 600 /etc/slurm/slurmdbd.conf
echo CgroupPlugin=disabled > /etc/slurm/cgroup.conf
mariadbd-safe --user=mysql --skip-networking --socket=/run/mysqld/mysqld.sock >/dev/null 2>&1 &
until mariadb -e 'select 1' >/dev/null 2>&1; do sleep 0.1; done
mariadb -e "create database slurm_acct; create user slurm@localhost identified by 'slurm'"
mariadb -e "grant all on slurm_acct.* to slurm@localhost"
slurmdbd; until sacctmgr -n show cluster >/dev/null 2>&1; do sleep 0.1; done
add() {{ sacctmgr -i add "$@" >/dev/null; }}
add cluster site13
add account lab Cluster=site13
add account {TIGHT_ACCOUNT} Cluster=site13
add qos {SMALL_QOS} MaxSubmitJobsPerUser={SMALL_QOS_JOBS}
add user {ACCOUNT} Account=lab Cluster=site13
add user {ACCOUNT} Account={TIGHT_ACCOUNT} Cluster=site13 MaxSubmitJobs={TIGHT_ACCOUNT_JOBS}
sacctmgr -i modify user {ACCOUNT} set qos+={SMALL_QOS} >/dev/null
slurmctld
for n in {BROKEN_NODE} n1 n2; do mkdir -p /var/spool/slurmd/$n; slurmd -N $n; done
/usr/sbin/sshd -f /dev/null -p @SSH_PORT@ -h /site/host_key -o ListenAddress=127.0.0.1 \\
  -o UsePAM=no -o PasswordAuthentication=no -o MaxSessions=100 -o MaxStartups=100 \\
  -o "Subsystem=sftp internal-sftp" -o PidFile=/run/sshd.pid
until [ "$(sinfo -h -N -t idle -p main | wc -l)" = 2 ]; do sleep 0.1; done
scontrol update nodename={BROKEN_NODE} state=drain reason=test
touch /site/ready
exec sleep infinity
"""

_DBD = """DbdHost=localhost
DbdPort=@PORT@
AuthType=auth/munge
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm_acct
SlurmUser=slurm
LogFile=/var/log/slurm/slurmdbd.log
PidFile=/run/slurmdbd.pid
"""

_CONF = f"""ClusterName=site13
SlurmctldHost=site13
SlurmctldPort=@CONTROLLER@
SlurmUser=slurm
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
StateSaveLocation=/var/spool/slurmctld
SlurmdSpoolDir=/var/spool/slurmd/%n
SlurmctldLogFile=/var/log/slurm/slurmctld.log
SlurmdLogFile=/var/log/slurm/slurmd.%n.log
SlurmctldPidFile=/run/slurmctld.pid
SlurmdPidFile=/run/slurmd.%n.pid
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=localhost
AccountingStoragePort=@ACCOUNTING@
AccountingStorageEnforce=associations,limits,qos
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=2
SchedulerParameters=bf_interval=1,sched_interval=1,batch_sched_delay=0,sched_min_interval=10000
ReturnToService=2
MaxArraySize=1001
KillWait=5
MpiDefault=none
Prolog=/etc/slurm/prolog
Epilog=/etc/slurm/epilog
@NODES@
PartitionName=main Nodes=n1,n2 Default=YES MaxTime=1-0 State=UP
PartitionName={SLOW_PARTITION} Nodes=n2 State=UP
PartitionName={BROKEN_PARTITION} Nodes=ALL State=UP
PartitionName=short Nodes=n1 MaxTime=5 State=UP
"""

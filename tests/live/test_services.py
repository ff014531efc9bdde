"""The services do what the other tests build on."""

from __future__ import annotations

import shlex
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.live.prefect_server import PrefectServer
from tests.live.pythons import FarPythons
from tests.live.rundir import RunDirectory
from tests.live.slurm import CORES, URGENT_PARTITION, Slurm
from tests.live.ssh_host import SSHHost


def _sleepers(ssh_host: SSHHost) -> list[int]:
    """The account's processes that run `sleep`."""
    return [
        pid
        for pid in ssh_host.processes
        if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"sleep")
    ]


def _wait_until(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def _submit(ssh_host: SSHHost, command: str, *options: str) -> str:
    sbatch = ["sbatch", "--parsable", "--output=/dev/null", *options, f"--wrap={command}"]
    done = ssh_host.run(shlex.join(sbatch))
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def _state(slurm: Slurm, job: str) -> str:
    command = ("squeue", "--noheader", "--states=all", f"--jobs={job}", "--format=%T")
    return slurm.command(*command).stdout.strip()


class TestPrefectServer:
    def test_a_flow_in_this_process_is_recorded(self, prefect_server: PrefectServer) -> None:
        from prefect import flow, get_client
        from prefect.settings import PREFECT_API_URL, PREFECT_HOME

        @flow
        def doubled(x: int) -> int:
            return 2 * x

        state = doubled(21, return_state=True)

        assert state.result() == 42
        assert PREFECT_API_URL.value() == prefect_server.api_url
        assert not str(PREFECT_HOME.value()).startswith(str(Path.home() / ".prefect"))
        assert state.state_details.flow_run_id
        with get_client(sync_client=True) as client:
            run = client.read_flow_run(state.state_details.flow_run_id)
        assert run.state is not None
        assert run.state.is_completed()


class TestSSHHost:
    def test_logs_in_with_the_key(self, ssh_host: SSHHost) -> None:
        done = ssh_host.run("whoami; pwd")

        assert done.stdout.split() == [ssh_host.username, str(ssh_host.home)]

    def test_shows_what_bashrc_prints_until_it_is_put_back(self, ssh_host: SSHHost) -> None:
        with ssh_host.bashrc("echo noise\n"):
            assert ssh_host.run("true").stdout == "noise\n"
        assert ssh_host.run("true").stdout == ""

    def test_uses_another_login_shell(self, ssh_host: SSHHost) -> None:
        with ssh_host.login_shell("tcsh"):
            assert "tcsh" in ssh_host.run("echo $version").stdout

    def test_drops_connections_but_not_what_runs_behind_them(self, ssh_host: SSHHost) -> None:
        with subprocess.Popen(
            ssh_host.ssh_command("exec sleep 60"),
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as client:
            _wait_until(lambda: _sleepers(ssh_host))

            # Other tests of this process may hold connections too: those end, and come again.
            assert ssh_host.drop_connections() >= 2

            assert client.wait(60) == 255
        assert len(_sleepers(ssh_host)) == 1

    def test_refuses_while_it_does_not_listen(self, ssh_host: SSHHost) -> None:
        ssh_host.stop_listening()
        try:
            assert "refused" in ssh_host.run("true").stderr
        finally:
            ssh_host.listen_again()
        assert ssh_host.run("true").returncode == 0

    def test_home_can_be_read_only(self, ssh_host: SSHHost) -> None:
        with ssh_host.read_only_home():
            assert "denied" in ssh_host.run("mkdir here").stderr
        assert ssh_host.run("mkdir here && rmdir here").returncode == 0

    def test_disk_can_be_full(self, ssh_host: SSHHost) -> None:
        with ssh_host.small_disk(64 * 1024) as disk:
            assert "No space" in ssh_host.run(f"head -c 1M /dev/zero > {disk}/big").stderr

    def test_account_can_run_an_old_python(
        self, ssh_host: SSHHost, far_pythons: FarPythons, pythons: dict[str, str]
    ) -> None:
        if "3.6" not in pythons:
            pytest.skip("no Python 3.6 on this machine")
        program = "import ssl, ctypes, sys; print(sys.version_info[:2])"

        done = ssh_host.run(f"{far_pythons['3.6']} -c '{program}'")

        assert done.stdout == "(3, 6)\n", done.stderr


class TestSlurm:
    def test_runs_a_job_as_the_account(self, ssh_host: SSHHost, slurm: Slurm) -> None:
        job = _submit(ssh_host, "whoami > whoami.txt")

        _wait_until(lambda: _state(slurm, job) == "COMPLETED")

        assert (ssh_host.home / "whoami.txt").read_text().strip() == ssh_host.username

    def test_runs_an_array(self, ssh_host: SSHHost, slurm: Slurm) -> None:
        _submit(ssh_host, "touch element-$SLURM_ARRAY_TASK_ID", "--array=0-19")

        _wait_until(lambda: len(list(ssh_host.home.glob("element-*"))) == 20)

    def test_refuses_an_array_beyond_its_limit(self, ssh_host: SSHHost, slurm: Slurm) -> None:
        done = ssh_host.run("sbatch --parsable --array=0-1001 --wrap=true")

        assert "Invalid job array" in done.stderr

    def test_kills_a_job_that_takes_too_much_memory(self, ssh_host: SSHHost, slurm: Slurm) -> None:
        greedy = "import time; x = b'x' * 400_000_000; time.sleep(60)"
        job = _submit(ssh_host, f'python3 -c "{greedy}"', "--mem=50M")

        _wait_until(lambda: _state(slurm, job) not in ("PENDING", "RUNNING", "COMPLETING"))

        assert _state(slurm, job) in ("FAILED", "OUT_OF_MEMORY", "CANCELLED")

    def test_a_dead_node_fails_its_jobs(self, ssh_host: SSHHost, slurm: Slurm) -> None:
        job = _submit(ssh_host, "sleep 60", "--no-requeue")
        _wait_until(lambda: _state(slurm, job) == "RUNNING")

        with slurm.node_down():
            _wait_until(lambda: _state(slurm, job) == "NODE_FAIL")

        _wait_until(slurm.is_idle)

    def test_an_urgent_job_preempts(self, ssh_host: SSHHost, slurm: Slurm) -> None:
        job = _submit(ssh_host, "sleep 60", "--no-requeue", f"--cpus-per-task={CORES}")
        _wait_until(lambda: _state(slurm, job) == "RUNNING")

        _submit(ssh_host, "true", f"--partition={URGENT_PARTITION}", f"--cpus-per-task={CORES}")

        _wait_until(lambda: _state(slurm, job) == "PREEMPTED")

    @pytest.mark.every
    def test_forgets_finished_jobs_when_told_to(self, ssh_host: SSHHost, slurm: Slurm) -> None:
        with slurm.configured(MinJobAge="2"):
            job = _submit(ssh_host, "true")
            _wait_until(lambda: _state(slurm, job) == "", seconds=90)

    def test_is_usable_from_this_machine(
        self, slurm: Slurm, run_directory: RunDirectory, tmp_path: Path
    ) -> None:
        done = slurm.command("sbatch", "--parsable", "--output=/dev/null", "--wrap=true")

        _wait_until(lambda: _state(slurm, done.stdout.strip()) == "COMPLETED")


class TestRunDirectory:
    def test_an_abandoned_one_is_removed_and_one_in_use_is_not(self) -> None:
        in_use = RunDirectory()
        abandoned = RunDirectory()
        abandoned._lock.close()  # what the kernel does for a process that was killed

        later = RunDirectory()

        assert in_use.path.exists()
        assert not abandoned.path.exists()
        in_use.remove()
        later.remove()
        assert not in_use.path.exists()

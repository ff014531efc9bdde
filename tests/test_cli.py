"""The command line against real clusters."""

from __future__ import annotations

import json
import re
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from clustrix_prefect import LocalCluster, SlurmCluster, SSHCluster, SSHCredentials
from clustrix_prefect.cli.main import main
from clustrix_prefect.clusters.cluster import ClusterBlock
from tests.live.pam_host import PAMHost
from tests.live.prefect_server import PrefectServer
from tests.live.slurm import Slurm
from tests.live.ssh_authority import SSHAuthority
from tests.live.ssh_host import SSHHost

Save = Callable[[ClusterBlock], str]


@pytest.fixture
def save(prefect_server: PrefectServer) -> Iterator[Save]:
    """Saves a block, and returns the name to give on the command line."""
    saved: list[ClusterBlock] = []

    def save(cluster: ClusterBlock) -> str:
        cluster.save("tested", overwrite=True, _sync=True)  # type: ignore[call-arg]
        saved.append(cluster)
        return f"{cluster.get_block_type_slug()}/tested"

    yield save
    for cluster in saved:
        type(cluster).delete("tested", _sync=True)  # type: ignore[call-arg]


@pytest.fixture
def way(ssh_host: SSHHost, remote_work_dir: Path) -> dict[str, Any]:
    """The fields of a block that leads to the test account."""
    return {
        "host": ssh_host.host,
        "port": ssh_host.port,
        "known_hosts": str(ssh_host.known_hosts),
        "credentials": SSHCredentials(username=ssh_host.username, key_file=str(ssh_host.key_file)),
        "remote_work_dir": str(remote_work_dir),
    }


def check(name: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, dict[str, Any]]]:
    """The exit status and the findings by their names."""
    status = main(["check", name, "--json"])
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] is (status == 0)
    return status, {finding["name"]: finding for finding in report["findings"]}


class TestCheck:
    def test_this_machine(self, save: Save, capsys: Any, tmp_path: Path) -> None:
        name = save(LocalCluster(remote_work_dir=str(tmp_path / "work"), max_parallel_calls=3))
        assert main(["check", name]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[0] == "local-cluster/tested: this machine"
        assert f"ok    work directory  {tmp_path}/work, writable" in "\n".join(lines)
        assert "ok    calls at once   3" in lines
        assert lines[-1] == "No problems."

    def test_a_host(self, save: Save, way: dict[str, Any], capsys: Any) -> None:
        _, found = check(save(SSHCluster(**way)), capsys)
        assert found["host key"]["value"].startswith("ssh-ed25519 SHA256:")
        assert found["logged in with"]["value"].startswith("key file ")
        assert socket.gethostname() in found["host"]["value"]
        assert found["round trip"]["value"].endswith(" ms")
        assert "GiB free" in found["work directory"]["value"]
        assert "trial job" not in found

    def test_a_certificate_tells_when_it_ends(
        self, save: Save, pam_host: PAMHost, tmp_path: Path, capsys: Any
    ) -> None:
        authority = SSHAuthority(tmp_path / "authority")
        key = tmp_path / "key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
        credentials = SSHCredentials(username=pam_host.username, key_file=str(key))
        name = save(
            SSHCluster(
                host=pam_host.host,
                port=pam_host.port,
                known_hosts=str(pam_host.known_hosts),
                credentials=credentials,
            )
        )
        with pam_host.asking(*authority.settings):
            earliest = datetime.now() + timedelta(weeks=52)
            authority.sign(key, pam_host.username, "-1m:+52w")
            latest = datetime.now() + timedelta(weeks=52)
            status, found = check(name, capsys)
            days = tuple(f"ends at {day:%Y-%m-%d }" for day in (earliest, latest))
            assert found["certificate"]["value"].startswith(days)
            assert (status, found["certificate"]["warning"]) == (0, "")
            authority.sign(key, pam_host.username, "-1m:+150m")
            assert main(["check", name]) == 0
            output = capsys.readouterr().out
            assert "warn  certificate     ends at " in output
            assert re.search(r"It ends in 2 h \d+ min\.", output)
            assert "Renew it" in output
            authority.sign(key, pam_host.username, "-2h:-1h")
            status, found = check(name, capsys)
        assert status == 1
        assert "ended at " in found["connection"]["problem"]
        assert "Renew the certificate" in found["connection"]["remedy"]

    def test_slurm(self, save: Save, way: dict[str, Any], slurm: Slurm, capsys: Any) -> None:
        _, found = check(save(SlurmCluster(**way)), capsys)
        assert found["scheduler"]["value"].startswith("SLURM 2")
        assert found["limits"]["value"] == "arrays of 1001, 49999 jobs"
        assert found["trial job"]["value"].startswith("would start at")
        assert slurm.queue() == []

    def test_slurm_of_this_machine(
        self, save: Save, slurm: Slurm, tmp_path: Path, capsys: Any, monkeypatch: Any
    ) -> None:
        monkeypatch.setenv("SLURM_CONF", str(slurm.conf))
        status, found = check(save(SlurmCluster(remote_work_dir=str(tmp_path / "w"))), capsys)
        assert found["connection"]["value"].startswith("this machine")
        assert found["scheduler"]["ok"]
        assert status == 0

    def test_every_problem_has_a_remedy(
        self, save: Save, way: dict[str, Any], slurm: Slurm, capsys: Any
    ) -> None:
        wrong = {
            **way,
            "remote_work_dir": "/root/of/somebody/else",
            "python": "/no/such/python",
            "modules": ["no-such/module"],
            "partition": "no-such-partition",
        }
        status, found = check(save(SlurmCluster(**wrong)), capsys)
        assert status == 1
        problems = {name for name, finding in found.items() if not finding["ok"]}
        assert problems == {"work directory", "Python", "modules", "trial job"}
        assert all(found[name]["problem"] and found[name]["remedy"] for name in problems)
        assert "remote_work_dir" in found["work directory"]["remedy"]

    def test_a_python_of_another_version(
        self, save: Save, way: dict[str, Any], far_pythons: Any, capsys: Any
    ) -> None:
        other = {**way, "python": far_pythons["3.8"]}
        status, found = check(save(SSHCluster(**other)), capsys)
        assert status == 0
        assert found["Python"]["value"].startswith("3.8")
        assert "code travels to it as source" in found["Python"]["value"]

    def test_an_unknown_host_key(
        self, save: Save, way: dict[str, Any], tmp_path: Path, capsys: Any
    ) -> None:
        name = save(SSHCluster(**{**way, "known_hosts": str(tmp_path / "none")}))
        assert main(["check", name]) == 1
        output = capsys.readouterr().out
        assert "FAIL  connection" in output
        assert "ssh-keyscan" in output
        assert output.splitlines()[-1] == "1 problem."

    def test_a_login_that_ends(
        self, save: Save, way: dict[str, Any], ssh_host: SSHHost, capsys: Any
    ) -> None:
        with ssh_host.bashrc("echo closed for maintenance; exit 1\n"):
            status, found = check(save(SSHCluster(**way)), capsys)
        assert status == 1
        assert "closed for maintenance" in str(found["login"])

    def test_no_scheduler_where_there_should_be_one(
        self, save: Save, way: dict[str, Any], slurm: Slurm, capsys: Any
    ) -> None:
        with slurm.without_controller():
            status, found = check(save(SlurmCluster(**way)), capsys)
        assert status == 1
        assert "does not answer" in found["scheduler"]["problem"]

    def test_a_block_that_does_not_exist(self, prefect_server: Any, capsys: Any) -> None:
        assert main(["check", "slurm-cluster/nowhere"]) == 1
        assert "slurm-cluster/nowhere" in capsys.readouterr().err


class TestJobs:
    @pytest.fixture
    def submit(
        self, ssh_host: SSHHost, slurm: Slurm, remote_work_dir: Path
    ) -> Iterator[Callable[..., str]]:
        """Submits a job that one of our runs names, or that none does."""

        def submit(name: str, *options: str, run: str | None = "run1") -> str:
            line = ["sbatch", "--parsable", "--output=/dev/null", "--mem=50M", "-J", name, *options]
            job = ssh_host.run(shlex.join([*line, "--wrap=sleep 100"])).stdout.strip()
            if run is not None:
                batch = shlex.quote(f"{remote_work_dir}/runs/{run}/{job}")
                done = ssh_host.run(f"umask 077; mkdir -p {batch}; echo {job} > {batch}/job")
                assert done.returncode == 0, done.stderr
            return job

        yield submit
        slurm.cancel_all_jobs()

    @pytest.fixture
    def cluster(self, save: Save, way: dict[str, Any], slurm: Slurm) -> str:
        return save(SlurmCluster(**way))

    def listed(self, cluster: str, capsys: Any) -> list[dict[str, Any]]:
        assert main(["jobs", "list", cluster, "--json"]) == 0
        found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
        return found

    def test_list(self, cluster: str, submit: Any, capsys: Any) -> None:
        array = submit("fit-1a2b", "--array=0-9%2")
        single = submit("other-3c4d", "--hold", run="run2")
        submit("not-ours", run=None)
        deadline = time.monotonic() + 60
        while (found := self.listed(cluster, capsys))[0]["running"] < 2:
            assert time.monotonic() < deadline
        chosen = ("job", "name", "run", "queued", "running", "ended")
        assert [{name: job[name] for name in chosen} for job in found] == [
            {"job": array, "name": "fit-1a2b", "run": "run1", "queued": 8, "running": 2,
             "ended": 0},
            {"job": single, "name": "other-3c4d", "run": "run2", "queued": 1, "running": 0,
             "ended": 0},
        ]  # fmt: skip
        assert [job["reason"].partition(":")[0] for job in found] == [
            "JobArrayTaskLimit",
            "JobHeldUser",
        ]
        assert main(["jobs", "list", cluster]) == 0
        header, first, *_ = capsys.readouterr().out.splitlines()
        names = "JOB FLOW FLOW RUN TASK SUBMITTED QUEUED RUNNING STARTS REASON"
        assert header.split() == names.split()
        assert first.split()[:4] == [array, "fit-1a2b", "8", "2"]
        assert first.index("fit-1a2b") == header.index("TASK")

    def test_list_of_nothing(self, cluster: str, capsys: Any) -> None:
        assert self.listed(cluster, capsys) == []
        assert main(["jobs", "list", cluster]) == 0
        assert capsys.readouterr().out == "No jobs of ours.\n"

    def test_cancel_all_of_ours_and_nothing_else(
        self, cluster: str, submit: Any, slurm: Slurm, capsys: Any
    ) -> None:
        submit("fit-1a2b", "--array=0-9%2")
        submit("other-3c4d", run="run2")
        foreign = submit("not-ours", "--hold", run=None)
        assert main(["jobs", "cancel", cluster, "--yes"]) == 0
        assert "Cancelled 2." in capsys.readouterr().out
        deadline = time.monotonic() + 60
        while slurm.queue() != [foreign]:
            assert time.monotonic() < deadline, slurm.queue()

    def test_cancel_one(self, cluster: str, submit: Any, capsys: Any) -> None:
        first, second = submit("a", "--hold"), submit("b", "--hold")
        assert main(["jobs", "cancel", cluster, first, "--yes"]) == 0
        left = [job["job"] for job in self.listed_alive(cluster, capsys)]
        assert left == [second]

    def listed_alive(self, cluster: str, capsys: Any) -> list[dict[str, Any]]:
        capsys.readouterr()
        return [job for job in self.listed(cluster, capsys) if job["queued"] + job["running"]]

    @pytest.mark.parametrize(("answer", "left"), [("y", 0), ("", 1), ("no", 1)])
    def test_cancel_asks(
        self, cluster: str, submit: Any, capsys: Any, monkeypatch: Any, answer: str, left: int
    ) -> None:
        submit("a", "--hold")
        monkeypatch.setattr("builtins.input", lambda prompt: answer)
        assert main(["jobs", "cancel", cluster]) == left
        assert len(self.listed_alive(cluster, capsys)) == left

    def test_cancel_of_a_job_that_is_not_ours(
        self, cluster: str, submit: Any, slurm: Slurm, capsys: Any
    ) -> None:
        foreign = submit("not-ours", "--hold", run=None)
        assert main(["jobs", "cancel", cluster, foreign, "--yes"]) == 1
        assert foreign in capsys.readouterr().err
        assert slurm.queue() == [foreign]

    def test_a_cluster_without_scheduler(self, save: Save, capsys: Any) -> None:
        assert main(["jobs", "list", save(LocalCluster())]) == 1
        assert "no scheduler" in capsys.readouterr().err


def test_it_is_installed() -> None:
    program = Path(sys.executable).with_name("clustrix-prefect")
    done = subprocess.run([program, "--help"], capture_output=True, text=True)
    assert "check" in done.stdout

"""Access to clusters, as the flow finds it on real ones."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from clustrix_prefect import SlurmCluster, SSHCluster, SSHCredentials
from clustrix_prefect.clusters import load_cluster
from clustrix_prefect.schedulers.scheduler import JobState
from clustrix_prefect.validation import access
from flows.validate_cluster_access import validate_cluster_access
from tests.live.daemon import free_port
from tests.live.pam_host import PAMHost
from tests.live.slurm import Slurm
from tests.live.ssh_authority import SSHAuthority
from tests.live.ssh_host import SSHHost
from tests.validation.conftest import Save
from tests.validation.pages import page_of, rows_of


def test_a_slurm_cluster_takes_and_cancels_a_job(ndoli: str, ssh_host: SSHHost, here: str) -> None:
    state = validate_cluster_access([ndoli, here], return_state=True)
    assert state.is_completed(), state.message
    page = page_of(state, "cluster-access")
    assert page.startswith("**Passed: ")
    assert re.search(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", page)
    found = {(row["cluster"], row["check"]): row for row in rows_of(page) if "check" in row}
    for name in ("host key", "Python", "scheduler", "work directory"):
        assert found[ndoli, name]["result"] == "ok"
    trial = found[ndoli, "submit and cancel"]
    assert re.fullmatch(r"job \d+ was (queued|running), and is (cancelled|gone)", trial["found"])
    assert found[here, "submit and cancel"]["result"] == "left out"
    # Nothing is left of it.
    left = [path.name for path in Path(ssh_host.home / "validation").glob("validation-*")]
    assert left == []


@pytest.mark.parametrize("seen", [JobState.ENDING, JobState.UNKNOWN])
def test_a_job_that_is_not_gone_is_waited_for(
    ndoli: str, monkeypatch: pytest.MonkeyPatch, seen: JobState
) -> None:
    """It had just started when it was cancelled, or nobody can read how it stands."""
    states = [JobState.QUEUED, seen, JobState.CANCELLED]
    monkeypatch.setattr(access._Trial, "_state", lambda _: states.pop(0))
    *_, trial = access.check_access(ndoli, load_cluster(ndoli))
    assert trial.value.endswith(" was queued, and is cancelled"), trial


def test_what_is_wrong_comes_first_with_what_to_do(
    saved: Save, here: str, ssh_host: SSHHost
) -> None:
    nobody = saved(
        SlurmCluster(host="127.0.0.1", port=free_port(), known_hosts=str(ssh_host.known_hosts)),
        "nobody",
    )
    state = validate_cluster_access([here, nobody], return_state=True)
    assert state.is_failed()
    assert str(state.message).startswith("Failed: 1 of ")
    page = page_of(state, "cluster-access")
    assert page.startswith("**Failed: 1 of ")
    assert "### What to do" in page
    rows = [row for row in rows_of(page) if "check" in row]
    assert (rows[0]["cluster"], rows[0]["result"]) == (nobody, "failed")
    assert {row["cluster"] for row in rows if row["result"] == "ok"} == {here}


def test_an_unknown_cluster_is_a_failure_among_others(here: str) -> None:
    state = validate_cluster_access(["slurm-cluster/gone", here], return_state=True)
    assert state.is_failed()
    page = page_of(state, "cluster-access")
    assert "There is no cluster block 'slurm-cluster/gone'" in page
    assert any(row.get("cluster") == here and row["result"] == "ok" for row in rows_of(page))


def test_a_refused_submission_is_a_failure(saved: Save, ndoli: str, slurm: Slurm) -> None:
    wrong = SlurmCluster.load("ndoli", _sync=True).model_copy(update={"partition": "nowhere"})  # type: ignore[call-arg, union-attr]
    state = validate_cluster_access([saved(wrong, "wrong")], return_state=True)
    assert state.is_failed()
    found = {
        row["check"]: row for row in rows_of(page_of(state, "cluster-access")) if "check" in row
    }
    assert found["submit and cancel"]["result"] == "failed"
    assert "nvalid partition" in found["submit and cancel"]["found"]


def test_a_certificate_that_ends_within_a_day_is_warned_of(
    saved: Save, pam_host: PAMHost, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    authority = SSHAuthority(tmp_path / "authority")
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    authority.sign(key, pam_host.username, "-1m:+175m")
    cluster = SSHCluster(
        host=pam_host.host,
        port=pam_host.port,
        known_hosts=str(pam_host.known_hosts),
        credentials=SSHCredentials(username=pam_host.username, key_file=str(key)),
    )
    name = saved(cluster, "certified")
    with pam_host.asking(*authority.settings):
        state = validate_cluster_access([name], return_state=True)
    assert state.is_completed(), state.message
    page = page_of(state, "cluster-access")
    rows = [row for row in rows_of(page) if "check" in row]
    assert (rows[0]["check"], rows[0]["result"]) == ("certificate", "warning")
    assert "It ends in 2 h 5" in rows[0]["found"]
    assert "### What to do" in page
    assert "Renew it" in page
    warned = [record for record in caplog.records if record.levelname == "WARNING"]
    assert any("It ends in 2 h 5" in record.getMessage() for record in warned)

"""Access to clusters, as the flow finds it on real ones."""

from __future__ import annotations

import re
from pathlib import Path

from clustrix_prefect import SlurmCluster
from flows.validate_cluster_access import validate_cluster_access
from tests.live.daemon import free_port
from tests.live.slurm import Slurm
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
    wrong = SlurmCluster.load("ndoli", _sync=True).model_copy(update={"partition": "nowhere"})
    state = validate_cluster_access([saved(wrong, "wrong")], return_state=True)
    assert state.is_failed()
    found = {
        row["check"]: row for row in rows_of(page_of(state, "cluster-access")) if "check" in row
    }
    assert found["submit and cancel"]["result"] == "failed"
    assert "nvalid partition" in found["submit and cancel"]["found"]

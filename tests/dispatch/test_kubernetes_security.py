"""Pods without privileges, under a user id that their image does not know."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from prefect import flow, task

from clustrix_prefect import ClusterTaskRunner, File, KubernetesCluster
from tests.dispatch.test_kubernetes import wait_until_empty

if TYPE_CHECKING:
    from tests.live.kubernetes.cluster import Kubernetes

pytestmark = pytest.mark.usefixtures("quick_prefect")

_USER = 1000680000  # as OpenShift gives to projects


@task
def look() -> dict[str, Any]:
    import getpass
    import os
    import tempfile
    from pathlib import Path

    for directory in (Path.cwd(), Path.home(), Path(tempfile.gettempdir())):
        (directory / "probe").write_text("x")
    try:
        Path("/probe").touch()
        root = "writable"
    except OSError as error:
        root = os.strerror(error.errno or 0)
    status = dict(
        line.split(":\t")
        for line in Path("/proc/self/status").read_text().splitlines()
        if ":\t" in line
    )
    return {
        "uid": os.getuid(),
        "user": getpass.getuser(),
        "root": root,
        "capabilities": int(status["CapBnd"], 16),
        "no new privileges": status["NoNewPrivs"],
    }


@task
def write() -> File:
    from pathlib import Path

    Path("made").write_text("made")
    return File("made")


def test_a_restricted_pod_runs_calls_under_any_user_id(
    on_kubernetes: KubernetesCluster, kubernetes: Kubernetes, tmp_path: Path
) -> None:
    # What is given to pods otherwise are directories of this machine.
    fields = {"security": "restricted", "run_as_user": _USER, "volumes": [], "volume_mounts": []}
    cluster = on_kubernetes.model_copy(update=fields)

    @flow(task_runner=ClusterTaskRunner(cluster))
    def looking() -> tuple[dict[str, Any], str]:
        found = look.submit().result()
        made: Any = write.submit().result()
        return found, made.download(tmp_path / "made").read_text()

    found, content = looking()
    assert found == {
        "uid": _USER,
        "user": "clustrix",
        "root": "Read-only file system",
        "capabilities": 0,
        "no new privileges": "1",
    }
    assert content == "made"
    wait_until_empty(kubernetes, cluster.namespace)

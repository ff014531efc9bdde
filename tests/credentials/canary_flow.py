"""Flows on clusters that are logged in to with secrets, and that leak one on purpose: the control.

Usage: python -m tests.credentials.canary_flow DIRECTORY CONTROL BLOCK...
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.events import emit_event

from clustrix_prefect import ClusterTaskRunner, SSHCredentials, load_cluster
from clustrix_prefect.credentials import resolve
from clustrix_prefect.errors import CredentialError
from flows.validate_credentials import validate_credentials
from tests.dispatch.marks import mark

# Named here, so that workers on this machine do not inherit the variable.
CREDENTIALS = SSHCredentials(password="env:CANARY_OF_ENVIRONMENT")
FAILED_ON_PURPOSE = "op://Canaries/of the account/no such field"


@task(persist_result=True, log_prints=True)
def work(directory: str, name: str, control: str) -> dict[str, Any]:
    """Wait for the test, which looks at this process and its child meanwhile."""
    print(f"the control is {control}")
    wait = [sys.executable, "-c", "import time; time.sleep(60)", control]
    child = subprocess.Popen(wait)
    mark(directory, name)
    while not os.path.exists(os.path.join(directory, "gates", name)):
        time.sleep(0.05)
    child.kill()
    child.wait()
    return {"control": control, "variables": dict(os.environ)}


@task
def fail(control: str) -> None:
    """Fail, so that there is a state's message, a page and an exception."""
    sys.stderr.write("on standard error: " + control)
    raise ValueError(f"refused: {control}")


def main(directory: str, control: str, *blocks: str) -> None:
    """Run a flow on each cluster, one after another."""
    logging.getLogger().setLevel(logging.DEBUG)  # every library's, on standard error
    for library in ("httpx", "httpcore", "paramiko", "asyncio", "clustrix_prefect"):
        logging.getLogger(library).setLevel(logging.DEBUG)
        logging.getLogger(library).addHandler(logging.StreamHandler())

    loaded = [(block, load_cluster(block)) for block in blocks]
    for block, cluster in loaded:
        name = block.partition("/")[2]

        @flow(name=name, task_runner=ClusterTaskRunner(block), persist_result=True)
        def using(name: str = name, cluster: Any = cluster) -> dict[str, Any]:
            logger = get_run_logger()
            logger.info("%r %s %s", cluster, cluster, cluster.model_dump_json())
            logger.info("the control is %s", control)
            secrets = [resolve(CREDENTIALS.password), resolve("prefect:canary-of-the-flow")]
            assert all(secrets)
            try:
                resolve(FAILED_ON_PURPOSE, store="onepassword-connect/canary")
            except CredentialError:
                logger.exception("as expected")
            else:
                raise AssertionError("that field should not be there")
            create_markdown_artifact(f"{cluster!r} {control}", key="canary")
            emit_event(
                "canary.planted",
                resource={"prefect.resource.id": f"canary.{name}"},
                payload={"cluster": repr(cluster), "control": control},
            )
            done = work.submit(directory, name, control)
            fail.submit(control).wait()
            done.wait()
            return {"control": control, "lengths": [len(secret or "") for secret in secrets]}

        using()
    validate_credentials()
    print("all flows have ended", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

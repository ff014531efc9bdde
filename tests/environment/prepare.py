"""Prepares an environment, as a flow's process would: `python -m tests.environment.prepare`.

The one argument is a JSON object of the fields of a `LocalCluster`.
"""

from __future__ import annotations

import json
import sys

from clustrix_prefect import LocalCluster
from clustrix_prefect.environments.building import environments_of
from tests.environment.conftest import code, opened

if __name__ == "__main__":
    with opened(LocalCluster(**json.loads(sys.argv[1]))) as session:
        environments_of(session).prepare(code(), lambda level, line: print(line, flush=True))
        print("prepared", flush=True)

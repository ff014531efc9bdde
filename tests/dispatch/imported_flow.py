"""The flow of `gated_flow`, imported by another script instead of run.

Usage: python -m tests.dispatch.imported_flow CLUSTER DIRECTORY CALLS [FLOW_RUN_ID]
"""

from __future__ import annotations

import sys

from tests.dispatch.gated_flow import main

if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), *sys.argv[4:])

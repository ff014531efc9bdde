"""Starts a worker; written beside the far side's package as `worker.py`."""

import os
import sys

if __name__ == "__main__":
    # Only the package is imported from here; user code must find neither this directory
    # nor a module named `worker` on its path, but the cloudpickle that was sent along.
    HERE = os.path.dirname(os.path.abspath(__file__))
    sys.path[0] = HERE
    from clustrix_far_side.worker import worker  # type: ignore[import-not-found]

    sys.path[0] = os.path.join(HERE, "vendor")
    worker.main(sys.argv[1:])

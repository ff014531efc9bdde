"""Whether the kernel ended processes for the memory that our control group may use.

It picks one process of the group: often a worker, while the container's or job's main process
lives on, so that nobody else says what happened.
"""

import os
from typing import Iterator, Optional

_MOUNT = "/sys/fs/cgroup"


def oom_kills(root: str = "/") -> Optional[int]:
    """How many processes were ended so far; None if this system does not say.

    Args:
        root: Where `proc` and `sys` are.
    """
    for path in _counters(root):
        try:
            with open(path) as counters:
                for line in counters:
                    name, _, value = line.partition(" ")
                    if name == "oom_kill":
                        return int(value)
        except (OSError, ValueError):
            continue
    return None


def _counters(root: str) -> Iterator[str]:
    """Files that may hold the counter, the likeliest first."""
    try:
        with open(os.path.join(root, "proc/self/cgroup")) as groups:
            lines = groups.read().splitlines()
    except OSError:
        return
    mount = root.rstrip("/") + _MOUNT
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if controllers == "":
            base, name = mount, "memory.events"
        elif "memory" in controllers.split(","):
            base, name = os.path.join(mount, "memory"), "memory.oom_control"
        else:
            continue
        yield os.path.join(base, group.lstrip("/"), name)
        # In a container the path is often the host's, and the mount begins at our own group.
        yield os.path.join(base, name)

"""What our control group may use, and whether the kernel ended processes for its memory.

It picks one process of the group: often a worker, while the container's or job's main process
lives on, so that nobody else says what happened.
"""

import math
import os
from typing import Iterator, List, Optional

_MOUNT = "/sys/fs/cgroup"
# What schedulers call the cores that a job has on its node.
_ALLOCATED = ("SLURM_CPUS_ON_NODE", "NSLOTS", "NCPUS")


def oom_kills(root: str = "/") -> Optional[int]:
    """Return how many processes were ended so far; None if this system does not say.

    Args:
        root: Where `proc` and `sys` are.
    """
    for path in _files(root, "memory", "memory.events", "memory.oom_control"):
        try:
            with open(path) as counters:
                for line in counters:
                    name, _, value = line.partition(" ")
                    if name == "oom_kill":
                        return int(value)
        except (OSError, ValueError):
            continue
    return None


def cores(root: str = "/") -> int:
    """How many processor cores may be used: by affinity, by quota, and by a job's allocation.

    Args:
        root: Where `proc` and `sys` are.
    """
    try:
        found = [len(os.sched_getaffinity(0))]
    except (AttributeError, OSError):
        found = [os.cpu_count() or 1]
    quota = _quota(root)
    if quota is not None:
        found.append(math.ceil(quota))
    for name in _ALLOCATED:
        # Sites need not bind jobs to their cores.
        value = os.environ.get(name, "")
        if value.isdigit():
            found.append(int(value))
    return max(1, min(found))


def _quota(root: str) -> Optional[float]:
    """Return the tightest limit of processor time that our group or one above it has, in cores."""
    limits = []
    for path in _files(root, "cpu", "cpu.max", "cpu.cfs_quota_us"):
        directory, name = os.path.split(path)
        while directory.startswith(root.rstrip("/") + _MOUNT):
            limit = _read_quota(os.path.join(directory, name))
            if limit is not None:
                limits.append(limit)
            directory = os.path.dirname(directory)
    return min(limits) if limits else None


def _read_quota(path: str) -> Optional[float]:
    try:
        with open(path) as file:
            words = file.read().split()
        if path.endswith("cpu.cfs_quota_us"):
            with open(path.replace("cpu.cfs_quota_us", "cpu.cfs_period_us")) as file:
                words += file.read().split()
        quota, period = int(words[0]), int(words[1])
    except (OSError, ValueError, IndexError):
        return None  # "max": there is none
    return quota / float(period) if quota > 0 else None


def _files(root: str, controller: str, name: str, name_in_v1: str) -> Iterator[str]:
    """Yield where a controller of our group may have a file of this name."""
    mount = root.rstrip("/") + _MOUNT
    for line in _groups(root):
        _, controllers, group = line.split(":", 2)
        if controllers == "":
            base, file = mount, name
        elif controller in controllers.split(","):
            base, file = os.path.join(mount, controller), name_in_v1
        else:
            continue
        yield os.path.join(base, group.lstrip("/"), file)
        # In a container the path is often the host's, and the mount begins at our own group.
        yield os.path.join(base, file)


def _groups(root: str) -> List[str]:
    try:
        with open(os.path.join(root, "proc/self/cgroup")) as groups:
            return groups.read().splitlines()
    except OSError:
        return []

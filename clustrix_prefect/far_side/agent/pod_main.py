"""The main process of a pod: keeps it there while programs of ours run, or left results.

It is given as text to `python -c`, with three arguments:

start_timeout  seconds after which it ends if nobody ever came
result_hold    seconds after the last other process after which it ends
end_volume     a directory of the pod in which the node allows less than is written at the end
"""

import os
import signal
import sys
import time
from typing import Any

_LOOK_SECONDS = 0.5
# More than the limit of the volume (kubernetes/pods.py).
_TOO_MUCH = 2 * 1024 * 1024


def container_of(process: str) -> bytes:
    """Return the control groups of a process, which those of one container share."""
    with open("/proc/{}/cgroup".format(process), "rb") as file:
        return file.read()


def is_alone() -> bool:
    """Return whether this is the only process of the container that lives.

    With shareProcessNamespace the processes of other containers are seen, too.
    """
    own = os.getpid()
    try:
        here = container_of("self")
    except OSError:
        here = b""
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == own:
            continue
        try:
            if here and container_of(name) != here:
                continue
        except OSError:  # it has just ended
            continue
        try:
            with open("/proc/{}/stat".format(name), "rb") as file:
                state = file.read().rpartition(b")")[2].split()[:1]
        except OSError:  # it has just ended
            continue
        if state not in ([b"Z"], [b"X"]):
            return False
    return True


def reap() -> None:
    """Let processes go whose parents went before them."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def keep(start_timeout: float, result_hold: float) -> str:
    """Wait as long as the pod is needed; why it no longer is."""
    came = False
    last = time.monotonic()
    while True:
        reap()
        now = time.monotonic()
        if not is_alone():
            came, last = True, now
        elif now - last > (result_hold if came else start_timeout):
            return "nobody fetched more" if came else "nobody came"
        time.sleep(_LOOK_SECONDS)


def end_pod(end_volume: str) -> None:
    """Have the node end the other containers of the pod, too, which may know no end.

    That needs no right on the API server: the kubelet evicts a pod that fills a volume beyond its
    `sizeLimit` (https://kubernetes.io/docs/concepts/configuration/manage-resources-containers/
    #local-ephemeral-storage). Where this container is the only one, the pod is over before that.
    """
    try:
        with open(os.path.join(end_volume, "full"), "wb") as file:
            file.write(os.urandom(_TOO_MUCH))  # which no file system stores in less
    except OSError as error:
        print("other containers are not ended: {}".format(error))


def end(number: int, frame: Any) -> None:
    """A first process gets no signal that it has no handler for."""
    os._exit(0)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    print(keep(float(sys.argv[1]), float(sys.argv[2])))
    end_pod(sys.argv[3])

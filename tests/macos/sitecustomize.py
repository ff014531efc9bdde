"""Makes a Python look like one on macOS, as far as Linux can: with this directory on PYTHONPATH.

What the standard library has on Linux only is taken away, and /proc and /sys cannot be read.
"""

import fcntl
import mmap
import os
import resource

# `selectors`, which `socket` imports, looks once at what there is.
import select
import signal
import sys
import time
import types

for _name in [name for name in vars(select) if name.startswith(("epoll", "EPOLL"))]:
    delattr(select, _name)
import socket  # noqa: E402

LINUX_ONLY = {
    fcntl: "F_GETPIPE_SZ F_SETPIPE_SZ F_OFD_GETLK F_OFD_SETLK F_OFD_SETLKW F_ADD_SEALS F_NOTIFY",
    mmap: "MAP_POPULATE MADV_DONTFORK MADV_HUGEPAGE MADV_REMOVE",
    os: (
        "O_DIRECT O_NOATIME O_PATH O_TMPFILE P_PIDFD EFD_CLOEXEC RWF_HIPRI SCHED_BATCH"
        " copy_file_range eventfd fdatasync getrandom getresgid getresuid getxattr listxattr"
        " memfd_create pidfd_open pipe2 posix_fadvise posix_fallocate removexattr"
        " sched_getaffinity sched_getparam sched_getscheduler sched_rr_get_interval"
        " sched_setaffinity sched_setparam sched_setscheduler setns setresgid setresuid setxattr"
        " splice unshare waitid"
    ),
    resource: "prlimit RLIMIT_NICE RLIMIT_SIGPENDING RLIMIT_MSGQUEUE RLIMIT_RTPRIO RUSAGE_THREAD",
    select: "POLLRDHUP",
    signal: "SIGRTMIN SIGRTMAX SIGPWR SIGSTKFLT SIGPOLL SIGCLD sigtimedwait sigwaitinfo",
    socket: (
        "AF_NETLINK AF_PACKET AF_ALG AF_VSOCK AF_CAN SO_BINDTODEVICE SO_PEERCRED SO_MARK"
        " SOCK_CLOEXEC SOCK_NONBLOCK TCP_CORK TCP_DEFER_ACCEPT TCP_INFO TCP_QUICKACK"
        " TCP_USER_TIMEOUT MSG_CMSG_CLOEXEC"
    ),
    time: "CLOCK_BOOTTIME CLOCK_TAI pthread_getcpuclockid",
}


def _refuse(event: str, arguments: tuple) -> None:
    if event in ("open", "os.listdir", "os.scandir") and isinstance(arguments[0], (str, bytes)):
        path = os.fsdecode(arguments[0])
        if path.startswith(("/proc/", "/sys/")) or path in ("/proc", "/sys"):
            raise FileNotFoundError(2, "No such file or directory", path)


sys.platform = "darwin"
for _module, _names in LINUX_ONLY.items():
    for _name in _names.split():
        if hasattr(_module, _name):
            delattr(_module, _name)
# What the standard library itself asks on macOS.
_proxies = types.ModuleType("_scproxy")
_proxies._get_proxies = _proxies._get_proxy_settings = dict  # type: ignore[attr-defined]
sys.modules["_scproxy"] = _proxies
sys.addaudithook(_refuse)

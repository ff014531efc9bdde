"""What passes by itself and what stays: one list for requests, pods, images and containers.

Whatever passes is waited for, with its reason shown; what stays is told at once. What is in neither
list is taken to pass: who waits in vain hears why when `start_timeout` or `reconnect_seconds` end.
"""

from __future__ import annotations

import re

_BUSY = frozenset({429, 500, 502, 503, 504})
# Two wrote the same object at once (kube-apiserver's own words for a conflict of versions).
_CONFLICT = re.compile(r"Operation cannot be fulfilled|the object has been modified", re.I)
# Who may do what is decided by RBAC in these words; admission speaks in its own.
_NOT_ALLOWED = re.compile(r"\bcannot \w+( resource)?\b", re.I)
_REFUSED_POD = re.compile(
    r"violates PodSecurity|security context constraint|PodSecurityPolicy"
    # LimitRange and ResourceQuota
    r"|(minimum|maximum) \S+ usage per|limit to request ratio|must specify"
    # webhooks that were reached and said no, and policies in the API server
    r"|denied the request|denied request|\bis invalid\b|Invalid value|Required value",
    re.I,
)
_NEVER_PULLED = re.compile(
    r"not found|manifest unknown|unauthorized|authentication required|denied|forbidden"
    r"|no match for platform|no matching manifest|does not exist|invalid reference",
    re.I,
)
_PULLS_LATER = re.compile(
    r"unexpected status( code)?:? (429|5\d\d)|toomanyrequests|too many requests|timed? ?out"
    r"|deadline exceeded|connection (refused|reset)|unexpected EOF|service unavailable"
    r"|TLS handshake",
    re.I,
)
_NOT_PULLED_AT_ALL = frozenset({"InvalidImageName", "ErrImageNeverPull"})
_STARTS_LATER = re.compile(
    r"deadline exceeded|timed out|is reserved|failed to reserve|context canceled"
    r"|failed to sync (configmap|secret) cache|connection refused",
    re.I,
)


def request_passes(status: int, said: str) -> bool:
    """Return whether a request may be answered otherwise when it is made again.

    Args:
        status: HTTP's; 0 if there was no answer.
        said: The server's message.
    """
    return status == 0 or status in _BUSY or (status == 409 and bool(_CONFLICT.search(said)))


def is_not_allowed(said: str) -> bool:
    """Return whether a 403 is about the account's rights, not about what it asked for."""
    return bool(_NOT_ALLOWED.search(said))


def pod_creation_passes(said: str) -> bool:
    """Return whether the job controller may come to make a pod, which it tries again by itself."""
    return not _REFUSED_POD.search(said)


def pull_passes(reason: str, said: str) -> bool:
    """Return whether a node may come to get an image, which it tries again by itself."""
    if reason in _NOT_PULLED_AT_ALL:
        return False
    return bool(_PULLS_LATER.search(said)) or not _NEVER_PULLED.search(said)


def start_passes(said: str) -> bool:
    """Return whether a node may come to start a container, which it tries again by itself."""
    return bool(_STARTS_LATER.search(said))

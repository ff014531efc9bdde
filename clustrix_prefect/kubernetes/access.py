"""Which API server, and where the credentials for it are from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from clustrix_prefect.kubernetes.kubeconfig import Kubeconfig, read_kubeconfig


@dataclass(frozen=True)
class Access:
    """A kubeconfig and one of its contexts.

    With neither a path, content nor a context: inside a cluster the service account of the pod,
    elsewhere KUBECONFIG or `~/.kube/config`.

    Attributes:
        kubeconfig_path: A kubeconfig file on this machine.
        kubeconfig: The content of a kubeconfig.
        context: One of its contexts. Default: its current one.
    """

    kubeconfig_path: str | None = None
    kubeconfig: dict[str, Any] | None = field(default=None, repr=False)
    context: str | None = None

    def read(self) -> Kubeconfig:
        """Read what it says now; files may have changed since the last time.

        Raises:
            ConfigurationError: The package `kubernetes` is missing, or it cannot be read.
        """
        return read_kubeconfig(self.kubeconfig, self.kubeconfig_path, self.context)

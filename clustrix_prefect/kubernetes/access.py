"""Which API server, and what to log in to it with."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import Any

from clustrix_prefect.errors import ConfigurationError, ConnectionFailed


@dataclass(frozen=True)
class Access:
    """Credentials for an API server; the official client reads them.

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

    def configuration(self) -> Any:
        """A `Configuration` of the official client; it renews tokens by itself.

        Raises:
            ConfigurationError: The package is missing, or there are no such credentials.
            ConnectionFailed: A plugin that gets credentials failed.
        """
        try:
            from kubernetes import client, config
        except ImportError as error:
            raise ConfigurationError(
                "The package `kubernetes` is not installed.",
                'Install it with `pip install "clustrix-prefect[kubernetes]"`.',
            ) from error
        found = client.Configuration()
        try:
            if self.kubeconfig is not None:
                config.load_kube_config_from_dict(
                    self.kubeconfig, context=self.context, client_configuration=found
                )
            elif self.kubeconfig_path is not None or self.context is not None:
                config.load_kube_config(
                    self.kubeconfig_path, context=self.context, client_configuration=found
                )
            else:
                try:
                    config.load_incluster_config(client_configuration=found)
                except config.ConfigException:
                    config.load_kube_config(client_configuration=found)
        except config.ConfigException as error:
            raise ConfigurationError(
                "There are no usable credentials for Kubernetes.",
                "Name a kubeconfig that exists and one of its contexts"
                " (`kubectl config get-contexts` lists them).",
            ) from error
        except OSError as error:
            raise ConnectionFailed(
                f"The credentials for Kubernetes could not be obtained: {type(error).__name__}.",
                "Run `kubectl get pods` with the same kubeconfig to see what it says.",
            ) from error
        if not found.verify_ssl:
            warnings.warn(
                f"The certificate of {found.host} is not verified: the kubeconfig says"
                " insecure-skip-tls-verify.",
                stacklevel=2,
            )
        return found


def authorization(configuration: Any) -> dict[str, str]:
    """The headers that say who we are, with a token that was renewed if it was due."""
    return {
        setting["key"]: setting["value"]
        for setting in configuration.auth_settings().values()
        if setting["in"] == "header" and setting["value"]
    }

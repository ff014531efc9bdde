"""What a kubeconfig says: where its API server is, and what to log in to it with.

The official client reads servers, certificates, passwords and the older providers of tokens.
Plugins, token files and impersonation are read here: that client runs a plugin once, goes on
without its answer when it fails, never reads a token file again, and ignores `as`.
"""

from __future__ import annotations

import binascii
import os
import re
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from clustrix_prefect.errors import ConfigurationError

_EXTRA = "as-user-extra"
_MENDED = (
    "Name a kubeconfig that exists and one of its contexts (`kubectl config get-contexts` lists"
    " them); `kubectl get pods` shows whether it works."
)


@dataclass(frozen=True)
class Kubeconfig:
    """One context of a kubeconfig, or the service account of the pod that this process runs in.

    Attributes:
        configuration: A `Configuration` of the official client, without what follows.
        namespace: That of the context, if it names one.
        plugin: What its `exec` says, and where relative paths in it begin.
        token_file: Where a token is, which somebody else renews.
        impersonation: Headers that say whom to act as.
    """

    configuration: Any
    namespace: str | None = None
    plugin: tuple[dict[str, Any], dict[str, Any], str | None] | None = None
    token_file: Path | None = None
    impersonation: tuple[tuple[str, str], ...] = field(default=())


def read_kubeconfig(
    content: dict[str, Any] | None, path: str | None, context: str | None
) -> Kubeconfig:
    """Read one context.

    Args:
        content: A whole kubeconfig.
        path: That of a kubeconfig file, instead.
        context: Its context. Default: its current one. With nothing given: inside a cluster the
            service account of the pod, elsewhere KUBECONFIG or `~/.kube/config`.

    Raises:
        ConfigurationError: It cannot be read, or says what cannot be done here.
    """
    try:
        from kubernetes import client, config
    except ImportError as error:
        raise ConfigurationError(
            "The package `kubernetes` is not installed.",
            'Install it with `pip install "clustrix-prefect[kubernetes]"`.',
        ) from error
    configuration = client.Configuration()
    try:
        if content is None and path is None and context is None:
            try:
                config.load_incluster_config(
                    client_configuration=configuration, try_refresh_token=False
                )
                return _service_account(configuration)
            except config.ConfigException:  # not inside a cluster
                pass
        return _read(configuration, content, path, context)
    except ConfigurationError:
        raise
    # A broken file makes the client fail in any way that Python has.
    except Exception as error:
        raise ConfigurationError(
            f"There are no usable credentials for Kubernetes: {_cause(error)}.", _MENDED
        ) from None  # the cause may quote what it could not read: a token


def _service_account(configuration: Any) -> Kubeconfig:
    from kubernetes.config import incluster_config

    configuration.api_key.pop("BearerToken", None)
    token = Path(incluster_config.SERVICE_TOKEN_FILENAME)
    namespace = token.with_name("namespace")
    return Kubeconfig(
        configuration,
        namespace=namespace.read_text().strip() if namespace.exists() else None,
        token_file=token,
    )


def _read(
    configuration: Any, content: dict[str, Any] | None, path: str | None, context: str | None
) -> Kubeconfig:
    from kubernetes.config import kube_config

    if content is None:
        where = path or kube_config.KUBE_CONFIG_DEFAULT_LOCATION
        merged = kube_config.KubeConfigMerger(where).config
        if merged is None:
            raise ConfigurationError(f"There is no kubeconfig at {where}.", _MENDED)
    else:
        merged = kube_config.ConfigNode("kubeconfig", deepcopy(content))
    name = context or merged["current-context"]
    chosen = merged["contexts"].get_with_name(name)["context"]
    user = _entry(merged, "users", chosen.safe_get("user"))
    cluster = _entry(merged, "clusters", chosen["cluster"])
    base = os.path.dirname(os.path.abspath(user.path)) if user is not None and user.path else None
    said: dict[str, Any] = {}
    if user is not None:
        settings = user.value["user"] = user.value.get("user") or {}
        said = {key: settings.pop(key, None) for key in ("exec", "tokenFile")}
        said["headers"] = _impersonation(settings)
        if isinstance(settings.get("token"), str):
            settings["token"] = header_value(settings["token"])
            said["exec"] = None  # as kubectl has it: a token goes before a plugin
    kube_config.KubeConfigLoader(
        merged, active_context=name, config_base_path=None if content is None else ""
    ).load_and_set(configuration)
    _check_proxy(configuration)
    token_file = said.get("tokenFile")
    return Kubeconfig(
        configuration,
        namespace=chosen.safe_get("namespace") or None,
        plugin=(said["exec"], cluster.value["cluster"], base) if said.get("exec") else None,
        token_file=Path(base or "", token_file).expanduser() if token_file else None,
        impersonation=said.get("headers", ()),
    )


def _entry(merged: Any, kind: str, name: str | None) -> Any:
    if name is None or not merged.safe_get(kind):
        return None
    return merged[kind].get_with_name(name, safe=kind == "users")


def _impersonation(user: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    """Take the keys that say whom to act as, as headers.

    See https://kubernetes.io/docs/reference/access-authn-authz/authentication/#user-impersonation
    """
    headers = [
        ("Impersonate-User", user.pop("as", None)),
        ("Impersonate-Uid", user.pop("as-uid", None)),
    ]
    headers += [("Impersonate-Group", group) for group in user.pop("as-groups", None) or ()]
    for key, values in (user.pop(_EXTRA, None) or {}).items():
        headers += [(f"Impersonate-Extra-{_escaped(key)}", value) for value in values]
    return tuple((name, header_value(str(value))) for name, value in headers if value is not None)


def _escaped(key: str) -> str:
    """Return a key as part of a header's name: what no such name has is percent-encoded."""
    return re.sub(r"[^A-Za-z0-9!#$&'*+.^_`|~-]", lambda found: f"%{ord(found[0]):02X}", key.lower())


def header_value(text: str) -> str:
    """Return a text as headers take it: a token in a file often ends with a new line.

    Raises:
        ConfigurationError: There are characters in it that no header has; without the text.
    """
    value = text.strip()
    if not value or not value.isascii() or not value.isprintable():
        raise ConfigurationError(
            "A token or name of the kubeconfig is empty, or holds characters that none has.",
            "Log in to the cluster again, so that it is written anew.",
        )
    return value


def _check_proxy(configuration: Any) -> None:
    """Refuse proxies that cannot be used, and take the password out of one that can."""
    import urllib3

    proxy = configuration.proxy
    if not proxy:
        return
    scheme, separator, rest = str(proxy).partition("://")
    userinfo, at, address = rest.rpartition("@")
    if not separator:
        raise ConfigurationError(
            "The proxy for Kubernetes has no scheme.",
            "Begin the kubeconfig's `proxy-url` (or HTTPS_PROXY) with http:// or https://.",
        )
    if scheme.lower() not in ("http", "https"):
        raise ConfigurationError(
            f"The proxy for Kubernetes is a {scheme} proxy, which is not supported.",
            "Give the kubeconfig's `proxy-url` (or HTTPS_PROXY) an http:// or https:// one.",
        )
    if at:
        configuration.proxy = f"{scheme}://{address}"
        configuration.proxy_headers = urllib3.make_headers(proxy_basic_auth=unquote(userinfo))


def _cause(error: Exception) -> str:
    """Return what went wrong, in a few words that quote nothing of the file."""
    import yaml

    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"line {error.problem_mark.line + 1} is no YAML"
    if isinstance(error, yaml.YAMLError):
        return "it is no YAML"
    if isinstance(error, (binascii.Error, UnicodeError)):
        return "what should be base64 in it is not"
    if isinstance(error, OSError):
        return f"{error.filename or 'a file'}: {error.strerror or type(error).__name__}"
    if type(error).__name__ == "ConfigException":
        text = re.sub(r"\s*\{.*", " an entry", str(error), flags=re.DOTALL)
        return text.strip().rstrip(".")
    return "it is not built as a kubeconfig is"

"""Which fields Kubernetes has: what is written in a block is what runs, or is refused.

An API server drops fields that it does not know (and before 1.25 without a word).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from clustrix_prefect.errors import ConfigurationError

# Types are texts such as "List[V1Container]" and "Dict[str, str]", in older releases of the
# official client "list[V1Container]" and "dict(str, str)".
_LIST = re.compile(r"list\[(.+)\]", re.I)
_MAPPING = re.compile(r"dict[\[(]str, ?(.+)[\])]", re.I)
_POD = "V1PodTemplateSpec"
# How far below a place a name is looked for that is not known there.
_DEPTH = 4


def check_pod_template(template: Mapping[str, Any], where: str) -> None:
    """Refuse what is not a pod's `metadata` and `spec`, or has fields that no pod has.

    Args:
        template: What would be merged over a pod.
        where: What to call it.

    Raises:
        ConfigurationError: Naming the field, and what was probably meant.
    """
    within = _template_within(template)
    if within:
        raise ConfigurationError(
            f"{where} is a whole {template.get('kind', 'Job or Deployment')}, of which a pod would"
            " get nothing.",
            f"Write what it has under `{within}` alone: a pod's `metadata` and `spec`.",
        )
    if "kind" in template or "apiVersion" in template:
        raise ConfigurationError(
            f"{where} is a whole object, with `apiVersion` and `kind`.",
            "Write a pod's `metadata` and `spec` alone.",
        )
    check_fields(template, _POD, where)


def check_fields(value: Any, kind: str, where: str) -> None:
    """Refuse fields that Kubernetes does not have, at any depth.

    Args:
        value: Part of an object, as the API's JSON has it.
        kind: Its type, as the official client writes it: "V1Volume", "List[V1Volume]".
        where: What to call it.

    Raises:
        ConfigurationError: Naming the field, and what was probably meant.
    """
    for path, unknown, place in _unknown(value, kind, ""):
        full = f"{where}: `{path}`" if path else where
        if unknown is None:
            raise ConfigurationError(f"{full} is not {place}.", "Write it as Kubernetes has it.")
        raise ConfigurationError(
            f"{full} is no field of Kubernetes.", _what_was_meant(path, unknown, place, kind)
        )


def _unknown(value: Any, kind: str, path: str) -> Iterator[tuple[str, str | None, str]]:
    """Yield what is wrong below a place.

    Yields:
        The path to it; and an unknown key with the model that does not have it, or None with what
        should be there instead.
    """
    listed, mapping, fields = _LIST.fullmatch(kind), _MAPPING.fullmatch(kind), _fields_of(kind)
    if value is None or kind == "object":
        return
    if listed:
        if not isinstance(value, list):
            yield path, None, "a list"
            return
        for number, one in enumerate(value):
            yield from _unknown(one, listed[1], f"{path}[{number}]")
    elif mapping or fields:
        if not isinstance(value, Mapping):
            yield path, None, "a mapping"
            return
        for key, one in value.items():
            below = f"{path}.{key}" if path else str(key)
            if mapping:
                yield from _unknown(one, mapping[1], below)
            elif key in fields:
                yield from _unknown(one, fields[key], below)
            else:
                yield below, str(key), kind
    elif isinstance(value, (Mapping, list)):
        yield path, None, "a single value"


def _fields_of(kind: str) -> dict[str, str]:
    """Return the types of a model's fields, by the names that the API has; empty if it is none."""
    from kubernetes.client import models

    model = getattr(models, kind, None)
    if model is None or not hasattr(model, "openapi_types"):
        return {}
    return {model.attribute_map[name]: type_name for name, type_name in model.openapi_types.items()}


def _what_was_meant(path: str, key: str, kind: str, root: str) -> str:
    here = _fields_of(kind)
    parent = path[: len(path) - len(key)]
    below = {name: f"{parent}{place}" for name, place in _places(kind)}
    anywhere = {**dict(_places(root)), **below}
    anywhere |= {_plain(name): f"{parent}{name}" for name in here}
    near = [_plain(key)] if _plain(key) in anywhere else []
    begun = [_plain(name) for name in here if _plain(name).startswith(_plain(key))]
    near = near or (begun if len(begun) == 1 else [])
    near = near or get_close_matches(_plain(key), map(_plain, here), n=1, cutoff=0.7)
    near = near or get_close_matches(_plain(key), anywhere, n=1, cutoff=0.85)
    if near:
        return f"Write `{anywhere[near[0]]}`."
    return (
        f"Known there: {', '.join(sorted(here))}. If the cluster is newer than what the package"
        " `kubernetes` knows, upgrade that."
    )


def _places(kind: str) -> Iterator[tuple[str, str]]:
    """Return names of fields below a model and a path to each, the shortest path last."""
    found, level = [], [(kind, "")]
    for _ in range(_DEPTH):
        following = []
        for model, path in level:
            for name, type_name in _fields_of(model).items():
                listed = _LIST.fullmatch(type_name)
                place = f"{path}{name}"
                found.append((_plain(name), place))
                following.append((listed[1], f"{place}[].") if listed else (type_name, f"{place}."))
        level = following
    return reversed(found)


def _plain(name: str) -> str:
    """Return a name without what people write differently in it."""
    return name.replace("_", "").replace("-", "").lower()


def _template_within(value: Any) -> str:
    """Where an object that makes pods has its template: "spec.template"; empty if it has none."""
    for outer in ("jobTemplate", "template"):
        for path in (("spec", outer), (outer,)):
            found = value
            for name in path:
                found = found.get(name) if isinstance(found, Mapping) else None
            if isinstance(found, Mapping):
                inner = _template_within(found)
                return ".".join((*path, inner) if inner else path)
    return ""

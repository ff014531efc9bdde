"""Each exception has its section in the documentation, and says where it is."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import sys
from pathlib import Path
from typing import Any

import pytest

import clustrix_prefect
from clustrix_prefect.errors import DOCUMENTATION, ClustrixError, JobLost, RemoteTaskError
from clustrix_prefect.far_side.standins.tasks import NotAvailableFarAway
from tests.docs.pages import DOCS, ROOT, anchors

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def _every_exception() -> list[type[BaseException]]:
    """Those of the whole package that reach people: its own, and what stands for a task's."""
    found: set[type[BaseException]] = {ClustrixError, RemoteTaskError, NotAvailableFarAway}
    for module in pkgutil.walk_packages(clustrix_prefect.__path__, "clustrix_prefect."):
        if "far_side" not in module.name:
            names = inspect.getmembers(importlib.import_module(module.name), inspect.isclass)
            found |= {kind for _, kind in names if issubclass(kind, ClustrixError)}
    return sorted(found - {ClustrixError}, key=lambda kind: kind.__name__)


def _made(kind: Any) -> ClustrixError:
    taken = inspect.signature(kind).parameters.values()
    positional = [one for one in taken if one.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
    keywords = [one for one in taken if one.kind is inspect.Parameter.KEYWORD_ONLY]
    needed = {one.name: None for one in keywords if one.default is inspect.Parameter.empty}
    texts = [f"The {one.name}." for one in positional]
    values: list[Any] = [()] if kind.__name__ == "WrongFiles" or not texts else list(texts)
    made: ClustrixError = kind(*values, **needed)
    return made


@pytest.mark.parametrize("kind", _every_exception(), ids=lambda kind: kind.__name__)
def test_an_exception_has_its_section(kind: type[BaseException]) -> None:
    assert kind.__name__.lower() in anchors(DOCS / "troubleshooting.md")


@pytest.mark.parametrize(
    "kind",
    [kind for kind in _every_exception() if issubclass(kind, ClustrixError)],
    ids=lambda kind: kind.__name__,
)
def test_a_message_ends_with_a_link_to_it(kind: type[ClustrixError]) -> None:
    *_, last = str(_made(kind)).splitlines()
    assert last == f"See {DOCUMENTATION}troubleshooting/#{kind.__name__.lower()}"


def test_a_class_of_somebody_else_leads_to_the_nearest_of_ours() -> None:
    class Vanished(JobLost):
        pass

    assert Vanished("It vanished.").link.endswith("#joblost")


def test_the_documentation_is_where_the_package_says() -> None:
    urls = tomllib.loads(Path(ROOT / "pyproject.toml").read_text())["project"]["urls"]
    site = tomllib.loads((ROOT / ".zensical.toml").read_text())["project"]["site_url"]
    assert urls["Documentation"] == site == DOCUMENTATION

"""The bundles of one function, made as its calls need them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, Protocol

from clustrix_prefect.errors import NotPortable
from clustrix_prefect.packaging.blobs import shared_values
from clustrix_prefect.packaging.bundle import Built, Bundle, Home
from clustrix_prefect.packaging.by_source import SourceBuilder
from clustrix_prefect.packaging.identity import digest
from clustrix_prefect.packaging.imports import Imports
from clustrix_prefect.packaging.ownership import is_user_module
from clustrix_prefect.packaging.pickling import HERE, Met, Reference
from clustrix_prefect.packaging.value_bundle import ValueBuilder

# Data files beside the user's modules travel with them, up to so many bytes in all.
DATA_LIMIT = 16 * 1024 * 1024
# What the arguments of several calls name is brought by one bundle, up to so much.
_MOST_MET = 256


class Builder(Protocol):
    """Makes bundles of one function."""

    def build(self, extra: Iterable[Met]) -> Built:
        """Return the bundle, with this code besides what the function needs."""


class FunctionBundles:
    """The bundles of one function for one version of Python.

    Args:
        function: What a task runs.
        python: The far side's Python version.
        name: The task's name, for errors.
        data_limit: How many bytes of data files travel with the user's modules.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        python: tuple[int, int],
        name: str,
        data_limit: int = DATA_LIMIT,
    ) -> None:
        self.home = Home.of(function)
        self._function = function
        self._python = python
        self._name = name
        self._data_limit = data_limit
        self._built: dict[frozenset[Met], Built] = {}
        self._met: frozenset[Met] = frozenset()
        self._apart: set[frozenset[Met]] = set()
        self._lock = threading.Lock()

    def for_arguments(self, met: frozenset[Met]) -> Bundle:
        """Return the bundle that also brings the code that a call's arguments name.

        Packages that they need are those of this call alone: others run where there are none.

        Raises:
            NotPortable: The function cannot travel.
        """
        packages = {
            each.module
            for each in met
            if isinstance(each, Reference) and not each.name and not is_user_module(each.module)
        }
        if packages:
            met = frozenset(each for each in met if getattr(each, "module", None) not in packages)
        with self._lock:
            bundle = self._bundle(met)
        missing = packages - bundle.imports.required
        if not missing:
            return bundle
        return replace(
            bundle,
            imports=bundle.imports | Imports(frozenset(missing)),
            needs_sha256=digest(bundle.needs_sha256, *sorted(missing)),
        )

    def _bundle(self, met: frozenset[Met]) -> Bundle:
        """Return the bundle for what the arguments of this call and of earlier ones name.

        One whose code needs packages that the others do without has a bundle of its own: the others
        run where there are none.
        """
        if met not in self._apart:
            if met <= self._met:
                return self._current(self._met).bundle
            together = met | (self._met if len(self._met) < _MOST_MET else frozenset())
            built = self._current(together)
            if not self._needs_more(built.bundle):
                if self._met:
                    self._built.pop(self._met, None)
                self._met = together
                return built.bundle
            del self._built[together]
            if len(self._apart) >= _MOST_MET:
                self._built = {each: self._built[each] for each in self._built.keys() - self._apart}
                self._apart.clear()
            self._apart.add(met)
        return self._current(met).bundle

    def _needs_more(self, bundle: Bundle) -> bool:
        required = bundle.imports.required
        return bool(required) and required != self._current(frozenset()).bundle.imports.required

    def _current(self, met: frozenset[Met]) -> Built:
        built = self._built.get(met)
        if built is None or not self._is_current(built):
            built = self._built[met] = self._builder().build(met)
        return built

    def _is_current(self, built: Built) -> bool:
        shared = shared_values()
        if shared is not None and shared is built.checked_for:
            return True
        built.checked_for = shared
        try:
            return built.is_current()
        except NotPortable:
            return False  # building it anew says why

    def _builder(self) -> Builder:
        what = f"the task {self._name!r}"
        if self._python == HERE:
            return ValueBuilder(self._function, what, self.home, self._data_limit)
        return SourceBuilder(self._function, self._python, what, self.home)

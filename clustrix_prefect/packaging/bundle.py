"""A task's function with all of the user's code that it needs.

A bundle has two parts: a document that says what there is, and pickles. To the same minor version
of Python the function itself is in the pickles (`by_value.py`), to another one its source is in the
document (`by_source.py`).
"""

from __future__ import annotations

import functools
import sys
import threading
import types
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from clustrix_prefect.errors import NotPortable
from clustrix_prefect.packaging.identity import digest
from clustrix_prefect.packaging.imports import Imports
from clustrix_prefect.packaging.ownership import is_user_module, plain_function
from clustrix_prefect.packaging.parts import Part, SharedValues, shared_values
from clustrix_prefect.packaging.pickling import HERE, Met, Reference

# Data files beside the user's modules travel with them, up to so many bytes in all.
DATA_LIMIT = 16 * 1024 * 1024
# What the arguments of several calls name is brought by one bundle, up to so much.
_MOST_MET = 256


@dataclass(frozen=True)
class Bundle:
    """What travels of a function.

    Attributes:
        code: The document that the far side reads.
        code_sha256: Its name in the far side's store.
        captured: Pickles of the function, or of the values around it; or None.
        captured_sha256: Their name in the far side's store.
        identity: The same for the same code and values, in any process.
        imports: What the code imports that does not travel with it.
        needs_sha256: Names the code together with what it imports.
        sources: The source in it: the file, the line where it begins, the text.
        met: The user's code that it brings.
        parts: The user's modules, as files.
    """

    code: bytes
    code_sha256: str
    captured: bytes | None
    captured_sha256: str | None
    identity: str
    imports: Imports
    needs_sha256: str
    sources: tuple[tuple[str, int, str], ...]
    met: frozenset[Met]
    parts: tuple[Part, ...] = ()


@dataclass(frozen=True)
class Home:
    """The user's module in which a function was written, and what is in that module."""

    module: str | None
    namespace: dict[str, Any] = field(repr=False, compare=False)

    @classmethod
    def of(cls, function: Any) -> Home:
        """Where a function was written, below what is around it."""
        while True:
            function = plain_function(function)
            if isinstance(function, functools.partial):
                function = function.func
            elif isinstance(function, types.MethodType):
                function = function.__func__
            elif hasattr(function, "__wrapped__"):
                function = function.__wrapped__
            else:
                break
        namespace = getattr(function, "__globals__", {})
        module = namespace.get("__name__") or getattr(function, "__module__", None)
        if not isinstance(module, str) or not is_user_module(module):
            return cls(None, {})
        return cls(module, namespace or vars(sys.modules[module]))


@dataclass
class Built:
    """A bundle, and whether it still says what is there."""

    bundle: Bundle
    is_current: Callable[[], bool]
    checked_for: SharedValues | None = field(default_factory=shared_values)


class Builder(Protocol):
    """Makes bundles of one function."""

    def build(self, extra: Iterable[Met]) -> Built:
        """The bundle, with this code besides what the function needs."""


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
        """The bundle that also brings the code that a call's arguments name.

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
        """The bundle for what the arguments of this call and of earlier ones name.

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
            from clustrix_prefect.packaging.value_bundle import ValueBuilder

            return ValueBuilder(self._function, what, self.home, self._data_limit)
        from clustrix_prefect.packaging.by_source import SourceBuilder

        return SourceBuilder(self._function, self._python, what, self.home)

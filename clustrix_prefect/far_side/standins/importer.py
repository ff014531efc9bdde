"""Finds the stand-ins for `prefect` and `clustrix_prefect` before any installed package.

The stand-ins themselves are loaded when a call first imports one: most calls do not. Where the
code needs more of Prefect than its stand-in has, and Prefect is installed, it is used itself,
without an API: see `real_prefect`.
"""

import sys
from importlib.machinery import ModuleSpec

from . import context

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Optional

_NAMES = ("prefect", "clustrix_prefect")

# Which of the two this process uses, once it was asked for Prefect: they cannot be mixed.
_uses_real: "Optional[bool]" = None
_wants_real = False


class StandInImporter:
    """A finder and loader without their abstract parents, which take long to import."""

    def find_spec(self, name: str, path: "Any" = None, target: "Any" = None) -> "Any":
        top = name.partition(".")[0]
        if top not in _NAMES:
            return None
        if top == "prefect" and _is_real():
            from . import real_prefect

            spec = real_prefect.find_spec(name, path)
            if spec is not None or not name.startswith("prefect.runtime"):
                return spec
        loader = self  # type: Any
        return ModuleSpec(name, loader, is_package=True)

    def create_module(self, spec: "Any") -> "Any":
        from . import standin

        return standin.make_module(spec.name)

    def exec_module(self, module: "Any") -> None:
        from . import standin

        for name in standin.blobs_of(module.__name__):
            __import__(name)


def _is_real() -> bool:
    """Return whether Prefect itself is used; the first time that is asked for decides."""
    global _uses_real
    if _uses_real is None and _wants_real:
        from . import real_prefect

        if real_prefect.is_installed():
            _forget_stand_in()
            _uses_real = True
            context.follow(real_prefect.set_tags)
    return bool(_uses_real)


def _forget_stand_in() -> None:
    for name in list(sys.modules):
        if name.partition(".")[0] == "prefect":
            del sys.modules[name]


def want_real(wanted: bool) -> None:
    """Say whether the code of the next call needs more of Prefect than the stand-in has."""
    global _wants_real
    _wants_real = wanted


def install() -> None:
    """Put the stand-ins in place for this process."""
    importer = StandInImporter()  # type: Any
    sys.meta_path.insert(0, importer)

"""What results name instead of holding it: the flow has it.

Where such a pickle is opened, the names lead to `clustrix_prefect.packaging.references`.
"""

import operator
import sys
from typing import Any, Dict

from . import context
from .by_value import REFERENCES

getitem = operator.getitem


def class_at_home(tracker_id: str, module: str, name: str) -> Any:
    """Return a class of the flow's, that came here by value."""
    return context.library.active.local_class(tracker_id)


def named(module: str, name: str) -> Any:
    """Return what one of the flow's modules calls by this name."""
    found: Any = sys.modules[module]
    for part in name.split("."):
        found = getattr(found, part)
    return found


def namespace(module: str) -> Dict[str, Any]:
    """Return the globals of one of the flow's modules."""
    return vars(sys.modules[module])


class Namespace:
    """The globals of a module, in a pickle.

    Args:
        module: The module.
    """

    def __init__(self, module: str) -> None:
        self._module = module

    def __reduce__(self) -> Any:
        return namespace, (self._module,)


# So that they are pickled as the names of the client's functions.
OFFERED: Dict[str, Any] = {}
for _function in (class_at_home, named, namespace):
    _function.__module__, _function.__qualname__ = REFERENCES, _function.__name__
    OFFERED[_function.__name__] = _function

"""Which cases are refused where, and why; and where Python itself says something else."""

from __future__ import annotations

import sys

_NO_STATEMENT = r"no `class` statement of its module made it"
# From 3.12 on a class of `make_dataclass` knows its module, which makes it again by its own line.
_MEASURES = ("closures-2", "closures-25", "closures-26") if sys.version_info < (3, 12) else ()
_ROW = rf"closures\.Row .*: {_NO_STATEMENT}"
_ONCE_MORE = r"making it again would run {} once more"
_REMOVED = r"line 10: Model\.gone was removed from the class"
_ANNOTATIONS = r"line {}: `\.{}` looks at annotations"
_LACKS = r"module '{}' has no attribute '{}'"

# By every other version, for it is not the flow's.
BY_OTHERS = {
    **dict.fromkeys(_MEASURES, rf"types\.Measure .*: {_NO_STATEMENT}"),
    "closures-3": _ROW,
    "closures-16": _ONCE_MORE.format(r"mixed\.<locals>\.Meta"),
    "closures-27": _ROW,
    "patched-0": _REMOVED,
    "patched-1": _REMOVED,
    "patched-14": _REMOVED,
    "annotated-4": _ANNOTATIONS.format(108, "annotation"),
    "annotated-5": _ANNOTATIONS.format(89, "annotation"),
    "annotated-10": _ANNOTATIONS.format(114, "__annotations__"),
    "annotated-13": _ANNOTATIONS.format(117, "__annotations__"),
    # An object of a class whose name stands for the function that keeps it.
    "kept-26": rf"kept\.Settings .*: {_NO_STATEMENT}.*'made', which Settings keeps \(.*, line \d",
    "inside-9": r"Box .*: the local variable 'T' that it was made with is not to be had any more",
    **{f"wild-{number}": "No module named 'pydantic'" for number in range(33, 38)},
    "inside-17": _ONCE_MORE.format(r"registered\.<locals>\.Plugin\.__init_subclass__"),
}
# By these, for what they lack.
BY_AGE = {
    "3.6": {
        **dict.fromkeys(
            ("closures-14", "closures-15", "closures-40"),
            _LACKS.format("functools", "cached_property"),
        ),
        **dict.fromkeys(
            (
                "closures-2",
                "closures-23",
                "closures-25",
                "closures-26",
                "annotated-6",
                "annotated-7",
                "annotated-15",
                *(f"wild-{number}" for number in (4, 5, 6, 7, 57)),
                "kept-37",
            ),
            "No module named 'dataclasses'",
        ),
        "annotated-0": _LACKS.format("functools", "singledispatchmethod"),
        "annotated-1": r"line 50: `\.register` that looks at annotations needs Python 3\.7",
        **dict.fromkeys(("annotated-9", "wild-25"), _LACKS.format("typing", "runtime_checkable")),
        "wild-24": "No module named 'contextvars'",
        "modules-7": r"No module named 'importlib\.resources'",
        "modules-19": r"No module named 'importlib\.resources'",
    }
}
BY_AGE["3.8"] = dict.fromkeys(
    ("wild-6", "wild-7"), r"dataclass\(\) got an unexpected keyword argument 'slots'"
)
# What Python itself says otherwise, by its version.
_ABSTRACT = "Can't instantiate abstract class"
_NO_GROUPS = "has no attribute 'ExceptionGroup'"
BY_PYTHON = {
    "3.6": {
        "closures-9": _ABSTRACT,
        "wild-28": _ABSTRACT,
        "wild-68": _NO_GROUPS,
        "raised-19": "module 'asyncio' has no attribute 'run'",
        "wild-29": "module 'asyncio' has no attribute 'run'",
        "kept-43": "module 'asyncio' has no attribute 'run'",
        "modules-14": "unexpected keyword argument 'mp_context'",
    },
    "3.8": {"closures-9": _ABSTRACT, "wild-28": _ABSTRACT, "wild-68": _NO_GROUPS},
    "3.13": {"closures-9": _ABSTRACT, "wild-28": _ABSTRACT},
}
# What cloudpickle itself makes something else of in another process, or nothing.
BY_CLOUDPICKLE = {
    *(f"closures-{number}" for number in (1, 5, 10, 11, 12, 14, 15, 16, 19, 23, 31, 40)),
    *("patched-8", "patched-10", "patched-18", "annotated-0", "annotated-1"),
    *(f"raised-{number}" for number in (13, 14, 15)),
    *(f"modules-{number}" for number in (9, 11, 12, 13, 14)),
    *(f"inside-{number}" for number in (0, 1, 4, 5, 13, 15, 17, 18)),
    *(f"wild-{number}" for number in (1, 2, 6, 23, 57)),
    *(f"kept-{number}" for number in (6, 27, 38, 45, 50)),
}
# Where there is only the standard library.
WITHOUT_PACKAGES: set[str] = {f"wild-{number}" for number in range(33, 38)}

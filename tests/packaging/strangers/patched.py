"""What was changed after its definition, and names that are bound more than once."""

from __future__ import annotations

import functools
import sys
from typing import Any, ClassVar


class Model:
    scale = 1
    cache: ClassVar[dict[str, int]] = {}

    def predict(self, x: int) -> int:
        return x

    def shout(self) -> str:
        return "plain"

    def gone(self) -> str:
        return "here"


def loud(method: Any) -> Any:
    return lambda self: method(self).upper()


Model.predict = lambda self, x: -2 * x  # type: ignore[method-assign]
Model.shout = loud(Model.shout)  # type: ignore[method-assign]
Model.scale = 7
Model.cache["a"] = 1
Model.extra = property(lambda self: self.scale + 1)  # type: ignore[attr-defined]
del Model.gone
for _name in ("first", "second"):
    setattr(Model, _name, lambda self, n=_name: n)


def versioned() -> Any:
    return versioned.version, versioned.log  # type: ignore[attr-defined]


versioned.version = 3  # type: ignore[attr-defined]
versioned.log = ["a"]  # type: ignore[attr-defined]
rate = 2


def scaled(x: int, r: int = rate) -> int:
    return x * r


rate = 3
steps = []
for step in range(3):

    def stepped(x: int, step: int = step) -> int:
        return x + step

    steps.append(stepped)
step = "later"  # type: ignore[assignment]
plus, minus = (lambda a, b: a + b), (lambda a, b: a - b)


def twice() -> str:
    return "first"


once = twice


def twice() -> str:  # type: ignore[no-redef]
    return "second"


HANDLERS: dict[str, Any] = {}


def handler(name: str) -> Any:
    def note(function: Any) -> Any:
        HANDLERS[name] = function
        return function

    return note


@handler("a")
def do_a() -> int:
    return 1


@handler("b")
class DoB:
    def __call__(self) -> int:
        return 2


class Plugin:
    known: ClassVar[list[str]] = []

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__()
        Plugin.known.append(cls.__name__ + kwargs.get("suffix", ""))


class One(Plugin, suffix="!"):
    pass


class Two(One):
    pass


@functools.singledispatch
def kind(x: Any) -> str:
    return "any"


@kind.register(int)
def _(x: int) -> str:
    return "int"


@kind.register(list)
def _(x: list[Any]) -> str:
    return "list of " + ", ".join(map(kind, x))


@functools.total_ordering
class Version:
    def __init__(self, n: int) -> None:
        self.n = n

    def __eq__(self, other: Any) -> bool:
        return bool(self.n == other.n)

    def __lt__(self, other: Any) -> bool:
        return bool(self.n < other.n)

    __hash__ = None  # type: ignore[assignment]


COUNT = 5
original_print = print
if COUNT > 3:

    def chosen() -> str:
        return "large"

else:

    def chosen() -> str:
        return "small"


try:
    import no_such_module as fast  # type: ignore[import-not-found]
except ImportError:
    fast = None
this = sys.modules[__name__]
scaled.__defaults__ = (11,)
twice.__name__ = "renamed"


def counts() -> int:
    global COUNT
    COUNT += 1
    return COUNT


def nested_globals() -> Any:
    def inside() -> Any:
        return [rate for _ in range(2)], (lambda: chosen())()

    return inside()


CASES: list[Any] = [
    lambda: (Model().predict(3), Model().shout(), Model().first(), Model().second()),
    lambda: (Model.scale, Model.cache, Model().extra, hasattr(Model, "gone")),
    versioned,
    lambda: (scaled(5), rate),
    lambda: ([f(10) for f in steps], step),
    lambda: (plus(1, 2), minus(1, 2)),
    lambda: (once(), twice(), twice.__name__),
    lambda: (HANDLERS["a"](), HANDLERS["b"]()(), sorted(HANDLERS)),
    lambda: (Plugin.known, One.__mro__[1].__name__),
    lambda: [each.__name__ for each in Plugin.__subclasses__()],
    lambda: (kind(1), kind("a"), kind([1, "b", [2]])),
    lambda: (Version(1) <= Version(2), Version(3) >= Version(4), max(map(Version, [1, 5])).n),
    lambda: (chosen(), fast),
    nested_globals,
    (lambda m: (m.predict(1), m.scale), Model()),
    (lambda f: (f(1), f.__defaults__), scaled),
    (lambda fs: [f(1) for f in fs], steps),
    (lambda h: h["a"](), HANDLERS),
    (lambda f: f([1]), kind),
    (lambda x: getattr(this, "rate", x), 3),
    lambda: __name__.rpartition(".")[2],
]
CASES.pop(-2)

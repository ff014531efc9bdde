"""What people write that nobody would think of first."""

from __future__ import annotations

import abc
import asyncio
import builtins
import collections
import contextlib
import contextvars
import dataclasses
import enum
import functools
import operator
import pickle
import typing
import weakref
from typing import Any

import pydantic


class Typed:
    """A descriptor that knows its name."""

    def __set_name__(self, owner: Any, name: str) -> None:
        self.name = name

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else vars(instance).get(self.name, self.name)

    def __set__(self, instance: Any, value: Any) -> None:
        vars(instance)[self.name] = value


class Uses:
    field = Typed()


class Slots:
    __slots__ = ("__dict__", "__weakref__", "_x")

    def __init__(self, x: int) -> None:
        self._x = x
        self.extra = x + 1


class Stateful:
    __slots__ = ("a", "b")

    def __init__(self) -> None:
        self.a, self.b = 1, 2

    def __getstate__(self) -> Any:
        return {"a": self.a}

    def __setstate__(self, state: Any) -> None:
        self.a, self.b = state["a"], "restored"


class Registry(type):
    known: typing.ClassVar[dict[str, type]] = {}

    def __new__(cls, name: str, bases: Any, space: Any, **options: Any) -> Any:
        made = super().__new__(cls, name, bases, space)
        made.options = options
        cls.known[name] = made
        return made

    def __init__(cls, name: str, bases: Any, space: Any, **options: Any) -> None:
        super().__init__(name, bases, space)

    def __contains__(cls, item: Any) -> bool:
        return item in cls.options

    def __len__(cls) -> int:
        return len(cls.options)


class Registered(metaclass=Registry, colour="red"):
    pass


@dataclasses.dataclass(frozen=True, order=True)
class Root:
    x: int
    kind: typing.ClassVar[str] = "root"
    tags: tuple[str, ...] = dataclasses.field(default=(), compare=False)


@dataclasses.dataclass(frozen=True, order=True)
class Leaf(Root):
    y: int = 5
    secret: dataclasses.InitVar[int] = 3

    def __post_init__(self, secret: int) -> None:
        object.__setattr__(self, "hidden", secret)


@dataclasses.dataclass(slots=True, kw_only=True)
class Slim:
    a: int
    b: list[int] = dataclasses.field(default_factory=list)


class Job:
    def __init__(self, n: int) -> None:
        self.n = n

    def run(self, by: int, *, plus: int = 0) -> int:
        return self.n * by + plus

    double = functools.partialmethod(run, 2)

    @classmethod
    def of(cls, text: str) -> Any:
        return cls(int(text))

    @staticmethod
    def still(x: int) -> int:
        return x - 1


bound = functools.partial(Job(3).run, plus=1)
unbound = functools.partial(Job.run, Job(4), 5)
of_class = functools.partial(Job.of, "6")


def deep() -> Any:
    total = [0]

    def outer() -> Any:
        def middle() -> Any:
            def inner(x: int) -> int:
                total[0] += x
                return total[0]

            return inner

        return middle()

    def reset() -> None:
        total.clear()
        total.append(0)

    return outer(), outer(), reset


first, second, reset = deep()


def used_deep() -> Any:
    before = (first(2), second(3))
    reset()
    return before, first(1)


class Coded(Exception):
    def __init__(self, code: int, *, hint: str = "none") -> None:
        super().__init__(f"code {code}")
        self.code, self.hint = code, hint

    def __str__(self) -> str:
        return f"{self.args[0]} ({self.hint})"


class Reduced(Exception):
    def __init__(self, a: int, b: int) -> None:
        super().__init__(a + b)
        self.a, self.b = a, b

    def __reduce__(self) -> Any:
        return Reduced, (self.a, self.b)


class Silent(OSError):
    def __init__(self, path: str) -> None:
        super().__init__(2, "gone", path)
        self.path = path


class Chained(KeyError):
    def __str__(self) -> str:
        return "chained " + super().__str__()


def raising(what: str) -> Any:
    if what == "coded":
        raise Coded(5, hint="look")
    if what == "reduced":
        raise Reduced(1, 2)
    if what == "silent":
        raise Silent("/x")
    if what == "chained":
        try:
            {}["a"]
        except KeyError as error:
            raise Chained("b") from error
    if what == "notes":
        error = Coded(6)
        error.__dict__["extra"] = {"a": [1]}
        raise error
    if what == "unicode":
        b"\xff".decode("ascii")
    return "nothing"


def grouped() -> Any:
    group = getattr(builtins, "ExceptionGroup")  # noqa: B009
    raise group("some", [Coded(1), group("inner", [Reduced(2, 3), ValueError("x")])])


class Perm(enum.IntFlag):
    R = 4
    W = 2
    X = 1
    RWX = 7

    def letters(self) -> str:
        return "".join(p.name or "" for p in (Perm.R, Perm.W, Perm.X) if p in self)


class Auto(str, enum.Enum):
    def _generate_next_value_(name, start, count, last):  # type: ignore[override,misc]
        return name.lower()

    ONE = enum.auto()
    TWO = enum.auto()

    @classmethod
    def _missing_(cls, value: object) -> Any:
        return cls.ONE if value == "first" else None


@functools.singledispatch
def size(value: Any) -> str:
    return "other"


@size.register(list)
def _(value: Any) -> str:
    return f"list of {len(value)}"


@size.register(Job)
def _(value: Any) -> str:
    return f"job {value.n}"


def in_context() -> Any:
    request = contextvars.ContextVar("request", default="nobody")
    token = request.set("me")
    seen = contextvars.copy_context().run(lambda: request.get())
    request.reset(token)
    return seen, request.get()


UserId = typing.NewType("UserId", int)
T = typing.TypeVar("T")


@typing.runtime_checkable
class Closes(typing.Protocol):
    def close(self) -> None: ...


class Door:
    def close(self) -> None:
        pass


class Stack(typing.Generic[T]):
    def __init__(self, *items: T) -> None:
        self.items = list(items)

    def __class_getitem__(cls, item: Any) -> Any:
        return super().__class_getitem__(item)  # type: ignore[misc]


class Template(abc.ABC):
    @property
    @abc.abstractmethod
    def name(self) -> str: ...

    def greet(self) -> str:
        return f"hello {self.name}"


class Named(Template):
    name = "named"  # type: ignore[assignment]


async def numbers(n: int) -> Any:
    for each in range(n):
        await asyncio.sleep(0)
        yield each


def collected(n: int) -> Any:
    async def collect() -> Any:
        return [each async for each in numbers(n)]

    return asyncio.run(collect())


TABLE = {"add": lambda a, b: a + b, "sub": lambda a, b: a - b, "ops": [operator.mul, max]}


class Priced:
    @property
    def price(self) -> int:
        return 1


Priced.price = property(lambda self: 42)  # type: ignore[method-assign,assignment]


class Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True)
    n: int
    names: list[str] = pydantic.Field(default_factory=list)

    @pydantic.field_validator("n")
    @classmethod
    def positive(cls, value: int) -> int:
        if value < 0:
            raise ValueError("negative")
        return value * 10

    @pydantic.computed_field  # type: ignore[prop-decorator]
    @property
    def label(self) -> str:
        return f"{self.n}:{self.names}"


class Tree(pydantic.BaseModel):
    children: list[Tree] = []
    holds: Model | None = None


def define(cls: Any) -> Any:
    names = list(cls.__annotations__)

    def __init__(self: Any, *values: Any) -> None:
        for name, value in zip(names, values):  # noqa: B905
            setattr(self, name, value)

    def __repr__(self: Any) -> str:
        return f"{cls.__name__}({', '.join(f'{n}={getattr(self, n)!r}' for n in names)})"

    return type(
        cls.__name__,
        (),
        {
            **{k: v for k, v in vars(cls).items() if k not in ("__dict__", "__weakref__")},
            "__init__": __init__,
            "__repr__": __repr__,
        },
    )


@define
class Defined:
    a: int
    b: str


class Tracked:
    alive: typing.ClassVar[weakref.WeakSet[Any]] = weakref.WeakSet()

    def __init__(self) -> None:
        Tracked.alive.add(self)


kept = Tracked()


def alive() -> Any:
    other = Tracked()
    return len(Tracked.alive), kept in Tracked.alive, other in Tracked.alive


class Missing:
    _only: Any = None

    def __new__(cls) -> Any:
        if cls._only is None:
            cls._only = super().__new__(cls)
        return cls._only

    def __bool__(self) -> bool:
        return False

    def __reduce__(self) -> str:
        return "MISSING"


MISSING = Missing()


def optional(value: Any = MISSING) -> Any:
    return value is MISSING


class Lazy:
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return f"lazy {name}"


class Counted(collections.Counter):  # type: ignore[type-arg]
    def top(self) -> Any:
        return self.most_common(1)[0]


class Dotted(dict):  # type: ignore[type-arg]
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self[name]

    __setattr__ = dict.__setitem__  # type: ignore[assignment]


class Node:
    def __init__(self, name: str) -> None:
        self.name, self.next = name, self

    def __hash__(self) -> int:
        return hash(self.name)

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, Node) and self.name == other.name

    def __repr__(self) -> str:
        return f"<{self.name}>"


@contextlib.contextmanager
def managed(value: int) -> Any:
    yield value + 1


def with_managed() -> Any:
    with managed(1) as value, contextlib.ExitStack() as stack:
        stack.callback(lambda: None)
        return value


def recursing(n: int, seen: Any = None) -> Any:
    return n if n == 0 else recursing(n - 1)


class Callable_:
    def __call__(self, x: int) -> int:
        return x + 100


def memo(function: Any) -> Any:
    cache: dict[Any, Any] = {}

    @functools.wraps(function)
    def wrapper(*args: Any) -> Any:
        if args not in cache:
            cache[args] = function(*args)
        return cache[args], len(cache)

    wrapper.cache = cache  # type: ignore[attr-defined]
    return wrapper


@memo
def slow(x: int) -> int:
    return x * x


slow(3)


class WithSuper(Job):
    def run(self, by: int, *, plus: int = 0) -> int:
        return super().run(by, plus=plus) + 1000


def echo(value: Any) -> Any:
    return value


def same(one: Any, other: Any) -> Any:
    return one is other, type(one).__name__


CYCLE: list[Any] = [1]
CYCLE.append(CYCLE)
_thing = Job(9)


CASES: list[Any] = [
    lambda: (Uses().field, isinstance(Uses.field, Typed), Uses.field.name),
    (lambda s: (s._x, s.extra, sorted(vars(s))), Slots(1)),
    lambda: pickle.loads(pickle.dumps(Stateful())).b,
    lambda: (Registered.options, "colour" in Registered, len(Registered), sorted(Registry.known)),
    lambda: (Leaf(1) < Leaf(2), Leaf(1).hidden, Leaf(1).kind, repr(Leaf(1, ("t",)))),
    (lambda leaf: dataclasses.replace(leaf, x=9, secret=1), Leaf(1)),
    lambda: (Slim(a=1), hasattr(Slim(a=1), "__dict__"), dataclasses.asdict(Slim(a=2))),
    (echo, Slim(a=1, b=[2])),
    lambda: (bound(2), unbound(), of_class().n, Job(3).double(plus=1), Job.still(3)),
    (lambda f: f(2), bound),
    (lambda f: f(7), Job(2).run),
    (lambda f: f("8").n, Job.of),
    (used_deep,),
    *((raising, what) for what in ("coded", "reduced", "silent", "chained", "notes", "unicode")),
    (raising, "nothing"),
    (lambda: (Perm(5).letters(), Perm.RWX.letters(), int(Perm.R | Perm.W)),),
    (echo, Perm.R | Perm.X),
    lambda: (Auto.ONE.value, Auto("first").name, Auto.TWO == "two"),
    lambda: (size([1, 2]), size(Job(3)), size(3)),
    (in_context,),
    lambda: (UserId(5), UserId.__name__, isinstance(Door(), Closes), isinstance(1, Closes)),
    lambda: (Stack[int](1, 2).items, Stack("a").items),
    lambda: (Named().greet(), issubclass(Named, Template)),
    lambda: Template(),  # type: ignore[abstract]
    (collected, 3),
    lambda: (TABLE["add"](1, 2), TABLE["sub"](5, 3), [f(2, 3) for f in TABLE["ops"]]),
    (lambda t: t["add"](t["sub"](3, 1), 4), TABLE),
    lambda: (Priced().price, type(Priced.price).__name__),
    lambda: (Model(n=1, names=["a"]).label, Model(n=2).model_dump()),
    lambda: Model(n=-1),
    (lambda m: (m.n, m.label, type(m).__name__), Model(n=3)),
    (echo, Tree(children=[Tree(holds=Model(n=1))])),
    lambda: Tree.model_validate({"children": [{"holds": {"n": 2}}]}).children[0].holds.n,  # type: ignore[union-attr]
    lambda: repr(Defined(1, "x")),
    (echo, Defined(2, "y")),
    (alive,),
    lambda: (optional(), optional(None)),
    (optional, MISSING),
    (lambda lazy: (lazy.name, type(lazy).__name__), Lazy()),
    (lambda c: (c.top(), type(c).__name__), Counted("aab")),
    (lambda d: (d.a, type(d).__name__), Dotted(a=1)),
    (echo, Counted("abb")),
    (lambda s: sorted(n.name for n in s), {Node("a"), Node("b")}),
    (lambda n: n.next is n, Node("c")),
    lambda: (CYCLE[1] is CYCLE, len(CYCLE)),
    (lambda c: (c[1] is c, c[0]), CYCLE),
    (with_managed,),
    (recursing, 5),
    (lambda f: f(1), Callable_()),
    lambda: slow(5),
    lambda: WithSuper(2).run(3),
    (same, _thing, _thing),
    lambda: pickle.loads(pickle.dumps({"e": Coded(1).args, "p": Perm.R, "l": Leaf(3)})),
    (lambda s: s.indices(4), slice(1, 5, 2)),
    (lambda r: (list(r), r.step), range(0, 6, 2)),
    (lambda d: (d["x"], d["y"]), collections.defaultdict(list, x=[1])),
    (lambda d: list(d), collections.deque([1, 2], maxlen=2)),
    (lambda m: m["a"], collections.ChainMap({"a": 1}, {"a": 2})),
    (lambda f: f(x=1), functools.partial(dict, y=2)),
    (lambda f: (f([3, 1, 2]), f.__name__), sorted),
    (lambda g: g({"a": {"b": 3}}), operator.itemgetter("a")),
    (lambda g: g(Job(5)), operator.attrgetter("n")),
    (lambda g: g(Job(5)), operator.methodcaller("run", 2)),
]
if hasattr(builtins, "ExceptionGroup"):
    CASES.append((grouped,))

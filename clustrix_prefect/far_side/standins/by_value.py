"""The user's code as it was at home, of the same minor version of Python.

A bundle of this kind has the function and what it uses as pickles, and the user's other modules as
files in a directory, which Python itself imports. It is loaded once in a process, and what
its code keeps in variables, classes and caches lasts from call to call.

The constructors here are cloudpickle's, without its import, which takes as long as the start of
the interpreter; they are made for each bundle, so that the classes of two never mix.
"""

import builtins
import functools
import marshal
import os
import sys
import types
from importlib.machinery import ModuleSpec

from ..wire.pickles import PortableUnpickler

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, List, Optional, Tuple

    from ..wire.pickles import Names

REFERENCES = "clustrix_prefect.packaging.references"
_CLOUDPICKLE = "cloudpickle.cloudpickle"


class ValueBundle:
    """One bundle's code in this process.

    Args:
        document: What the client says of the code.
        captured: Pickles of the function, of names that others import, and of classes.
        directory: Gives the path of the user's modules, by their content and size.
    """

    foreign = False

    def __init__(
        self,
        document: "Dict[str, Any]",
        captured: bytes,
        directory: "Callable[[str, int], str]",
    ) -> None:
        self._document = document
        self.wants_prefect = bool(document["prefect"])
        self._captured = captured
        self._names = make_names(self)
        self._function = None  # type: Any
        self._is_loaded = False
        self.classes = {}  # type: Dict[str, Any]
        self._finished = set()  # type: set[int]
        self._tops = {name.partition(".")[0] for name in document["modules"]}
        self._namespaces = [each["name"] for each in document["namespaces"]]
        # The packages that these are in: not their code, unless something imports it.
        self._parents = {parent for name in self._namespaces for parent in parents_of(name)}
        self._parents -= set(self._namespaces)
        self._empty = set()  # type: set[str]
        self._loaded = {}  # type: Dict[str, Any]
        self._hidden = {}  # type: Dict[str, Any]
        self._roots = []  # type: List[str]
        self._everywhere = []  # type: List[str]
        if document["files"] is not None:
            path = directory(*document["files"])
            self._roots = [os.path.join(path, root) for root in document["roots"]]
            self._everywhere = [os.path.join(path, root) for root in document["everywhere"]]
            self._path = path

    # --- taking its place -----------------------------------------------------------------

    def put_up(self) -> None:
        """Have `import` find this bundle's modules."""
        self._hidden = self._pop_modules()
        sys.modules.update(self._loaded)

    def put_away(self) -> None:
        """Make room for another bundle's modules."""
        self._loaded = self._pop_modules()
        sys.modules.update(self._hidden)

    def _pop_modules(self) -> "Dict[str, Any]":
        mine = self._empty.union(self._namespaces)
        return {
            name: sys.modules.pop(name)
            for name in list(sys.modules)
            if name in mine or name.partition(".")[0] in self._tops
        }

    def find_spec(self, name: str, path: "Any" = None) -> "Any":
        """Return the spec of a package that one of its modules by value is in.

        Pickling a class imports the package at the top of its module's name: where there is no
        other, it is an empty one.
        """
        if name not in self._parents:
            return None
        self._parents.discard(name)  # `sys.meta_path` leads here, too
        try:
            spec = _find_spec(name, path)
        finally:
            self._parents.add(name)
        if spec is None:
            self._empty.add(name)
            spec = ModuleSpec(name, None, is_package=True)
        if spec.loader is None:
            spec.loader = _NoCode()
        execute = spec.loader.exec_module

        def bind_and_execute(module: "Any") -> None:
            self._bind_children(module)
            execute(module)

        spec.loader.exec_module = bind_and_execute
        return spec

    def _bind_children(self, package: "Any") -> None:
        """Give a package what importing its modules would have given it: they are there."""
        for name in self._namespaces:
            parent, _, last = name.rpartition(".")
            if parent == package.__name__ and name in sys.modules:
                setattr(package, last, sys.modules[name])

    def _put_on_path(self) -> None:
        if self._roots and sys.path[: len(self._roots)] != self._roots:
            sys.path[:0] = self._roots
            if self._everywhere:  # for the interpreters that the call starts
                before = os.environ.get("PYTHONPATH")
                paths = self._everywhere + ([before] if before else [])
                os.environ["PYTHONPATH"] = os.pathsep.join(paths)

    # --- its code -------------------------------------------------------------------------

    def function(self, names: "Names") -> "Any":
        """Return the function to call."""
        self._put_on_path()
        if not self._is_loaded:
            self._load(names)
        return self._function

    def _load(self, names: "Names") -> None:
        for each in self._document["namespaces"]:
            self._add_namespace(each)
        pickles = PortableUnpickler(self._captured, False, self.all_names(names))
        function = pickles.load()
        asked = pickles.load()
        pickles.load()  # the classes are known by their ids
        for module, values in asked.items():
            vars(sys.modules[module]).update(values)
        self._function = _unbound(function)
        self._is_loaded = True

    def all_names(self, names: "Names") -> "Names":
        """Return the names that every pickle knows, and those that are this bundle's."""
        found = dict(names)
        found.update(self._names)
        return found

    def _add_namespace(self, described: "Dict[str, Any]") -> None:
        module = types.ModuleType(described["name"])  # type: Any
        module.__package__ = described["package"]
        if described["path"] is not None:
            module.__file__ = os.path.join(self._path, described["path"])
        elif described["home"] is not None and os.path.exists(described["home"]):
            module.__file__ = described["home"]
        if described["name"] != "__main__":
            module.__spec__ = None
        sys.modules[described["name"]] = module
        parent, _, last = described["name"].rpartition(".")
        if parent in sys.modules:
            setattr(sys.modules[parent], last, module)

    def lines(self) -> "Dict[str, List[str]]":
        """Return the lines of each file whose code is in the pickles."""
        import io

        lines = self._document["lines"]
        return {path: list(io.StringIO(text)) for path, text in lines.items()}

    # --- what its pickles name ------------------------------------------------------------

    def make_class(
        self,
        metaclass: "Any",
        name: str,
        bases: "Tuple[Any, ...]",
        attributes: "Dict[str, Any]",
        tracker_id: str,
        extra: "Any",
    ) -> "Any":
        """Return a class without what is in it."""
        if tracker_id in self.classes:
            return self.classes[tracker_id]
        made = self._new_class(metaclass, name, bases, attributes)
        self.classes[tracker_id] = made
        return made

    def _new_class(
        self, metaclass: "Any", name: str, bases: "Tuple[Any, ...]", attributes: "Dict[str, Any]"
    ) -> "Any":
        attributes = {sys.intern(key): value for key, value in attributes.items()}
        # What the user's own code did when a class was made, it did at home: a second time it
        # would register the class once more.
        constructor = metaclass
        while self._is_users(constructor):
            constructor = constructor.__mro__[1]
        if constructor is not metaclass:
            return constructor.__new__(metaclass, name, bases, attributes)
        resolve = getattr(types, "resolve_bases", tuple)  # 3.7
        hooks = [
            (base, vars(base)["__init_subclass__"])
            for each in resolve(bases)
            for base in each.__mro__
            if self._is_users(getattr(vars(base).get("__init_subclass__"), "__func__", None))
        ]
        for base, _ in hooks:
            base.__init_subclass__ = _NO_HOOK
        try:
            return types.new_class(
                name, bases, {"metaclass": metaclass}, lambda space: space.update(attributes)
            )
        finally:
            for base, hook in hooks:
                base.__init_subclass__ = hook

    def _is_users(self, value: "Any") -> bool:
        module = getattr(value, "__module__", None)
        if not isinstance(module, str):
            return False
        return module in self._namespaces or module.partition(".")[0] in self._tops

    def fill_class(self, made: "Any", state: "Any") -> "Any":
        """Give a class what is in it."""
        if id(made) in self._finished:
            return made
        self._finished.add(id(made))
        attributes, _ = state
        registry = attributes.pop("_abc_impl", None)
        for name, value in attributes.items():
            setattr(made, name, value)
        if "__firstlineno__" in attributes and sys.version_info >= (3, 13):
            made.__firstlineno__ = attributes["__firstlineno__"]
        for each in registry or ():
            made.register(each)
        return made

    def make_enum(
        self,
        bases: "Tuple[Any, ...]",
        name: str,
        qualname: str,
        members: "Dict[str, Any]",
        module: str,
        tracker_id: str,
        options: "Dict[str, Any]",
    ) -> "Any":
        """Return an enumeration with its members, without what else is in it."""
        if tracker_id in self.classes:
            return self.classes[tracker_id]
        metaclass = type(bases[-1])  # type: Any
        space = metaclass.__prepare__(name, bases)
        for each, value in members.items():
            space[each] = value
        made = metaclass.__new__(metaclass, name, bases, space, **options)
        made.__module__, made.__qualname__ = module, qualname
        self.classes[tracker_id] = made
        return made

    def fill_enum(self, made: "Any", state: "Any") -> "Any":
        """Give an enumeration its methods, and its members what they hold."""
        if id(made) in self._finished:
            return made
        attributes, members = state
        self.fill_class(made, (attributes, {}))
        for name, held in members.items():
            vars(made.__members__[name]).update(held)
        return made

    def tracked(self, tracker_id: str, make: "Callable[[], Any]") -> "Any":
        """Return a type variable, which is one object wherever it is named."""
        if tracker_id not in self.classes:
            self.classes[tracker_id] = make()
        return self.classes[tracker_id]

    def local_class(self, tracker_id: str) -> "Any":
        """Return a class that no module knows by its name."""
        return self.classes[tracker_id]

    def home_of(self, value: "Any") -> "Optional[str]":
        """Return the id by which the flow knows a class that came from there."""
        for tracker_id, each in self.classes.items():
            if each is value:
                return tracker_id
        return None

    def brings(self, module: str) -> bool:
        """Return whether this module came by value."""
        return module in self._namespaces

    def shares(self, namespace: "Dict[str, Any]") -> bool:
        """Return whether these globals are those of a module that came by value."""
        name = namespace.get("__name__")  # type: Any
        module = sys.modules.get(name) if name in self._namespaces else None
        return module is not None and vars(module) is namespace


class _NoCode:
    """Loads a package that has no code."""

    def create_module(self, spec: "Any") -> None:
        return None  # an ordinary one

    def exec_module(self, module: "Any") -> None:
        pass


def _find_spec(name: str, path: "Any") -> "Any":
    for finder in sys.meta_path:
        spec = finder.find_spec(name, path)
        if spec is not None:
            return spec
    return None


def parents_of(name: str) -> "List[str]":
    """Return the packages that a module is in."""
    parts = name.split(".")
    return [".".join(parts[:length]) for length in range(1, len(parts))]


def _do_nothing(cls: "Any", **options: "Any") -> None:
    """Stands for a hook while a class is made."""


_NO_HOOK = classmethod(_do_nothing)  # type: ignore[arg-type]


def make_names(bundle: ValueBundle) -> "Names":
    """Return what the names in a bundle's pickles stand for."""
    return {
        (_CLOUDPICKLE, "_make_function"): make_function,
        (_CLOUDPICKLE, "_function_setstate"): fill_function,
        (_CLOUDPICKLE, "_make_skeleton_class"): bundle.make_class,
        (_CLOUDPICKLE, "_class_setstate"): bundle.fill_class,
        (_CLOUDPICKLE, "_make_typevar"): functools.partial(make_type_variable, bundle),
        (_CLOUDPICKLE, "_builtin_type"): functools.partial(getattr, types),
        (REFERENCES, "enum"): bundle.make_enum,
        (REFERENCES, "fill_enum"): bundle.fill_enum,
        (REFERENCES, "local_class"): bundle.local_class,
        (REFERENCES, "code"): marshal.loads,
        (REFERENCES, "cell"): getattr(types, "CellType", type),  # 3.8
        (REFERENCES, "fill_cell"): fill_cell,
        (REFERENCES, "cached"): make_cached,
        (REFERENCES, "exception"): make_exception,
        (REFERENCES, "dispatcher"): make_dispatcher,
        (REFERENCES, "namespace"): namespace_of,
    }


def _unbound(function: "Any") -> "Any":
    """Return the function below what Prefect's decorators made of it."""
    if isinstance(function, (classmethod, staticmethod)):
        return function.__func__
    return function


def namespace_of(module: str) -> "Dict[str, Any]":
    """Return the globals of a module."""
    if module not in sys.modules:
        __import__(module)
    return vars(sys.modules[module])


def make_function(
    code: "Any", namespace: "Dict[str, Any]", name: "Any", defaults: "Any", closure: "Any"
) -> "Any":
    """Return a function, its surroundings still empty."""
    namespace.setdefault("__builtins__", builtins)
    return types.FunctionType(code, namespace, name, defaults, closure)


def fill_function(function: "Any", state: "Any") -> None:
    """Give a function what it had at home."""
    attributes, slots = state
    function.__dict__.update(attributes)
    function.__globals__.update(slots.pop("__globals__"))
    slots.pop("_cloudpickle_submodules")
    slots.pop("__closure__")
    for name, value in slots.items():
        setattr(function, name, value)


def fill_cell(cell: "Any", state: "Any") -> None:
    """Give a cell of a closure its content."""
    cell.cell_contents = state[0]


def make_type_variable(
    bundle: ValueBundle,
    name: str,
    bound: "Any",
    constraints: "Any",
    covariant: bool,
    contravariant: bool,
    tracker_id: str,
) -> "Any":
    """Return a `typing.TypeVar`."""
    import typing

    return bundle.tracked(
        tracker_id,
        lambda: typing.TypeVar(
            name, *constraints, bound=bound, covariant=covariant, contravariant=contravariant
        ),
    )


def make_exception(kind: "Any", args: "Any", state: "Dict[str, Any]") -> "Any":
    """Return an exception, without its `__init__`, which need not take its `args`."""
    made = kind.__new__(kind, *args)
    made.args = args
    made.__dict__.update(state)
    return made


def make_cached(function: "Any", maxsize: "Optional[int]", typed: bool) -> "Any":
    """Return a function with a cache, which is empty."""
    return functools.lru_cache(maxsize=maxsize, typed=typed)(function)


def make_dispatcher(implementations: "List[Tuple[Any, Any]]") -> "Any":
    """Return a function that `functools.singledispatch` made."""
    known = dict(implementations)
    dispatcher = functools.singledispatch(known.pop(object))
    for kind, function in known.items():
        dispatcher.register(kind, function)
    return dispatcher

"""What a call comes to, as a result: a signed header and a body.

A value is pickled. An exception is taken apart and each part pickled by itself, so that one
part that cannot travel loses only itself. A value that cannot be pickled is named.
"""

import sys
import time

from ..wire import fast_stdlib as light
from ..wire.processes import HOST
from ..wire.signing import sha256, sign_result

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Optional

# The newest protocol that Python 3.6 reads too.
PROTOCOL = 4
# A chain of causes longer than this is cut.
MAX_CAUSES = 10
PYTHON = list(sys.version_info[:3])


class Outcome:
    """How a call ended: a status and the bytes that go with it."""

    def __init__(self, status: str, body: bytes) -> None:
        self.status = status
        self.body = body


def returned(value: "Any") -> Outcome:
    """Return the outcome of a call that returned."""
    try:
        return Outcome("ok", dumps(value))
    except Exception as error:  # pickling runs the user's own __reduce__ and __getstate__
        where = _describe_unpicklable(value)
        return _fault("not_portable", type(value).__name__, where or "{}".format(error))


def _describe_unpicklable(value: "Any") -> "Optional[str]":
    from ..wire.unpicklable import describe_unpicklable

    try:
        return describe_unpicklable(value, lambda part: _dumps_or_none(part) is not None)
    except Exception:  # a user's own __repr__
        return None


def raised(error: BaseException, skip_frames: int = 0) -> Outcome:
    """Return the outcome of a call that raised.

    Args:
        error: What it raised.
        skip_frames: Leading frames of the traceback that are ours.
    """
    return Outcome("raised", light.dumps(_take_apart(error, skip_frames, MAX_CAUSES), PROTOCOL))


def returned_plain(value: "Any") -> Outcome:
    """Return the outcome of a call that returned, as plain data alone."""
    from ..wire.plain import to_plain

    try:
        return Outcome("ok", light.to_json(to_plain(value)).encode("ascii"))
    except Exception as error:  # a user's own __repr__ in a key
        return _fault("not_portable", type(value).__name__, _text_of(error, str))


def raised_plain(error: BaseException, skip_frames: int = 0) -> Outcome:
    """Return the outcome of a call that raised, as plain data alone: see `raised`."""
    facts = _described(_take_apart(error, skip_frames, MAX_CAUSES), error)
    return Outcome("raised", light.to_json(facts).encode("ascii"))


def _described(parts: "Dict[str, Any]", error: BaseException) -> "Dict[str, Any]":
    """Return what can be said of an exception in words, and its arguments if they are plain."""
    from ..wire.plain import to_plain

    facts = {name: parts[name] for name in ("type_name", "text", "traceback", "notes")}
    try:
        facts["args"] = [to_plain(arg) for arg in _arguments(error)]
    except Exception:  # then its text has to do
        facts["args"] = None
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    described = parts["cause"] is not None and cause is not None
    facts["cause"] = _described(parts["cause"], cause) if described and cause else None
    return facts


def refused(type_name: str, text: str) -> Outcome:
    """Return the outcome of a call that was not run."""
    return _fault("refused", type_name, text)


def _fault(status: str, type_name: str, text: str) -> Outcome:
    return Outcome(status, light.to_json({"type_name": type_name, "text": text}).encode("ascii"))


def dumps(value: "Any") -> bytes:
    """Return a pickle of the value; cloudpickle is asked only for what pickle cannot do."""
    try:
        return light.dumps(value, 5 if _is_plain_array(value) else PROTOCOL)
    except Exception:
        return _dumps_more()(value)  # type: ignore[no-any-return]


def _is_plain_array(value: "Any") -> bool:
    """Whether it is an array that protocol 5 pickles without making a copy of its bytes first.

    Others it writes as older versions of numpy do not read them, or makes them read-only.
    """
    return (
        type(value).__name__ == "ndarray"
        and sys.version_info >= (3, 8)
        and bool(value.flags.forc and value.flags.writeable)
    )


def _dumps_more() -> "Any":
    """What pickles with the user's classes by name: cloudpickle, or pickle where it is missing."""
    try:
        import cloudpickle
    except ImportError:
        return _dumps_local_classes
    import io

    from ..standins import at_home, context

    library = context.library

    __import__(at_home.class_at_home.__module__)  # the stand-in: pickle looks for the names in it

    class ByName(cloudpickle.CloudPickler):  # type: ignore[misc]
        def reducer_override(self, value: "Any") -> "Any":
            if isinstance(value, type):
                generic = vars(value).get("__pydantic_generic_metadata__") or {}
                if generic.get("origin") is not None:
                    arguments = generic["args"]
                    arguments = arguments if len(arguments) > 1 else arguments[0]
                    return at_home.getitem, (generic["origin"], arguments)
                if _has_its_name(value):
                    if not library.brings(value.__module__):
                        return NotImplemented
                    # Not pickle's own way, which imports the packages that the module is in.
                    return at_home.named, (value.__module__, value.__qualname__)
                tracker_id = library.home_of(value)
                if tracker_id is not None:
                    return at_home.class_at_home, (
                        *(tracker_id, value.__module__, value.__qualname__),
                    )
            if isinstance(value, (memoryview, io.TextIOWrapper)):
                # It would turn them into their content, without a word.
                raise TypeError("cannot pickle '{}' object".format(type(value).__name__))
            return super().reducer_override(value)

        def _dynamic_function_reduce(self, function: "Any") -> "Any":
            reduced = super()._dynamic_function_reduce(function)
            if not library.shares(function.__globals__):
                return reduced
            # The flow has that module, with its own variables.
            make, arguments, (state, slots) = reduced[:3]
            namespace = self.globals_ref.setdefault(
                "at home", at_home.Namespace(function.__globals__["__name__"])
            )
            arguments = (arguments[0], namespace) + tuple(arguments[2:])
            slots["__globals__"], slots["_cloudpickle_submodules"] = {}, []
            return (make, arguments, (state, slots)) + tuple(reduced[3:])

    def dumps_by_name(value: "Any") -> bytes:
        buffer = io.BytesIO()
        ByName(buffer, PROTOCOL).dump(value)
        return buffer.getvalue()

    return dumps_by_name


def _dumps_local_classes(value: "Any") -> bytes:
    """Return a pickle in which classes of the flow's that were made inside functions are named."""
    import io
    import pickle

    from ..standins import at_home, context

    library = context.library

    __import__(at_home.class_at_home.__module__)

    in_python = pickle._Pickler  # type: Any

    class ByName(in_python):  # type: ignore[misc]
        def save_global(self, value: "Any", name: "Any" = None) -> None:
            tracker_id = library.home_of(value) if isinstance(value, type) else None
            if tracker_id is None:
                super().save_global(value, name)
            else:
                known = (tracker_id, value.__module__, value.__qualname__)
                self.save_reduce(at_home.class_at_home, known, obj=value)

    buffer = io.BytesIO()
    ByName(buffer, PROTOCOL).dump(value)
    return buffer.getvalue()


def _has_its_name(value: "Any") -> bool:
    """Return whether the class is what its module knows by its name, as at home."""
    found = sys.modules.get(value.__module__)  # type: Any
    for part in value.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is value


def _dumps_or_none(value: "Any") -> "Optional[bytes]":
    try:
        return dumps(value)
    except Exception:
        return None


def _text_of(value: "Any", render: "Any") -> str:
    """`repr` or `str` of a user's object, whose methods may fail."""
    try:
        return str(render(value))
    except Exception as error:
        return "<{} whose text could not be had: {}>".format(
            type(value).__name__, type(error).__name__
        )


def _take_apart(error: BaseException, skip_frames: int, causes: int) -> "Dict[str, Any]":
    kind = type(error)
    frames = error.__traceback__
    for _ in range(skip_frames):
        frames = frames.tb_next if frames is not None and frames.tb_next else frames
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    state = {
        name: _dumps_or_none(value)
        for name, value in getattr(error, "__dict__", {}).items()
        if name != "__notes__"
    }
    notes = getattr(error, "__notes__", None)
    members = _members(error)
    return {
        "whole": None if members is not None else _whole(error),
        "type": _dumps_or_none(kind),
        "type_name": "{}.{}".format(kind.__module__, kind.__qualname__).replace("builtins.", "", 1),
        "said": [(_dumps_or_none(arg), _text_of(arg, repr)) for arg in error.args],
        "args": [(_dumps_or_none(arg), _text_of(arg, repr)) for arg in _arguments(error)],
        # Each by itself: one that cannot travel as it is would take the group with it.
        "members": None if members is None else [_take_apart(one, 0, causes) for one in members],
        "state": {name: pickled for name, pickled in state.items() if pickled is not None},
        "text": _text_of(error, str),
        "traceback": _render(error, frames),
        "cause": _take_apart(cause, 0, causes - 1) if cause is not None and causes else None,
        "notes": [str(note) for note in notes] if isinstance(notes, (list, tuple)) else [],
    }


def _whole(error: BaseException) -> "Optional[bytes]":
    """Return the pickle of an exception, if what is opened from it is as the exception was."""
    try:
        data = dumps(error)
        again = light.loads(data)
        if type(again) is not type(error) or str(again) != str(error):
            return None
        state = getattr(error, "__dict__", {})
        found = getattr(again, "__dict__", {})
        same = all(
            name in state and _are_alike(value, state[name]) for name, value in found.items()
        )
        if not _are_alike(again.args, error.args):
            again.args = error.args  # as where it is opened
            same = same and str(again) == str(error)
    except Exception:  # any code of the user's
        return None
    return data if same else None


def _are_alike(one: "Any", other: "Any") -> bool:
    if type(one) is not type(other):
        return False
    if isinstance(one, (tuple, list)):
        return len(one) == len(other) and all(map(_are_alike, one, other))
    if isinstance(one, (str, bytes, int, float, complex, type(None))):
        return bool(one == other or one != one)
    return True


def _members(error: "Any") -> "Any":
    """Return the exceptions of a group, which there are from 3.11 on; None if this is none."""
    import builtins

    group = getattr(builtins, "BaseExceptionGroup", None)
    return None if group is None or not isinstance(error, group) else error.exceptions


def _arguments(error: BaseException) -> "Any":
    """What the exception was made of, which for an `OSError` is more than its `args`."""
    import types

    if isinstance(type(error).__reduce__, types.FunctionType):
        return error.args  # what it says there, it says to its own constructor
    try:
        reduced = error.__reduce__()
    except Exception:
        return error.args
    made_by_class = isinstance(reduced, tuple) and reduced[0] is type(error)
    return reduced[1] if made_by_class else error.args


def _render(error: BaseException, frames: "Any") -> str:
    import traceback

    try:
        return "".join(traceback.format_exception(type(error), error, frames))
    except Exception:  # the exception's own __str__ fails
        return "".join(traceback.format_tb(frames)) + type(error).__name__


def make_header(
    call: "Dict[str, Any]", outcome: Outcome, trace: "Dict[str, Any]", peak_memory: int
) -> "Dict[str, Any]":
    """Return the signed header of a call's result."""
    digest = sha256(outcome.body)
    return {
        "protocol": 1,
        "call": call["id"],
        "attempt": call["attempt"],
        "kind": "result",
        "status": outcome.status,
        "sha256": digest,
        "size": len(outcome.body),
        "mac": sign_result(call, outcome.status, digest),
        "host": HOST,
        "pid": trace["pid"],
        "job": trace["job"],
        "started": trace["started"],
        "ended": time.time(),
        "python": PYTHON,
        "peak_memory": peak_memory,
        "exit_code": 0,
    }

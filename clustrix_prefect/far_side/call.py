"""Runs one call: verify, unpack, call, pack."""

import io
import os
import sys
import types
from binascii import a2b_base64

from . import functions, importer, outcome
from .capture import Capture
from .light import Unpickler
from .outcome import Outcome
from .signing import call_is_signed, sha256

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, Optional

    from .lines import LogLine
    from .parts import PartsStore

# Frames of this module that lead to the user's function.
_OUR_FRAMES = 2
_CACHE_BYTES = 64 * 1024 * 1024


class Refused(Exception):
    """A call that must not, or cannot, be run here.

    Args:
        kind: The type of what stands in the way.
        text: What that is.
    """

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(kind, text)
        self.kind = kind
        self.text = text


class BlobCache:
    """Verified blobs of a store, the latest kept in memory.

    A warm worker reads and verifies the code that its calls share once.
    """

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self._parts = None  # type: Optional[PartsStore]
        self._kept = {}  # type: Dict[str, bytes]  # by name, the oldest first
        self._size = 0

    def get(self, sha: str) -> bytes:
        """A blob's bytes.

        Raises:
            Refused: They are not there, or are not what their name says.
        """
        data: "Optional[bytes]" = self._kept.get(sha)
        if data is not None:
            return data
        try:
            with open(os.path.join(self.directory, sha), "rb") as file:
                data = file.read()
        except OSError as error:
            raise Refused(type(error).__name__, str(error)) from None
        if sha256(data) != sha:
            raise Refused("Tampered", "the blob {} is not what its name says".format(sha))
        if len(data) <= _CACHE_BYTES:
            self._kept[sha] = data
            self._size += len(data)
            while self._size > _CACHE_BYTES:
                self._size -= len(self._kept.pop(next(iter(self._kept))))
        return data

    @property
    def parts(self) -> "PartsStore":
        """The large values and files that arguments refer to."""
        if self._parts is None:
            # Most calls have none.
            from .parts import PartsStore
            from .store import Store

            self._parts = PartsStore(Store(self.directory))
        return self._parts


class _ForeignUnpickler(Unpickler):
    """Reads a pickle made by another minor version, without its bytecode."""

    def find_class(self, module: str, name: str) -> "Any":
        found = super().find_class(module, name)
        # Bytecode of another version does not fail, it crashes the interpreter.
        if found is types.CodeType or name == "_builtin_type":
            raise Refused("ForeignBytecode", "it contains bytecode of another Python version")
        return found


def _unpickle(
    data: bytes, python: "Any", what: str, refer: "Optional[Callable[[Any], Any]]" = None
) -> "Any":
    try:
        if not python or list(python[:2]) == list(sys.version_info[:2]):
            return functions.loads(data, refer)
        unpickler = _ForeignUnpickler(io.BytesIO(data))  # type: Any
        if refer is not None:
            unpickler.persistent_load = refer
        return unpickler.load()
    except Refused:
        raise
    except Exception as error:  # unpickling runs any constructor, and imports any module
        text = "{} cannot be opened here: {}".format(what, error)
        raise Refused(type(error).__name__, text) from error


def run(
    call: "Dict[str, Any]",
    blobs: BlobCache,
    log: "Callable[[LogLine], None]",
    trace: "Dict[str, Any]",
) -> "Any":
    """Run a call.

    Args:
        call: The call, as the client sent it.
        blobs: Where its code and arguments are.
        log: Takes the lines that it logs.
        trace: When and in which job it started.

    Returns:
        The header of its result and the body.
    """
    _reset_peak_memory()
    try:
        result = _run(call, blobs, log)
    except Refused as error:
        result = outcome.refused(error.kind, error.text)
    return outcome.make_header(call, result, trace, _peak_memory()), result.body


def _run(call: "Dict[str, Any]", blobs: BlobCache, log: "Callable[[LogLine], None]") -> Outcome:
    if not call_is_signed(call):
        raise Refused("Tampered", "the signature of the call does not fit")
    context = call.get("context") or {}
    if call.get("inline") is not None:
        payload = a2b_base64(call["inline"])
        if sha256(payload) != call["payload_sha256"]:
            raise Refused("Tampered", "the arguments are not those that were signed")
    else:
        payload = blobs.get(call["payload_sha256"])
    bundle = blobs.get(call["bundle"])
    importer.set_context(dict(context, store=blobs.directory))
    with Capture(context, log):
        try:
            opener = _Arguments(context.get("python"), blobs if call.get("refers") else None)
            value = _unpack_and_call(bundle, payload, opener)
        except Refused:
            raise
        except BaseException as error:
            # KeyboardInterrupt and SystemExit too: they end the call, not the worker.
            return outcome.raised(error, skip_frames=_OUR_FRAMES)
        return outcome.returned(value)


class _Arguments:
    """Opens a call's arguments.

    Args:
        python: The Python version that made them.
        blobs: Where the parts are that they refer to, if they do.
    """

    def __init__(self, python: "Any", blobs: "Optional[BlobCache]") -> None:
        self.python = python
        self._blobs = blobs

    def open(self, payload: bytes) -> "Any":
        """The positional arguments, and those by name."""
        if self._blobs is None:
            return _unpickle(payload, self.python, "the arguments")
        from .parts import Parts

        return self._open_with(payload, Parts(self._blobs.parts, self._open_with))

    def _open_with(self, data: bytes, parts: "Any") -> "Any":
        return _unpickle(data, self.python, "the arguments", parts.load)


def _unpack_and_call(bundle: bytes, payload: bytes, arguments: _Arguments) -> "Any":
    # Unpickled afresh for each call: no call sees what another did to the function's globals.
    function = _unpickle(bundle, arguments.python, "the function")
    args, kwargs = arguments.open(payload)
    value = function(*args, **kwargs)
    if isinstance(value, types.CoroutineType):
        return _run_coroutine(value)
    return value


def _run_coroutine(coroutine: "Any") -> "Any":
    import asyncio

    run = getattr(asyncio, "run", None)
    if run is not None:
        return run(coroutine)
    # Python 3.6
    loop = asyncio.new_event_loop()
    try:
        asyncio.set_event_loop(loop)
        return loop.run_until_complete(coroutine)
    finally:
        asyncio.set_event_loop(None)
        loop.close()


def _reset_peak_memory() -> None:
    try:
        descriptor = os.open("/proc/self/clear_refs", os.O_WRONLY)
        try:
            os.write(descriptor, b"5")
        finally:
            os.close(descriptor)
    except OSError:
        pass  # then the peak covers the process's earlier calls too


def _peak_memory() -> int:
    """The largest resident size since the reset, in bytes."""
    try:
        descriptor = os.open("/proc/self/status", os.O_RDONLY)
        try:
            status = os.read(descriptor, 4096)
        finally:
            os.close(descriptor)
        return int(status.partition(b"VmHWM:")[2].split(None, 1)[0]) * 1024
    except (OSError, ValueError, IndexError):
        import resource

        # Less exact: it includes the process that this one was forked from.
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

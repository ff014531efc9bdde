"""Runs one call: verify, unpack, call, pack."""

import os
import types
from binascii import a2b_base64

from ..standins import context as call_context
from ..wire.files import open_late
from ..wire.signing import call_is_signed, sha256
from . import outcome
from .bundle import CannotRun, Library
from .capture import Capture
from .outcome import Outcome

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, Optional

    from ..standins.log_capture import LogLine
    from .blobs import BlobStore

# Frames of this module that lead to the user's function.
_OUR_FRAMES = 2
_CACHE_BYTES = 64 * 1024 * 1024


library = call_context.library = Library()


class BlobCache:
    """Verified blobs of a store, the latest kept in memory.

    A warm worker reads and verifies the code that its calls share once.
    """

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self._store = None  # type: Optional[BlobStore]
        self._kept = {}  # type: Dict[str, bytes]  # by name, the oldest first
        self._size = 0

    def get(self, sha: str) -> bytes:
        """Return a blob's bytes.

        Raises:
            CannotRun: They are not there, or are not what their name says.
        """
        data: "Optional[bytes]" = self._kept.get(sha)
        if data is not None:
            return data
        try:
            with open_late(os.path.join(self.directory, sha)) as file:
                data = file.read()
        except FileNotFoundError:
            raise CannotRun(
                "NotInStore", "the content {} is not in the store".format(sha)
            ) from None
        except OSError as error:
            raise CannotRun(type(error).__name__, str(error)) from None
        if sha256(data) != sha:
            raise CannotRun("Tampered", "the blob {} is not what its name says".format(sha))
        if len(data) <= _CACHE_BYTES:
            self._kept[sha] = data
            self._size += len(data)
            while self._size > _CACHE_BYTES:
                self._size -= len(self._kept.pop(next(iter(self._kept))))
        return data

    @property
    def store(self) -> "BlobStore":
        """The large values and files that arguments refer to."""
        if self._store is None:
            # Most calls have none.
            from ..store.store import Store
            from .blobs import BlobStore

            self._store = BlobStore(Store(self.directory))
        return self._store


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
    except CannotRun as error:
        result = outcome.refused(error.kind, error.text)
    return outcome.make_header(call, result, trace, _peak_memory()), result.body


def _run(call: "Dict[str, Any]", blobs: BlobCache, log: "Callable[[LogLine], None]") -> Outcome:
    if not call_is_signed(call):
        raise CannotRun("Tampered", "the signature of the call does not fit")
    context = call.get("context") or {}
    if call.get("inline") is not None:
        payload = a2b_base64(call["inline"])
        if sha256(payload) != call["payload_sha256"]:
            raise CannotRun("Tampered", "the arguments are not those that were signed")
    else:
        payload = blobs.get(call["payload_sha256"])
    if call.get("expects"):
        _look_at_node(call["expects"])
    plain = call.get("results") == "json"
    call_context.set_context(dict(context, store=blobs.directory))
    with Capture(context, log):
        try:
            value = _unpack_and_call(call, blobs, payload)
        except CannotRun:
            raise
        except BaseException as error:
            # KeyboardInterrupt and SystemExit too: they end the call, not the worker.
            library.show_sources()
            raised = outcome.raised_plain if plain else outcome.raised
            return raised(error, skip_frames=_OUR_FRAMES)
        return outcome.returned_plain(value) if plain else outcome.returned(value)


def _look_at_node(expected: "Dict[str, Any]") -> None:
    """Raise if this node does not have what the login node has."""
    from ..wire import installed as having

    differences = having.differences(expected)
    if differences:
        raise CannotRun("NodeMismatch", "; ".join(differences))


def _unpack_and_call(call: "Dict[str, Any]", blobs: BlobCache, payload: bytes) -> "Any":
    bundle, captured = call["bundle"], call["captured"]
    try:
        function = library.function(
            (bundle, captured),
            lambda: (blobs.get(bundle), None if captured is None else blobs.get(captured)),
            lambda content, size: blobs.store.folder(content, size, "modules"),
        )
        args, kwargs = _open_arguments(payload, blobs if call.get("refers") else None)
    except Exception as error:
        from ..wire.failures import Failure

        if isinstance(error, Failure):
            # Of the store, which was deleted or changed under us.
            raise CannotRun(error.kind, error.message) from None
        raise
    value = function(*args, **kwargs)
    if isinstance(value, types.CoroutineType):
        return _run_coroutine(value)
    return value


def _open_arguments(payload: bytes, blobs: "Optional[BlobCache]") -> "Any":
    """Return the positional arguments, and those by name.

    Args:
        payload: Their pickle.
        blobs: Where the blobs are that it refers to, if it does.
    """
    if blobs is None:
        return library.arguments(payload)
    from .blobs import BlobLoader

    def open_with(data: bytes, loader: "Any") -> "Any":
        return library.arguments(data, loader.load)

    return open_with(payload, BlobLoader(blobs.store, open_with))


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
    """Return the largest resident size since the reset, in bytes."""
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

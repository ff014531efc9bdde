"""The agent's operations on contents: what is there, what arrives, what is fetched."""

import os
import queue
import threading
from typing import Any, Callable, Dict, List, Optional, Tuple, Union

from ..standins.returned_files import store_id
from ..store.store import Incoming, Store, checked_name, note_needed
from ..store.uploads import ArrivingChunk, Uploads
from ..wire import protocol, trees
from ..wire.chunks import CHUNK_BYTES, ChunkList, of_file, read_fully
from ..wire.failures import Failure
from ..wire.files import open_regular
from ..wire.frames import Message
from ..wire.protocol import Attached, answering, on, on_attached
from .retention import Retention, end_run
from .workdir import WorkDir, expand, plain_name

# Names of items in a reply about usage: the largest of each kind.
_MOST_ITEMS = 1000


class StoreOperations:
    """Contents on their way into the store, and out of it.

    Args:
        work_dir: Gives the work directory, once there is one.
    """

    def __init__(self, work_dir: Callable[[], WorkDir]) -> None:
        self._work_dir = work_dir
        self._uploads = Uploads()
        self.acts = [
            answering(protocol.describe, self._describe),
            on(protocol.have, self._have),
            on_attached(protocol.put, self._put),
            answering(protocol.read, self._read),
            on(protocol.store_prune, self._prune),
            on(protocol.store_usage, self._usage),
            on(protocol.upload_begin, self._begin),
            on_attached(protocol.upload_chunk, self._chunk),
            on(protocol.upload_end, self._end),
            on(protocol.upload_finish, self._finish),
            on(protocol.upload_offer, self._offer),
        ]
        self._turns: "queue.Queue[Callable[[], None]]" = queue.Queue()
        self._taking_turns: Optional[threading.Thread] = None

    @property
    def _store(self) -> Store:
        return self._work_dir().store

    def store_id(self) -> str:
        """Return the store's id."""
        return store_id(self._store)

    def take_turn(self, step: Callable[[], None]) -> None:
        """Run a step after those that came before it."""
        if self._taking_turns is None:
            self._taking_turns = threading.Thread(
                target=self._take_turns, name="clustrix-store", daemon=True
            )
            self._taking_turns.start()
        self._turns.put(step)

    def _take_turns(self) -> None:
        while True:
            self._turns.get()()

    def open_sink(self, message: Message) -> Union[Incoming, ArrivingChunk, None]:
        """Return the place in the store for what comes in one large piece, as it is."""
        if message.get("op") == "put":
            return self._store.incoming(message["sha"])
        if message.get("op") == "upload_chunk" and not message["compressed"]:
            return ArrivingChunk(
                self._uploads, message["token"], message["index"], message["digest"]
            )
        return None

    def close_run(self, run: str) -> None:
        """A run has ended."""
        end_run(self._work_dir(), run)

    # --- what is here, and what is needed ---------------------------------------------------

    def _have(
        self, *, blobs: List[str], folders: Optional[List[str]] = None, run: Optional[str] = None
    ) -> protocol.Missing:
        names = list(map(checked_name, blobs))
        inside = {name: self._files_of(name) for name in folders or ()}
        if run is not None:
            self._work_dir().restore(run)
            every = names + [name for files in inside.values() for name in files]
            note_needed(self._work_dir().run(run), every)
        missing = set(self._store.missing(names))
        # A folder of which a file is missing has to be made again as a whole.
        missing.update(name for name, files in inside.items() if self._store.missing(files))
        return {"missing": sorted(missing)}

    def _files_of(self, folder: str) -> List[str]:
        """Return the contents of the files of a folder, if it is here."""
        try:
            with open(self._store.file(folder), "rb") as file:
                entries = trees.parse(file.read())
        except FileNotFoundError:
            return []
        return [checked_name(entry[3]) for entry in entries if entry[0] == trees.FILE]

    def _usage(self) -> protocol.Usage:
        items = Retention(self._work_dir()).usage()
        kinds: Dict[str, Dict[str, Any]] = {}
        for item in items:
            kind = kinds.setdefault(
                item.kind, {"count": 0, "size": 0, "oldest": item.used, "needed": 0}
            )
            kind["count"] += 1
            kind["size"] += item.size
            kind["oldest"] = min(kind["oldest"], item.used)
            kind["needed"] += item.needed
        items.sort(key=lambda item: -item.size)
        return {
            "kinds": kinds,
            "items": [item.facts() for item in items[:_MOST_ITEMS]],
            "free_bytes": self._work_dir().free_bytes(),
        }

    def _prune(self, *, seconds: float) -> protocol.Pruned:
        gone = Retention(self._work_dir()).prune(seconds)
        return {
            "count": len(gone),
            "size": sum(item.size for item in gone),
            "items": [item.facts() for item in gone[:_MOST_ITEMS]],
        }

    # --- towards the store ------------------------------------------------------------------

    def _put(self, attached: Attached, *, sha: str, size: int) -> protocol.Nothing:
        if attached.is_placed:
            failure = attached.body
        else:
            incoming = self._store.incoming(sha)
            incoming.write(attached.body)
            failure = incoming.finish()
        if failure is not None:
            raise failure
        return {}

    def _begin(self, *, token: str, size: int) -> protocol.Left:
        return {"left": self._uploads.begin(self._store, token, size)}

    def _offer(self, *, token: str, first: int, digests: List[str]) -> protocol.MissingChunks:
        return {"missing": self._uploads.get(token).offer(first, digests)}

    def _chunk(
        self, attached: Attached, *, token: str, index: int, digest: str, compressed: bool
    ) -> protocol.Nothing:
        if not attached.is_placed or compressed:
            self._uploads.get(token).write(index, digest, attached.body, compressed)
        elif attached.body is not None:
            raise attached.body
        return {}

    def _finish(self, *, token: str, name: str, executable: bool) -> protocol.Nothing:
        self._uploads.finish(token, name, executable)
        return {}

    def _end(self, *, token: str, keep: bool) -> protocol.Nothing:
        self._uploads.end(token, keep)
        return {}

    # --- from here --------------------------------------------------------------------------

    def _describe(
        self,
        *,
        content: Optional[str] = None,
        path: Optional[str] = None,
        folder: Optional[str] = None,
    ) -> Tuple[protocol.Description, bytes]:
        if folder is not None:
            return {}, trees.describe(_entries(expand(folder)))
        chunks = self._store.chunks(content) if content else of_file(expand(path or ""))
        return {"size": chunks.size, "name": chunks.name}, _text(chunks)

    def _read(
        self,
        *,
        offset: int,
        size: int,
        content: Optional[str] = None,
        path: Optional[str] = None,
        run: Optional[str] = None,
        call: Optional[str] = None,
    ) -> Tuple[protocol.Nothing, bytes]:
        if content is not None:
            file = self._store.file(content)
        elif call is not None:
            file = self._result_file(run or "", call)
        else:
            file = os.path.realpath(expand(path or ""))
        descriptor = open_regular(file)
        try:
            return {}, read_fully(descriptor, min(size, CHUNK_BYTES), offset)
        finally:
            os.close(descriptor)

    def _result_file(self, run: str, call: str) -> str:
        for batch in self._work_dir().batches(run):
            path = batch.result_file(plain_name(call))
            if os.path.exists(path):
                return path
        raise Failure("NotFound", "there is no result of call {} any more".format(call))


def _entries(folder: str) -> List[trees.Entry]:
    """What is in a folder anywhere on this host, its files without the names of their contents."""
    entries: List[trees.Entry] = []
    for kind, inside, source in trees.scan(folder):
        if kind == trees.FILE:
            size, executable = os.stat(source).st_size, os.access(source, os.X_OK)
            entries.append([kind, inside, size, "", executable])
        else:
            entries.append([kind, inside] + ([source] if kind == trees.LINK else []))
    return entries


def _text(chunks: ChunkList) -> bytes:
    return "\n".join(chunks.digests).encode("ascii")

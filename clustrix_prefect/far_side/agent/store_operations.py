"""The agent's operations on contents: what is there, what arrives, what is fetched."""

import os
import queue
import threading
from typing import Any, Callable, Dict, List, Optional, Tuple, Union

from ..standins.returned_files import store_id
from ..store.store import Incoming, Store, checked_name, note_needed
from ..store.uploads import ArrivingChunk, Uploads
from ..wire import trees
from ..wire.chunks import CHUNK_BYTES, ChunkList, of_file, read_fully
from ..wire.failures import Failure
from ..wire.files import open_regular
from ..wire.frames import Message
from .retention import Retention, end_run
from .workdir import WorkDir, expand, plain_name

Act = Callable[[Message, Any], Any]
# Names of items in a reply about usage: the largest of each kind.
_MOST_ITEMS = 1000


class Exchange:
    """Contents on their way into the store, and out of it.

    Args:
        work_dir: Gives the work directory, once there is one.
    """

    def __init__(self, work_dir: Callable[[], WorkDir]) -> None:
        self._work_dir = work_dir
        self._uploads = Uploads()
        # Answered in the order of arrival, on the reading thread.
        self.in_order: Dict[str, Act] = {"have": self._have, "put": self._put}
        # One after another, while reading goes on.
        self.in_turn: Dict[str, Act] = {
            "upload_chunk": self._chunk,
            "upload_end": self._end,
            "upload_finish": self._finish,
        }
        self.aside: Dict[str, Act] = {
            "describe": self._describe,
            "read": self._read,
            "store_prune": self._prune,
            "store_usage": self._usage,
            "upload_begin": self._begin,
            "upload_offer": self._offer,
        }
        self._turns: "queue.Queue[Callable[[], None]]" = queue.Queue()
        self._taking_turns: Optional[threading.Thread] = None

    @property
    def _store(self) -> Store:
        return self._work_dir().store

    def facts(self) -> Dict[str, Any]:
        """What the client is told of the store."""
        return {"store": store_id(self._store)}

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
        """What comes in one large piece, as it is, goes to the store while it arrives."""
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

    def _have(self, message: Message, body: Any) -> Message:
        names = list(map(checked_name, message["blobs"]))
        inside = {name: self._files_of(name) for name in message.get("folders") or ()}
        if message.get("run") is not None:
            self._work_dir().restore(message["run"])
            every = names + [name for files in inside.values() for name in files]
            note_needed(self._work_dir().run(message["run"]), every)
        missing = set(self._store.missing(names))
        # A folder of which a file is missing has to be made again as a whole.
        missing.update(name for name, files in inside.items() if self._store.missing(files))
        return {"missing": sorted(missing)}

    def _files_of(self, folder: str) -> List[str]:
        """The contents of the files of a folder, if it is here."""
        try:
            with open(self._store.file(folder), "rb") as file:
                entries = trees.parse(file.read())
        except FileNotFoundError:
            return []
        return [checked_name(entry[3]) for entry in entries if entry[0] == trees.FILE]

    def _usage(self, message: Message, body: Any) -> Message:
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

    def _prune(self, message: Message, body: Any) -> Message:
        gone = Retention(self._work_dir()).prune(float(message["seconds"]))
        return {
            "count": len(gone),
            "size": sum(item.size for item in gone),
            "items": [item.facts() for item in gone[:_MOST_ITEMS]],
        }

    # --- towards the store ------------------------------------------------------------------

    def _put(self, message: Message, body: Any) -> None:
        if "stream" in message:
            failure = body
        else:
            incoming = self._store.incoming(message["sha"])
            incoming.write(body)
            failure = incoming.finish()
        if failure is not None:
            raise failure

    def _begin(self, message: Message, body: Any) -> Message:
        left = self._uploads.begin(self._store, message["token"], int(message["size"]))
        return {"left": left}

    def _offer(self, message: Message, body: Any) -> Message:
        upload = self._uploads.get(message["token"])
        return {"missing": upload.offer(message["first"], message["digests"])}

    def _chunk(self, message: Message, body: Any) -> None:
        if "stream" in message and not message["compressed"]:
            if body is not None:
                raise body
            return
        upload = self._uploads.get(message["token"])
        upload.write(message["index"], message["digest"], body, message["compressed"])

    def _finish(self, message: Message, body: Any) -> None:
        self._uploads.finish(message["token"], message["name"], bool(message["executable"]))

    def _end(self, message: Message, body: Any) -> None:
        self._uploads.end(message["token"], bool(message["keep"]))

    # --- from here --------------------------------------------------------------------------

    def _describe(self, message: Message, body: Any) -> Tuple[Message, bytes]:
        """The chunk list of a content, or of a file anywhere on this host; what a folder holds."""
        if "folder" in message:
            return {}, trees.describe(_entries(expand(message["folder"])))
        if "content" in message:
            chunks = self._store.chunks(message["content"])
        else:
            chunks = of_file(expand(message["path"]))
        return {"size": chunks.size, "name": chunks.name}, _text(chunks)

    def _read(self, message: Message, body: Any) -> Tuple[Message, bytes]:
        """A piece of a content, of a result, or of a file anywhere on this host."""
        if "content" in message:
            path = self._store.file(message["content"])
        elif "call" in message:
            path = self._result_file(message["run"], message["call"])
        else:
            path = expand(message["path"])
        size = min(int(message["size"]), CHUNK_BYTES)
        descriptor = open_regular(os.path.realpath(path) if "path" in message else path)
        try:
            return {}, read_fully(descriptor, size, int(message["offset"]))
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

# mypy: disable-error-code="empty-body"
"""What the client may ask of the agent, what the agent answers, and what it tells unasked.

Each operation stands here once, as a function: its name and parameters are the request, what it
returns is the answer. The client calls it to make a request (`Request`), the agent has a function
of the same parameters do it (`Handlers`), and mypy checks both.

A request travels as `{"op", "id", ...}`; it is answered by `{"re": id, "ok"}` or by
`{"re": id, "error": {"type", "message"}}`. Without an id there is no answer, and what goes wrong is
told as a `refused` event. What happens without being asked for is an event, `{"event", ...}`.
Bytes may go with any message (`frames`).

`docs/develop/protocol.md` is made of this file.
"""

from typing import Any, Callable, Dict, List, Optional, Tuple

from .frames import Message

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Concatenate, Generic, ParamSpec, TypedDict, TypeVar

    P = ParamSpec("P")
    A = TypeVar("A")
else:
    # Python 3.6 has none of these, and nothing here is looked at while it runs.
    class TypedDict(dict):
        """A dictionary with the keys that its annotations name."""

        def __init_subclass__(cls, total=True, **options):
            super().__init_subclass__(**options)
            cls.__total__ = total

    class _Subscribed:
        def __getitem__(self, parameters):
            return object

    Generic = _Subscribed()
    P = A = None

VERSION = 1
"""Of this protocol. Both ends are of one version, as the client sends the agent's program."""

# How the agent does an operation.
IN_ORDER = "in order"
"""On the thread that reads, so that it is done before what comes after it: it must be quick."""
IN_TURN = "in turn"
"""One after another, while reading goes on."""
ASIDE = "aside"
"""On a thread of its own."""


class Request(Generic[A]):
    """An operation with what it is asked for.

    Attributes:
        op: The operation's name.
        fields: Its parameters that were given.
    """

    def __init__(self, op: str, fields: Dict[str, Any]) -> None:
        self.op = op
        self.fields = fields


class Operation(Generic[P, A]):
    """One thing that the agent does.

    Attributes:
        name: Its name.
        order: When it is done: `IN_ORDER`, `IN_TURN` or `ASIDE`.
        function: What it takes and returns.
        parameters: The names of its parameters.
    """

    def __init__(self, function: "Callable[P, A]", order: str) -> None:
        self.name = function.__name__
        self.order = order
        self.function = function
        code = function.__code__
        self.parameters = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]

    def __call__(self, *args: "P.args", **fields: "P.kwargs") -> "Request[A]":
        return Request(self.name, dict(fields))


OPERATIONS: "Dict[str, Operation[Any, Any]]" = {}


def _operation(order: str) -> "Callable[[Callable[P, A]], Operation[P, A]]":
    def define(function: "Callable[P, A]") -> "Operation[P, A]":
        made = Operation(function, order)
        OPERATIONS[made.name] = made
        return made

    return define


# --- the agent's end ----------------------------------------------------------------------------

Act = Callable[[Message, Any], Any]


class Attached:
    """The bytes that came with a request.

    Attributes:
        body: They themselves; of what went to its place while it came, how that ended: None, or the
            exception.
        is_placed: Whether it went to its place while it came.
    """

    def __init__(self, body: Any, is_placed: bool) -> None:
        self.body = body
        self.is_placed = is_placed


def on(operation: "Operation[P, A]", act: "Callable[P, A]") -> "Tuple[str, Act]":
    """Have a function do an operation."""
    do: Any = act
    return operation.name, lambda message, body: do(**_fields_of(operation, message))


def on_attached(
    operation: "Operation[P, A]", act: "Callable[Concatenate[Attached, P], A]"
) -> "Tuple[str, Act]":
    """Have a function do an operation, with the bytes that came with the request."""
    do: Any = act

    def take(message: Message, body: Any) -> Any:
        return do(Attached(body, "stream" in message), **_fields_of(operation, message))

    return operation.name, take


def on_numbered(
    operation: "Operation[P, A]", act: "Callable[Concatenate[int, P], A]"
) -> "Tuple[str, Act]":
    """Have a function do an operation, with the number of the request."""
    do: Any = act
    return operation.name, lambda message, body: do(message["id"], **_fields_of(operation, message))


def answering(
    operation: "Operation[P, A]", act: "Callable[P, Tuple[A, bytes]]"
) -> "Tuple[str, Act]":
    """Have a function do an operation that is answered with bytes, too."""
    do: Any = act
    return operation.name, lambda message, body: do(**_fields_of(operation, message))


_ENVELOPE = ("op", "id", "stream")


def _fields_of(operation: "Operation[Any, Any]", message: Message) -> Dict[str, Any]:
    fields = {name: value for name, value in message.items() if name not in _ENVELOPE}
    if "stream" in message and "size" not in operation.parameters:
        fields.pop("size", None)  # of the bytes that came with it
    return fields


# --- what answers consist of --------------------------------------------------------------------


class Configured(TypedDict):
    """The work directory, once it is in use."""

    work_dir: str
    free_bytes: int
    far_side: str
    store: str


class Time(TypedDict):
    """The time by the agent's clock, in seconds since 1970."""

    time: float


class Interpreter(TypedDict):
    """An interpreter: its path, and its version as three numbers."""

    path: str
    version: List[int]


class Interpreters(TypedDict):
    """Interpreters that were found, and the one to use, if any will do."""

    found: List[Interpreter]
    chosen: Optional[Interpreter]


class AllInterpreters(TypedDict):
    """Every interpreter that was found, the newest first."""

    found: List[Interpreter]


class CondaEnvironment(TypedDict):
    """A conda environment, the lines that activate it, and the environments there are."""

    prefix: Optional[str]
    prologue: List[str]
    known: List[str]


class InterpreterFacts(TypedDict):
    """What an interpreter lacks of what it was asked for, and what it has."""

    missing: List[str]
    versions: Dict[str, str]
    errors: List[Dict[str, Any]]
    python: Dict[str, Any]


class Ended(TypedDict):
    """How a command ended: 127 if it is not there, 124 if it took too long."""

    returncode: int
    stdout: str
    stderr: str


class Submission(Ended, total=False):
    """How the command that submits ended, and the directory of the batch."""

    directory: str


class BuildBegun(TypedDict, total=False):
    """Whether a build began; of one in a job, what the command that submits it said."""

    begun: bool
    returncode: int
    stdout: str
    stderr: str


class BuildState(TypedDict, total=False):
    """An environment: "ready" with its `python`, "building", "failed" with why, or "absent"."""

    state: str
    python: str
    token: str
    host: str
    failure: str
    lines: List[str]
    offset: int


class RunOpened(TypedDict):
    """The calls of a flow run that there is anything of, and those whose outcome was had.

    Each known call has its `batch`, its `state` ("queued", "started", "finished", "lost"), its
    `index` among the `elements` of the batch's job, the `job` or what the command that submitted
    it printed (`submit_output`), and its `task`.
    """

    known: Dict[str, Dict[str, Any]]
    acknowledged: List[str]


class Present(TypedDict):
    """For each call, whether it has "started" or "finished"; nothing if there is no sign of it."""

    present: Dict[str, str]


class Diagnosis(TypedDict, total=False):
    """What is to be seen of a call: how far it has come, its outputs' ends, its job's script."""

    present: str
    stderr_tail: str
    stdout_tail: str
    script: str
    directory: str


class Diagnoses(TypedDict):
    """What is to be seen of calls, for those of which there is anything."""

    calls: Dict[str, Diagnosis]


class Jobs(TypedDict):
    """Batches that were submitted: `run`, `batch`, `job`, `flow`, `flow_run`, `task`, `calls`."""

    jobs: List[Dict[str, Any]]


class LogPiece(TypedDict):
    """What was added to a call's outputs and log, and how far that goes."""

    out: str
    err: str
    lines: List[List[Any]]
    at: Dict[str, int]


class Missing(TypedDict):
    """The names of blobs that are to be sent."""

    missing: List[str]


class MissingChunks(TypedDict):
    """The numbers of the chunks that are to be sent."""

    missing: List[int]


class Left(TypedDict):
    """How many bytes an earlier attempt left."""

    left: int


class Description(TypedDict, total=False):
    """The size and the name of a content; its digests, or a folder's list, come with it."""

    size: int
    name: str


class Usage(TypedDict):
    """What lies in the work directory: by kind, the largest items, and the room that is left."""

    kinds: Dict[str, Dict[str, Any]]
    items: List[Dict[str, Any]]
    free_bytes: int


class Pruned(TypedDict):
    """What was removed."""

    count: int
    size: int
    items: List[Dict[str, Any]]


class Nothing(TypedDict):
    """Nothing but that it is done."""


# --- the host -------------------------------------------------------------------------------------


@_operation(IN_ORDER)
def ping() -> Time:
    """Tell the time."""


@_operation(ASIDE)
def configure(
    *,
    work_dir: Optional[str] = None,
    alone: bool = False,
    prologue: Optional[List[str]] = None,
    hold_above: float = float("inf"),
    worker_grace: Optional[float] = None,
) -> Configured:
    """Use a work directory, in which the program is installed; it comes before all that needs one.

    Args:
        work_dir: Its path; None for the usual one.
        alone: Whether it is on a disk that no other host has.
        prologue: Lines of a shell after which commands are found.
        hold_above: Larger results wait until they are fetched, bytes.
        worker_grace: How long a warm worker has to end, seconds.
    """


@_operation(ASIDE)
def find_python(
    *, python: Optional[str] = None, prefer: List[int], prologue: Optional[List[str]] = None
) -> Interpreters:
    """Find the interpreter that calls should run under.

    Args:
        python: The one asked for, by name or path; then no other will do.
        prefer: The minor version that is wanted, as `[3, 11]`.
        prologue: Lines that may bring an interpreter with them.
    """


@_operation(ASIDE)
def find_pythons(*, prologue: Optional[List[str]] = None) -> AllInterpreters:
    """Find every interpreter."""


@_operation(ASIDE)
def find_conda(*, name: str, prologue: Optional[List[str]] = None) -> CondaEnvironment:
    """Find a conda environment, by its name or path."""


@_operation(ASIDE)
def probe(
    *,
    python: str,
    prologue: Optional[List[str]] = None,
    environment: Optional[Dict[str, str]] = None,
    question: Dict[str, Any],
) -> InterpreterFacts:
    """Ask an interpreter what it has.

    Args:
        python: Its path.
        prologue: Lines of a shell that go before it, as before a worker.
        environment: Variables.
        question: `modules`; `names` of the standard library; `distributions`; `sources`, each the
            file, its line and the text.
    """


@_operation(ASIDE)
def command(*, argv: List[str], timeout: Optional[float] = None) -> Ended:
    """Run a command, without a shell.

    Args:
        argv: Its words.
        timeout: How long it may take, seconds.
    """


@_operation(IN_ORDER)
def poll_status(
    *, command: Optional[List[str]] = None, interval_min: float = 1.0, interval_max: float = 30.0
) -> Nothing:
    """Run a command again and again while jobs are unfinished; what it says is a `status` event.

    Args:
        command: Its words; None to stop.
        interval_min: Seconds between two, while something happens.
        interval_max: Seconds between two, when nothing does.
    """


# --- environments ---------------------------------------------------------------------------------


@_operation(ASIDE)
def environment(*, name: str, token: Optional[str] = None, offset: int, wait: float) -> BuildState:
    """Tell how far an environment is.

    Args:
        name: Its name.
        token: The build that is followed.
        offset: How much of the build's output is known, bytes.
        wait: How long to wait for news, seconds.
    """


@_operation(ASIDE)
def build_environment(
    *,
    name: str,
    token: str,
    python: str,
    prologue: Optional[List[str]] = None,
    environment: Optional[Dict[str, str]] = None,
    recipe: Dict[str, Any],
    script: Optional[str] = None,
    command: Optional[List[str]] = None,
) -> BuildBegun:
    """Build an environment, beside the agent or in a job, unless somebody is at it.

    Args:
        name: Its name.
        token: Names the build.
        python: The interpreter that builds.
        prologue: Lines of a shell that go before it.
        environment: Variables.
        recipe: `python`, `requirements`, `constraints`, `wheels` and `uv` as names of blobs, and
            `use_uv`.
        script: The job's script.
        command: The words that submit it; "{script}" stands for the script's path.
    """


@_operation(ASIDE)
def abandon_build(*, name: str, token: str, reason: str) -> Nothing:
    """Note that a build is over that could not say so itself."""


# --- calls ----------------------------------------------------------------------------------------


@_operation(ASIDE)
def open_run(*, run: str, client: Optional[str] = None) -> RunOpened:
    """Take up a flow run, and end the agent that served the same client before.

    Args:
        run: The flow run's directory.
        client: Names the client, over all its connections.
    """


@_operation(ASIDE)
def close_run(*, run: str, keep: bool = False) -> Nothing:
    """End a flow run: its warm workers stop and, unless they are kept, its files go."""


@_operation(IN_ORDER)
def run(
    *,
    run: str,
    pool: Dict[str, Any],
    calls: Optional[List[Dict[str, Any]]] = None,
    calls_attached: bool = False,
) -> Nothing:
    """Have warm workers run calls.

    Args:
        run: The flow run's directory.
        pool: `python`, `prologue`, `environment`, `max_workers` and `cwd` of the workers.
        calls: The calls (`signing` says what of them is signed).
        calls_attached: Whether they came with the request instead, as compressed JSON.
    """


@_operation(ASIDE)
def submit(
    *,
    run: str,
    batch: str,
    script: str,
    command: List[str],
    calls: Optional[List[Dict[str, Any]]] = None,
    calls_attached: bool = False,
) -> Submission:
    """Write a batch of calls and submit it as a job.

    Args:
        run: The flow run's directory.
        batch: The batch's.
        script: The job's script.
        command: The words that submit it.
        calls: The calls.
        calls_attached: Whether they came with the request instead, as compressed JSON.
    """


@_operation(IN_ORDER)
def submitted(*, run: str, batch: str, job: str) -> Nothing:
    """Write down the job of a batch."""


@_operation(ASIDE)
def discard(*, run: str, batch: str) -> Nothing:
    """Remove a batch that was not submitted."""


@_operation(IN_ORDER)
def attach(*, run: str, calls: List[str], heard: Optional[Dict[str, int]] = None) -> Nothing:
    """Tell from here on what becomes of calls that an earlier agent left.

    Args:
        run: The flow run's directory.
        calls: Their ids.
        heard: How many lines of their logs are known.
    """


@_operation(IN_ORDER)
def had(*, run: str, calls: List[str]) -> Nothing:
    """Tell nothing of calls whose outcome was had."""


@_operation(IN_ORDER)
def ack(*, run: str, calls: List[str], keep: bool = False) -> Nothing:
    """Let go of calls that are over; their files go unless they are kept."""


@_operation(IN_ORDER)
def cancel(*, run: str, calls: List[str]) -> Nothing:
    """Stop calls in warm workers."""


@_operation(ASIDE)
def look(*, run: str, calls: List[str]) -> Present:
    """Look at the files of calls now."""


@_operation(ASIDE)
def diagnose(*, run: str, calls: List[str]) -> Diagnoses:
    """Tell what is to be seen of calls."""


@_operation(ASIDE)
def list_jobs(*, named: List[str]) -> Jobs:
    """List the batches that were submitted as jobs.

    Args:
        named: Names of calls: those of the batches that have them are told.
    """


@_operation(ASIDE)
def read_log(
    *,
    run: str,
    batch: str,
    index: int,
    call: Optional[str] = None,
    at: Dict[str, int],
    to_end: bool,
) -> LogPiece:
    """Read on in the outputs of one element of an array, and in the log of one call.

    Args:
        run: The flow run's directory.
        batch: The batch's.
        index: The element, counted from 0.
        call: The call's id.
        at: How far was read, by output, bytes.
        to_end: Whether a last line without an end is taken.
    """


# --- the store ------------------------------------------------------------------------------------


@_operation(IN_ORDER)
def have(
    *, blobs: List[str], folders: Optional[List[str]] = None, run: Optional[str] = None
) -> Missing:
    """Tell which blobs are missing; a flow run keeps those that are there.

    Args:
        blobs: Their names, SHA-256 in hexadecimal.
        folders: Those of them that list the files of a folder, which must be there, too.
        run: The flow run's directory.
    """


@_operation(IN_ORDER)
def put(*, sha: str, size: int) -> Nothing:
    """Store the blob that comes with the request."""


@_operation(ASIDE)
def upload_begin(*, token: str, size: int) -> Left:
    """Begin to take a content chunk by chunk, or go on with it."""


@_operation(ASIDE)
def upload_offer(*, token: str, first: int, digests: List[str]) -> MissingChunks:
    """Tell which of these chunks are missing.

    Args:
        token: Names the upload.
        first: The number of the first.
        digests: Their digests.
    """


@_operation(IN_TURN)
def upload_chunk(*, token: str, index: int, digest: str, compressed: bool) -> Nothing:
    """Take the chunk that comes with the request."""


@_operation(IN_TURN)
def upload_finish(*, token: str, name: str, executable: bool) -> Nothing:
    """Store the content under its name."""


@_operation(IN_TURN)
def upload_end(*, token: str, keep: bool) -> Nothing:
    """Give up taking a content; what arrived stays for another attempt, or goes."""


@_operation(ASIDE)
def describe(
    *, content: Optional[str] = None, path: Optional[str] = None, folder: Optional[str] = None
) -> Description:
    """Describe a content of the store, or a file or folder anywhere on the host."""


@_operation(ASIDE)
def read(
    *,
    offset: int,
    size: int,
    content: Optional[str] = None,
    path: Optional[str] = None,
    run: Optional[str] = None,
    call: Optional[str] = None,
) -> Nothing:
    """Read a piece of a content, of a file anywhere on the host, or of a call's result."""


@_operation(ASIDE)
def store_usage() -> Usage:
    """Tell what lies in the work directory."""


@_operation(ASIDE)
def store_prune(*, seconds: float) -> Pruned:
    """Remove what was not used for so long and what no unfinished run needs."""


# --- files ----------------------------------------------------------------------------------------
# Paths are text, in which bytes that are not UTF-8 are lone surrogates; `~` stands for the home.


class Failed(TypedDict, total=False):
    """What stood in the way, so that the client can raise the very same: {"failed": {...}}."""

    type: str
    text: str
    errno: int
    strerror: str
    filename: str
    filename2: str


class FileAnswer(TypedDict, total=False):
    """What operations on files may answer instead of what they would."""

    failed: Failed


class QuestionAnswer(FileAnswer, total=False):
    """The answer to a question, or how many names come with it; and what was left out."""

    answer: Any
    names: int
    skipped: str


class Info(FileAnswer, total=False):
    """What is known of a path."""

    size: int
    type: str
    created: float
    islink: bool
    mode: int
    uid: int
    gid: int
    mtime: float
    ino: int
    nlink: int
    destination: str


class IsLink(FileAnswer, total=False):
    """Whether a path is a link."""

    islink: bool


class ListingAnswer(FileAnswer, total=False):
    """Of a file what is known of it; the entries of a directory come with the answer."""

    info: Info


class Space(FileAnswer, total=False):
    """The room on a file system, in bytes and in files."""

    total: int
    free: int
    available: int
    files: int
    files_available: int


class QuotaAnswer(FileAnswer, total=False):
    """How the quota command ended, and which it was."""

    command: List[str]
    returncode: int
    stdout: str
    stderr: str


class FilePiece(FileAnswer, total=False):
    """Which bytes of a file came, of how many, and which file it is (`identity`).

    Attributes:
        more: Whether a file goes on after what it says it has, as those of /proc do.
    """

    size: int
    start: int
    end: int
    more: bool
    identity: List[int]


class Written(FileAnswer, total=False):
    """A file's size now; of one that is replaced at the end, the draft and what it replaces."""

    size: int
    draft: str
    target: str


@_operation(ASIDE)
def fs_ask(*, question: str, arguments: List[str], start: Optional[str] = None) -> QuestionAnswer:
    """Answer a question of the `cluster_*` functions (`file_queries`).

    Args:
        question: Its name.
        arguments: Its pattern, if it has one, and the path.
        start: Where relative paths begin; None: in the home.
    """


@_operation(ASIDE)
def fs_info(*, path: str) -> Info:
    """Tell what is known of a path; of a link, of where it leads."""


@_operation(ASIDE)
def fs_islink(*, path: str) -> IsLink:
    """Tell whether a path is a link."""


@_operation(ASIDE)
def fs_ls(*, path: str, detail: bool = False) -> ListingAnswer:
    """List a directory."""


@_operation(ASIDE)
def fs_space(*, path: str) -> Space:
    """Tell the room on the file system of a path."""


@_operation(ASIDE)
def fs_quota(*, path: str, seconds: float) -> QuotaAnswer:
    """Ask for the account's quota on the file system of a path, for so many seconds at most."""


@_operation(ASIDE)
def fs_walk(*, path: str, maxdepth: Optional[int] = None, detail: bool = False) -> FileAnswer:
    """List everything below a directory, in parts that come before the answer."""


@_operation(IN_ORDER)
def fs_more(*, listing: int, parts: int) -> Nothing:
    """Let a listing go on for so many parts."""


@_operation(IN_ORDER)
def fs_stop(*, listing: int) -> Nothing:
    """End a listing."""


@_operation(ASIDE)
def fs_read(*, path: str, start: Optional[int] = None, end: Optional[int] = None) -> FilePiece:
    """Read bytes of a file; places are counted from its end if they are negative."""


@_operation(ASIDE)
def fs_write(
    *,
    path: str,
    how: Optional[str] = None,
    offset: int = 0,
    parents: bool = False,
    whole: bool = False,
    source: Optional[List[int]] = None,
) -> Written:
    """Write the bytes that come with the request.

    Args:
        path: The file.
        how: "truncate", "exclusive", "append" or "replace"; None: into the file that is there.
        offset: Where.
        parents: Whether to make the directories above it.
        whole: Whether this is all of it.
        source: Which file the bytes are of, so that none is written over itself.
    """


@_operation(ASIDE)
def fs_touch(*, path: str, truncate: bool = False, parents: bool = False) -> FileAnswer:
    """Make a file, or note that it was written to."""


@_operation(ASIDE)
def fs_mkdir(*, path: str, parents: bool = False, exist_ok: bool = False) -> FileAnswer:
    """Make a directory."""


@_operation(ASIDE)
def fs_rmdir(*, path: str) -> FileAnswer:
    """Remove an empty directory."""


@_operation(ASIDE)
def fs_rm(*, path: str) -> FileAnswer:
    """Remove a file."""


@_operation(ASIDE)
def fs_remove(*, paths: List[str], recursive: bool = False) -> FileAnswer:
    """Remove files, and directories with all that is in them if `recursive` says so."""


@_operation(ASIDE)
def fs_move(*, path: str, to: str, parents: bool = False) -> FileAnswer:
    """Move a file or a directory, also to another file system."""


@_operation(ASIDE)
def fs_replace(*, path: str, to: str) -> FileAnswer:
    """Rename a file, in place of what is there."""


@_operation(ASIDE)
def fs_copy(*, path: str, to: str, parents: bool = False) -> FileAnswer:
    """Copy a file; of a directory, make one."""


@_operation(ASIDE)
def fs_link(*, path: str, to: str, symbolic: bool = False) -> FileAnswer:
    """Make a link at `to`."""


@_operation(ASIDE)
def fs_chmod(*, path: str, mode: int) -> FileAnswer:
    """Set the permissions of a file."""


# --- events ---------------------------------------------------------------------------------------


class Hello(TypedDict):
    """The first event: what the agent is, and where."""

    event: str
    protocol: int
    python: List[int]
    executable: str
    host: str
    user: str
    uid: int
    home: str
    pid: int
    time: float
    cpus: int


class Started(TypedDict):
    """A call began, at this time of its host's clock.

    A call that is over at once may have a `result` alone, whose header tells of its start.
    """

    event: str
    call: str
    time: float
    host: str
    pid: int
    job: Optional[str]


class Log(TypedDict):
    """A call logged or printed: each line with its time, level, logger and text."""

    event: str
    call: str
    lines: List[Any]


class Result(TypedDict, total=False):
    """A call has its outcome; its body comes along, or waits until it is fetched."""

    event: str
    call: str
    header: Dict[str, Any]
    fetch_from: int
    fetch_size: int


class WorkerDied(TypedDict, total=False):
    """The warm worker that had a call ended without a result."""

    event: str
    call: str
    returncode: Optional[int]
    stderr_tail: str
    started: bool
    out_of_memory: bool
    peak_memory: Optional[int]


class Cancelled(TypedDict):
    """A call was stopped, as was asked for."""

    event: str
    call: str


class Status(Ended):
    """What the status command said, which it had not said before."""

    event: str


class Refused(TypedDict):
    """What went wrong with a request that has no answer."""

    event: str
    op: str
    error: Dict[str, str]


EVENTS: "Dict[str, Any]" = {
    "hello": Hello,
    "started": Started,
    "log": Log,
    "result": Result,
    "worker_died": WorkerDied,
    "cancelled": Cancelled,
    "status": Status,
    "refused": Refused,
}
"""What the agent tells without being asked; besides `ping`, which says that it is there."""
